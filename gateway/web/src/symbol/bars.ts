/** The minutes of a day: from REST, continued by the row's changes. */

import type { Row } from "../stream/types";

export interface Bar {
  /** Start of the bar, UTC seconds. */
  time: number;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
  /** Volume-weighted average price of the bar's trades, where known. */
  vwap?: number;
}

/** A bar as /api/v1/ticker/{symbol}/bars returns it. */
export interface BarJson extends Omit<Bar, "time"> {
  time: string;
}

/** The fields of a symbol's row that move its chart. */
export interface LiveRow {
  price?: number;
  volume_today?: number;
  intraday_high?: number;
  intraday_low?: number;
  updated_at?: string;
}

const MINUTE = 60;

export function parseBar(json: BarJson): Bar {
  return { ...json, time: Date.parse(json.time) / 1000 };
}

/** The minutes of one day. A minute that the mesh has stored replaces the one built from the row's changes. */
export class DayBars {
  private readonly minutes = new Map<number, Bar>();
  private last: LiveRow = {};

  /** Returns the minutes, oldest first. */
  all(): Bar[] {
    return [...this.minutes.values()].sort((a, b) => a.time - b.time);
  }

  /** Takes stored minutes; those of the minute in progress only add to it. */
  merge(bars: readonly Bar[], now: number): void {
    const current = Math.floor(now / MINUTE) * MINUTE;
    for (const bar of bars) {
      const live = this.minutes.get(bar.time);
      if (bar.time < current || live === undefined) this.minutes.set(bar.time, bar);
      else {
        live.high = Math.max(live.high, bar.high);
        live.low = Math.min(live.low, bar.low);
        live.volume = Math.max(live.volume, bar.volume);
        live.open = bar.open;
      }
    }
  }

  /** Continues the newest minute with the row's price and volume. Returns whether anything changed. */
  apply(changed: Row): boolean {
    const row: LiveRow = changed as LiveRow;
    const before = this.last;
    this.last = row;
    const time = Math.floor(Date.parse(row.updated_at ?? "") / 1000 / MINUTE) * MINUTE;
    const { price } = row;
    if (!Number.isFinite(time) || price === undefined) return false;
    // Only what changed between two rows of this page belongs to the minute; the first row is where counting starts.
    const known = before.updated_at !== undefined;
    const shares = known ? Math.max(0, (row.volume_today ?? 0) - (before.volume_today ?? 0)) : 0;
    const moved = known && price !== before.price;
    if (!moved && shares === 0) return false;
    const bar = this.minutes.get(time);
    const high = known && (row.intraday_high ?? 0) > (before.intraday_high ?? Infinity) ? row.intraday_high! : price;
    const low = known && (row.intraday_low ?? Infinity) < (before.intraday_low ?? 0) ? row.intraday_low! : price;
    if (bar === undefined) this.minutes.set(time, { time, open: price, high, low, close: price, volume: shares });
    else {
      delete bar.vwap; // it was that of the shares so far
      bar.close = price;
      bar.high = Math.max(bar.high, high);
      bar.low = Math.min(bar.low, low);
      bar.volume += shares;
    }
    return true;
  }
}

/** Returns the bars of a longer interval. `from` is where intervals are counted from, UTC seconds. */
export function aggregate(bars: readonly Bar[], seconds: number, from: number): Bar[] {
  const result: Bar[] = [];
  for (const bar of bars) {
    const time = from + Math.floor((bar.time - from) / seconds) * seconds;
    const last = result.at(-1);
    if (last?.time !== time) result.push({ ...bar, time });
    else {
      const volume = last.volume + bar.volume;
      if (volume > 0) last.vwap = (average(last) * last.volume + average(bar) * bar.volume) / volume;
      last.high = Math.max(last.high, bar.high);
      last.low = Math.min(last.low, bar.low);
      last.close = bar.close;
      last.volume = volume;
    }
  }
  return result;
}

/** Returns the bar's average price: its vwap, otherwise the mean of high, low and close. */
export function average(bar: Bar): number {
  return bar.vwap ?? (bar.high + bar.low + bar.close) / 3;
}

export interface DayTotal {
  /** Shares since 04:00. */
  volume: number;
  /** Volume-weighted average price since 04:00. */
  vwap: number;
}

/**
 * Returns the volume-weighted average price at the end of each bar. The bars may lack part of the day (before the mesh
 * started, for example); with the day's `total`, what they lack counts as traded before the first of them.
 */
export function vwapLine(bars: readonly Bar[], total?: DayTotal): { time: number; value: number }[] {
  let volume = 0;
  let dollars = 0;
  if (total !== undefined) {
    for (const bar of bars) {
      volume -= bar.volume;
      dollars -= average(bar) * bar.volume;
    }
    volume += total.volume;
    dollars += total.vwap * total.volume;
    // Rounding leaves a few shares of either sign where nothing is missing.
    if (volume < 0.001 * total.volume || dollars <= 0) volume = dollars = 0;
  }
  const line = [];
  for (const bar of bars) {
    volume += bar.volume;
    dollars += average(bar) * bar.volume;
    if (volume > 0) line.push({ time: bar.time, value: dollars / volume });
  }
  return line;
}

/** Returns the shares since 04:00 at the end of each bar; with the day's total, what the bars lack counts before them. */
export function cumulativeVolume(bars: readonly Bar[], total?: number): { time: number; value: number }[] {
  let volume = 0;
  if (total !== undefined)
    volume = Math.max(
      0,
      bars.reduce((left, bar) => left - bar.volume, total),
    );
  return bars.map((bar) => ({ time: bar.time, value: (volume += bar.volume) }));
}
