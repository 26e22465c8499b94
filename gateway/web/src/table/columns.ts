/** The columns of a list: how each field is shown, which ones a list shows at first, and what the user has made of them. */

import { covers, type Fields } from "../stream/fields";
import type { Row, Value } from "../stream/types";
import { BADGE_FIELDS } from "./badges";
import {
  type Field,
  type Format,
  type Tone,
  compact,
  count,
  decimal,
  formatOf,
  haltReason,
  percent,
  plain,
  price,
  ratio,
  seconds,
  signTone,
  signedPrice,
  someCount,
  timeOfDay,
  words,
  yes,
} from "./formats";

export interface Column {
  /** The row's field; `rank` and `symbol` are columns, too. */
  readonly field: string;
  readonly label: string;
  /** The field's full meaning, for the header's tooltip. */
  readonly meaning: string;
  /** Pixels. */
  readonly width: number;
  readonly align: "start" | "end";
  readonly format: Format;
  readonly tone?: (value: Value | undefined, row: Row) => Tone;
  /** True if a change of the value is marked by its direction and a flash. */
  readonly flashes?: boolean;
}

/** What the user has chosen: fields in order, and the widths that differ. */
export interface ColumnChoice {
  fields: string[];
  widths: Record<string, number>;
}

export const LEAST_WIDTH = 32;
export const GREATEST_WIDTH = 480;

type Presentation = Omit<Column, "field" | "meaning"> & { meaning?: string };

function number(label: string, width: number, format: Format): Presentation {
  return { label, width, align: "end", format };
}

function signed(label: string, width: number, format: Format): Presentation {
  return { label, width, align: "end", format, tone: signTone };
}

function text(label: string, width: number, format: Format = plain): Presentation {
  return { label, width, align: "start", format };
}

function versusVwap(value: Value | undefined, row: Row): Tone {
  const now = row["price"];
  if (typeof value !== "number" || typeof now !== "number") return "";
  return now > value ? "up" : now < value ? "down" : "";
}

const day = percent(1, true);
const recent = percent(2, true);

/** Short labels, because a trader reads twenty columns; the tooltip has the meaning. */
const PRESENTATIONS: Record<string, Presentation> = {
  rank: { ...number("#", 34, count), meaning: "rank in the list" },
  symbol: text("Symbol", 124),
  company_name: text("Company", 170),
  exchange: text("Exch", 56),
  sector: text("Sector", 120),
  industry: text("Industry", 160),
  is_etf: text("ETF", 44, yes),
  security_type: text("Type", 64),
  list_date: text("Listed", 84),
  price: { ...number("Price", 76, price), flashes: true },
  bid: number("Bid", 72, price),
  ask: number("Ask", 72, price),
  spread_percent: number("Spread", 68, percent(2, false)),
  volume_today: number("Volume", 68, compact),
  trades_today: number("Trades", 64, compact),
  dollar_volume: number("$ Vol", 68, compact),
  prev_close: number("Prev", 72, price),
  prev_volume: number("Prev vol", 72, compact),
  open: number("Open", 72, price),
  high: number("High", 72, price),
  low: number("Low", 72, price),
  intraday_high: number("Day high", 76, price),
  intraday_low: number("Day low", 76, price),
  close: number("Close", 72, price),
  change: signed("Chg $", 72, signedPrice),
  change_percent: signed("Chg", 76, day),
  gap_percent: signed("Gap", 76, day),
  gap_size: text("Gap size", 68, words),
  change_from_open: signed("From open", 78, day),
  premarket_high: number("PM high", 72, price),
  premarket_low: number("PM low", 72, price),
  premarket_volume: number("PM vol", 68, compact),
  premarket_change_percent: signed("PM chg", 76, day),
  postmarket_change_percent: signed("AH chg", 76, day),
  postmarket_volume: number("AH vol", 68, compact),
  gap_fill_percent: number("Gap fill", 72, percent(0, false)),
  price_from_high: signed("To high", 76, recent),
  price_from_low: signed("To low", 76, recent),
  price_from_intraday_high: signed("To day high", 84, recent),
  price_from_intraday_low: signed("To day low", 84, recent),
  position_in_range: number("Range", 60, percent(0, false)),
  vwap: { ...number("VWAP", 76, price), tone: versusVwap, meaning: "volume-weighted average price since 04:00; coloured by where the price is" },
  price_vs_vwap: signed("vs VWAP", 76, recent),
  rvol: number("RVol", 64, ratio),
  rvol_slot: number("RVol slot", 72, ratio),
  avg_volume_10d: number("Avg 10d", 72, compact),
  avg_volume_30d: number("Avg 30d", 72, compact),
  avg_price_30d: number("Avg price", 76, price),
  volume_ratio: number("Vol/avg", 68, ratio),
  trades_z_score: { ...signed("Trades z", 68, decimal(1, true)), tone: () => "" },
  chg_1m: signed("1 min", 76, recent),
  chg_5m: signed("5 min", 76, recent),
  chg_10m: signed("10 min", 76, recent),
  chg_15m: signed("15 min", 76, recent),
  chg_30m: signed("30 min", 76, recent),
  vol_1m: number("Vol 1m", 64, compact),
  vol_5m: number("Vol 5m", 64, compact),
  vol_10m: number("Vol 10m", 66, compact),
  vol_15m: number("Vol 15m", 66, compact),
  vol_30m: number("Vol 30m", 66, compact),
  atr: number("ATR", 64, price),
  atr_percent: number("ATR %", 68, percent(1, false)),
  float_shares: number("Float", 68, compact),
  shares_outstanding: number("Shares", 68, compact),
  market_cap: number("Mkt cap", 72, compact),
  beta: number("Beta", 56, decimal(2)),
  halted: text("Halted", 60, yes),
  halt_reason: text("Reason", 150, (value) => (typeof value === "string" ? haltReason(value) : "")),
  halted_at: number("Halted at", 78, timeOfDay),
  resumes_at: number("Resumes", 78, timeOfDay),
  halts_today: number("Halts", 56, someCount),
  luld_upper: number("LULD up", 76, price),
  luld_lower: number("LULD low", 76, price),
  session: text("Session", 92, words),
  updated_at: number("Updated", 78, timeOfDay),
  age_seconds: number("Age", 68, seconds),
  score: number("Score", 64, decimal(1)),
  suspect_prints: number("Suspect", 68, someCount),
  or1_high: number("OR1 high", 76, price),
  or1_low: number("OR1 low", 76, price),
  or5_high: number("OR5 high", 76, price),
  or5_low: number("OR5 low", 76, price),
  or15_high: number("OR15 high", 80, price),
  or15_low: number("OR15 low", 80, price),
  or30_high: number("OR30 high", 80, price),
  or30_low: number("OR30 low", 80, price),
  or60_high: number("OR60 high", 80, price),
  or60_low: number("OR60 low", 80, price),
  minutes_since_open: number("Minutes", 68, decimal(1)),
  dollar_volume_1m: number("$ Vol 1m", 72, compact),
  dollar_volume_5m: number("$ Vol 5m", 72, compact),
  trades_1m: number("Trades 1m", 76, compact),
  trades_5m: number("Trades 5m", 76, compact),
  largest_1m: number("Block 1m", 72, compact),
  largest_5m: number("Block 5m", 72, compact),
  high_5m: number("High 5m", 76, price),
  low_5m: number("Low 5m", 76, price),
  high_15m: number("High 15m", 76, price),
  low_15m: number("Low 15m", 76, price),
  high_30m: number("High 30m", 76, price),
  low_30m: number("Low 30m", 76, price),
  vol_1m_ratio: number("Vol x 1m", 72, ratio),
  vol_5m_ratio: number("Vol x 5m", 72, ratio),
  last_size: number("Last size", 68, compact),
  bid_size: number("Bid size", 68, compact),
  ask_size: number("Ask size", 68, compact),
  spy_change_percent: signed("SPY", 76, day),
  spy_chg_5m: signed("SPY 5 min", 76, recent),
  spy_chg_15m: signed("SPY 15 min", 80, recent),
  spy_chg_30m: signed("SPY 30 min", 80, recent),
  prev_open: number("Prev open", 76, price),
  prev_high: number("Prev high", 76, price),
  prev_low: number("Prev low", 76, price),
  high_5d: number("High 5d", 76, price),
  low_5d: number("Low 5d", 76, price),
  high_20d: number("High 20d", 76, price),
  low_20d: number("Low 20d", 76, price),
  high_52w: number("High 52w", 76, price),
  low_52w: number("Low 52w", 76, price),
  sma_20d: number("SMA 20", 76, price),
  sma_50d: number("SMA 50", 76, price),
  sma_200d: number("SMA 200", 76, price),
  change_5d: signed("5 days", 76, day),
  change_20d: signed("20 days", 76, day),
  ssr: text("SSR", 48, yes),
};

export const presentedFields: readonly string[] = Object.keys(PRESENTATIONS);

/** Returns the column of a field; `fields` is the API's table, for meanings and for fields that are new to the page. */
export function columnOf(field: string, fields?: ReadonlyMap<string, Field>, width?: number): Column {
  const known = fields?.get(field);
  const presentation =
    PRESENTATIONS[field] ??
    ({
      label: words(field),
      width: 88,
      align: known === undefined || known.type === "number" || known.type === "time" ? "end" : "start",
      format: known ? formatOf(known) : plain,
    } satisfies Presentation);
  return {
    ...presentation,
    field,
    meaning: presentation.meaning ?? known?.meaning ?? "",
    width: limitWidth(width ?? presentation.width),
  };
}

export function limitWidth(width: number): number {
  return Math.min(GREATEST_WIDTH, Math.max(LEAST_WIDTH, Math.round(width)));
}

const COMMON = ["rank", "symbol", "price", "change_percent"];
const SIZE = ["volume_today", "rvol", "float_shares"];

const DEFAULT_FIELDS: Record<string, string[]> = {
  gappers_up: [...COMMON, "gap_percent", ...SIZE, "premarket_high", "price_vs_vwap"],
  gappers_down: [...COMMON, "gap_percent", ...SIZE, "premarket_low", "price_vs_vwap"],
  winners: [...COMMON, ...SIZE, "chg_5m", "price_vs_vwap"],
  losers: [...COMMON, ...SIZE, "chg_5m", "price_vs_vwap"],
  momentum_up: [...COMMON, "chg_1m", "chg_5m", ...SIZE, "price_from_intraday_high"],
  momentum_down: [...COMMON, "chg_1m", "chg_5m", ...SIZE, "price_from_intraday_low"],
  high_volume: [...COMMON, "volume_today", "rvol", "vol_5m", "dollar_volume"],
  anomalies: [...COMMON, "trades_z_score", "rvol", "vol_1m", "volume_today"],
  new_highs: [...COMMON, "chg_5m", "intraday_high", ...SIZE],
  new_lows: [...COMMON, "chg_5m", "intraday_low", ...SIZE],
  reversals: [...COMMON, "gap_percent", "change_from_open", "gap_fill_percent", "volume_today", "rvol"],
  post_market: ["rank", "symbol", "price", "postmarket_change_percent", "postmarket_volume", "change_percent", "float_shares"],
  halts: ["rank", "symbol", "price", "change_percent", "halt_reason", "halted_at", "resumes_at", "halts_today", "volume_today"],
};

export function defaultFields(list: string): string[] {
  return [...(DEFAULT_FIELDS[list] ?? [...COMMON, ...SIZE, "chg_5m"])];
}

/** What badges, alerts and the log need of each row, whatever its columns. */
const ALWAYS: readonly string[] = ["price", "change_percent", "intraday_high", ...BADGE_FIELDS];
/** Rows always have them. */
const IMPLIED: readonly string[] = ["rank", "symbol"];

function selection(fields: readonly string[]): readonly string[] {
  return [...new Set([...ALWAYS, ...fields])].filter((field) => !IMPLIED.includes(field));
}

const WIDE = selection(["company_name", "vwap", ...Object.values(DEFAULT_FIELDS).flat(), ...defaultFields("")]);

/**
 * Returns the fields that rows of the list are to have if `needed` are shown. There are few different sets, each part of
 * the next one: the server encodes each of them.
 */
export function fieldsFor(list: string, needed: readonly string[]): Fields {
  const rest = needed.filter((field) => !IMPLIED.includes(field));
  const standard = selection(defaultFields(list));
  return [standard, WIDE].find((fields) => covers(fields, rest));
}

export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

const KEY = "tradeul.columns.";

/** Returns the remembered columns of a list, or its first ones. What is stored may have been written by another version. */
export function loadChoice(list: string, storage: Storage): ColumnChoice {
  const standard = { fields: defaultFields(list), widths: {} };
  try {
    const stored: unknown = JSON.parse(storage.getItem(KEY + list) ?? "null");
    return parseChoice(stored) ?? standard;
  } catch {
    return standard;
  }
}

export function parseChoice(stored: unknown): ColumnChoice | null {
  if (typeof stored !== "object" || stored === null) return null;
  const { fields, widths } = stored as { fields?: unknown; widths?: unknown };
  if (!Array.isArray(fields)) return null;
  const names = [...new Set(fields.filter((name): name is string => typeof name === "string" && /^[a-z][a-z0-9_]*$/.test(name)))];
  if (!names.includes("symbol")) names.unshift("symbol");
  const kept: Record<string, number> = {};
  if (typeof widths === "object" && widths !== null) {
    for (const [name, width] of Object.entries(widths)) if (Number.isFinite(width)) kept[name] = limitWidth(width as number);
  }
  return { fields: names, widths: kept };
}

/** Returns false if the browser has no room for it or does not allow it. */
export function saveChoice(list: string, choice: ColumnChoice, storage: Storage): boolean {
  try {
    storage.setItem(KEY + list, JSON.stringify(choice));
    return true;
  } catch {
    return false;
  }
}

export function forgetChoice(list: string, storage: Storage): void {
  storage.removeItem(KEY + list);
}

export function columnsOf(choice: ColumnChoice, fields?: ReadonlyMap<string, Field>): Column[] {
  return choice.fields.map((field) => columnOf(field, fields, choice.widths[field]));
}
