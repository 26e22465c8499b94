/** What a trader wants to know of a symbol before the first order, as label and text. */

import type { Row, Value } from "../stream/types";
import { compact, decimal, percent, price, ratio, signedPrice, signTone, type Tone } from "../table/formats";

export interface Fact {
  label: string;
  text: string;
  tone: Tone;
  /** What the number is, where the label is short. */
  about: string;
}

const signed = percent(2, true);
const unsigned = percent(1, false);

function number(row: Row, field: string): number | undefined {
  const value: Value | undefined = row[field];
  return typeof value === "number" ? value : undefined;
}

function fact(label: string, text: string, about: string, tone: Tone = ""): Fact[] {
  // What cannot be known yet is left out, not shown as a dash or 0.
  return text === "" ? [] : [{ label, text, tone, about }];
}

function change(row: Row, label: string, field: string, about: string): Fact[] {
  const value = row[field];
  return fact(label, signed(value, row), about, signTone(value));
}

function quotient(row: Row, of: string, by: string): number | undefined {
  const [a, b] = [number(row, of), number(row, by)];
  return a === undefined || b === undefined || b === 0 ? undefined : a / b;
}

/** Gap and moves. */
export function moveFacts(row: Row): Fact[] {
  return [
    ...change(row, "Gap", "gap_percent", "opening gap against the previous close; until the open, that of the price"),
    ...fact(
      "Gap filled",
      unsigned(row["gap_fill_percent"], row),
      "portion of the opening gap that has been given back",
    ),
    ...change(row, "From open", "change_from_open", "price compared with the open"),
    ...change(
      row,
      "Premarket",
      "premarket_change_percent",
      "last price before the open compared with the previous close",
    ),
    ...change(row, "After hours", "postmarket_change_percent", "price compared with the close"),
    ...change(row, "1 min", "chg_1m", "change over the last minute"),
    ...change(row, "5 min", "chg_5m", "change over the last 5 minutes"),
    ...change(row, "30 min", "chg_30m", "change over the last 30 minutes"),
    ...change(row, "vs. VWAP", "price_vs_vwap", "price compared with the volume-weighted average price"),
  ];
}

/** The day's range, and how it compares with other days. */
export function rangeFacts(row: Row): Fact[] {
  const [high, low, atr] = [number(row, "intraday_high"), number(row, "intraday_low"), number(row, "atr")];
  const range = high !== undefined && low !== undefined ? high - low : undefined;
  return [
    ...fact(
      "Day range",
      range === undefined ? "" : `${price(low)} – ${price(high)}`,
      "lowest and highest price since 04:00",
    ),
    ...change(row, "From high", "price_from_intraday_high", "price compared with the day's high"),
    ...change(row, "From low", "price_from_intraday_low", "price compared with the day's low"),
    ...fact("ATR", price(row["atr"]), "average true range over 14 days"),
    ...fact("ATR %", unsigned(row["atr_percent"], row), "average true range in percent of the price"),
    ...fact(
      "Range / ATR",
      range !== undefined && atr ? ratio(range / atr) : "",
      "today's range in average true ranges",
    ),
    ...fact("Spread", percent(2, false)(row["spread_percent"], row), "ask minus bid, in percent of their midpoint"),
  ];
}

/** Volume against the usual. */
export function volumeFacts(row: Row): Fact[] {
  const rotation = quotient(row, "volume_today", "float_shares");
  return [
    ...fact("Volume", compact(row["volume_today"]), "shares since 04:00"),
    ...fact("RVOL", ratio(row["rvol"]), "volume compared with the mean until this time of day"),
    ...fact("5 min", compact(row["vol_5m"]), "shares in the last 5 minutes"),
    ...fact("Premarket", compact(row["premarket_volume"]), "shares from 04:00 to 09:30"),
    ...fact("$ volume", compact(row["dollar_volume"]), "dollars traded since 04:00"),
    ...fact("Avg 30 d", compact(row["avg_volume_30d"]), "mean daily volume of the last 30 trading days"),
    ...fact("Of average", ratio(row["volume_ratio"]), "volume compared with that average"),
    ...fact("Of float", rotation === undefined ? "" : ratio(rotation), "how often the float has changed hands today"),
    ...fact(
      "Trades z",
      decimal(1, true)(row["trades_z_score"], row),
      "standard deviations of today's trades from the usual number",
    ),
  ];
}

/** The company, of its row or its stored data. */
export function companyFacts(row: Row): Fact[] {
  return [
    ...fact("Sector", String(row["sector"] ?? ""), "sector"),
    ...fact("Industry", sentence(String(row["industry"] ?? "")), "industry"),
    ...fact("Float", compact(row["float_shares"]), "freely tradable shares"),
    ...fact("Outstanding", compact(row["shares_outstanding"]), "shares outstanding"),
    ...fact("Market cap", compact(row["market_cap"]), "market capitalisation in dollars"),
    ...fact(
      "Type",
      SECURITY_TYPES[String(row["security_type"])] ?? String(row["security_type"] ?? ""),
      "type of security",
    ),
    ...fact("Listed", String(row["list_date"] ?? ""), "date of the first listing"),
    ...fact("Exchange", EXCHANGES[String(row["exchange"])] ?? String(row["exchange"] ?? ""), "primary exchange"),
    ...fact("Beta", decimal(2)(row["beta"], row), "beta relative to the market"),
  ];
}

/** Distance of a level from the price, in percent of the price. */
export function distance(level: number, from: Value | undefined): string {
  return typeof from === "number" && from > 0 ? signed((100 * (level - from)) / from, {} as Row) : "";
}

/** The change of the day: +0.73 and +8.62 %. */
export function dayChange(row: Row): { text: string; tone: Tone } {
  // In cents, as the price is: +0.73, not +0.7300.
  const inCents = decimal(2, true);
  const amount = (number(row, "price") ?? 0) < 1 ? signedPrice(row["change"]) : inCents(row["change"], row);
  const text = [amount, signed(row["change_percent"], row)].filter(Boolean).join("  ");
  return { text, tone: signTone(row["change_percent"]) };
}

/** The vendor's industries are in capitals. */
function sentence(text: string): string {
  return text === text.toUpperCase() ? text.charAt(0) + text.slice(1).toLowerCase() : text;
}

const SECURITY_TYPES: Record<string, string> = {
  CS: "Common stock",
  ADRC: "ADR",
  PFD: "Preferred",
  WARRANT: "Warrant",
  UNIT: "Unit",
  RIGHT: "Right",
  ETF: "ETF",
  ETN: "ETN",
  ETV: "ETF",
  ETS: "ETF",
  FUND: "Fund",
  SP: "Structured product",
  OS: "Ordinary shares",
};

const EXCHANGES: Record<string, string> = {
  XNAS: "Nasdaq",
  XNYS: "NYSE",
  XASE: "NYSE American",
  ARCX: "NYSE Arca",
  BATS: "Cboe BZX",
  IEXG: "IEX",
};
