/** Values as traders write them: 2.4M, +12.3 %, 09:31:05. Digits are for tabular figures: one style has one number of decimals. */

import type { Row, Value } from "../stream/types";

export type Tone = "up" | "down" | "";
export type Format = (value: Value | undefined, row: Row) => string;

const MINUS = "\u2212";
const THIN_SPACE = "\u202f";

/** Names as `unit` and `type` of /api/v1/scanner/fields. */
export interface Field {
  name: string;
  type: string;
  unit: string;
  meaning: string;
  values: string[];
}

function isNumber(value: Value | undefined): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function text(value: Value | undefined): string {
  return value === undefined ? "" : String(value);
}

/** Returns "-" as a minus sign, which is as wide as a plus; a value that rounds to 0 has no sign. */
function fixed(value: number, decimals: number, plus = false): string {
  const digits = Math.abs(value).toFixed(decimals);
  if (Number(digits) === 0) return digits;
  return (value < 0 ? MINUS : plus ? "+" : "") + digits;
}

/** USD: two decimals, four below one dollar, as exchanges quote. */
export function price(value: Value | undefined): string {
  if (!isNumber(value)) return "";
  const size = Math.abs(value);
  if (size >= 10_000) return fixed(value, 0).replace(/\B(?=(\d{3})+$)/g, ",");
  return fixed(value, size < 1 && size > 0 ? 4 : 2);
}

/** A difference of prices. */
export function signedPrice(value: Value | undefined): string {
  if (!isNumber(value)) return "";
  const digits = price(value);
  return value > 0 && /[1-9]/.test(digits) ? `+${digits}` : digits;
}

const SCALES: [number, string][] = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "K"],
];

/** Shares, trades and large dollars: 950, 2.4K, 812K, 2.4M, 1.1B. */
export function compact(value: Value | undefined): string {
  if (!isNumber(value)) return "";
  const sign = value < 0 ? MINUS : "";
  const size = Math.abs(value);
  // What rounds up to a thousand of a scale is one of the next: 999,950 is 1.0M.
  for (const [scale, letter] of SCALES) {
    const units = size / scale;
    if (units >= 0.9995) return sign + (units < 99.95 ? units.toFixed(1) : units.toFixed(0)) + letter;
  }
  return sign + size.toFixed(0);
}

export function percent(decimals: number, plus: boolean): Format {
  return (value) => (isNumber(value) ? fixed(value, decimals, plus) + THIN_SPACE + "%" : "");
}

export function ratio(value: Value | undefined): string {
  return isNumber(value) ? fixed(value, 1) + "\u00d7" : "";
}

export function decimal(decimals: number, plus = false): Format {
  return (value) => (isNumber(value) ? fixed(value, decimals, plus) : "");
}

export function count(value: Value | undefined): string {
  return isNumber(value) ? fixed(value, 0) : "";
}

/** A count that is worth a glance only above 0. */
export function someCount(value: Value | undefined): string {
  return value === 0 ? "" : count(value);
}

export function seconds(value: Value | undefined): string {
  if (!isNumber(value)) return "";
  if (value < 60) return `${value.toFixed(0)}${THIN_SPACE}s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60 ? `${minutes}${THIN_SPACE}min` : `${Math.floor(minutes / 60)}${THIN_SPACE}h ${minutes % 60}`;
}

const newYork = new Intl.DateTimeFormat("en-GB", {
  timeZone: "America/New_York",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** The New York time of an RFC 3339 time or of milliseconds since 1970. */
export function timeOfDay(value: Value | undefined): string {
  if (typeof value === "number") return newYork.format(value);
  if (typeof value !== "string") return "";
  const time = Date.parse(value);
  return Number.isNaN(time) ? "" : newYork.format(time);
}

export function yes(value: Value | undefined): string {
  return value === true ? "yes" : "";
}

/** EXTREME as Extreme, PRE_MARKET as Pre market. */
export function words(value: Value | undefined): string {
  const name = text(value).replaceAll("_", " ");
  return name.charAt(0) + name.slice(1).toLowerCase();
}

export function plain(value: Value | undefined): string {
  return text(value);
}

/** Returns how the value's sign is coloured. */
export function signTone(value: Value | undefined): Tone {
  if (!isNumber(value)) return "";
  return value > 0 ? "up" : value < 0 ? "down" : "";
}

/** Returns a format for a field that the page does not know, by what the API says of it. */
export function formatOf(field: Pick<Field, "type" | "unit">): Format {
  if (field.type === "boolean") return yes;
  if (field.type === "enum") return words;
  if (field.type === "time") return timeOfDay;
  if (field.type !== "number") return plain;
  switch (field.unit) {
    case "USD":
      return price;
    case "percent":
      return percent(2, false);
    case "shares":
    case "trades":
      return compact;
    case "ratio":
      return ratio;
    case "seconds":
      return seconds;
    case "sd":
      return decimal(1);
    default:
      return decimal(2);
  }
}

/** The reason codes of the trade-halt feed that traders meet most, in words. */
const HALT_REASONS: Record<string, string> = {
  LUDP: "volatility pause",
  LUDS: "volatility pause, straddle",
  M: "volatility pause",
  T1: "news pending",
  T2: "news released",
  T3: "news and resumption times",
  T5: "single-stock pause",
  T6: "extraordinary activity",
  T8: "ETF halt",
  T12: "information requested",
  H4: "non-compliance",
  H9: "not current in filings",
  H10: "SEC suspension",
  H11: "regulatory concern",
  MWC1: "market-wide, level 1",
  MWC2: "market-wide, level 2",
  MWC3: "market-wide, level 3",
  IPO1: "IPO not yet trading",
};

export function haltReason(code: string): string {
  const words = HALT_REASONS[code];
  return words ? `${code}: ${words}` : code;
}
