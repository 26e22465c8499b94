/** The day's volume so far against the usual, minute by minute. */

import { toWall } from "../shared/newyork";
import { cumulativeVolume, type Bar } from "./bars";
import type { DayHours } from "./sessions";

/** Columns of the curve: every minute of the day, in seconds of New York's wall clock. */
export interface Curve {
  times: number[];
  usual: (number | null)[];
  today: (number | null)[];
  /** Today before the first minute that is known: as the usual volume rises, or evenly. */
  estimated: (number | null)[];
}

/** A slot of /api/v1/rvol/{symbol}/curve: both volumes are those at its end. */
export interface Slot {
  slot: number;
  usual?: number;
  today?: number;
}

const MINUTE = 60;
const SLOT_MINUTES = 5;
/** Rounding leaves such a part of the day's shares where nothing is missing. */
const NOTHING = 0.001;

/** Returns the usual volume at each minute's end: that of the slots, linear within one, from 0. */
export function usualByMinute(slots: readonly Slot[], minutes: number): (number | null)[] {
  return Array.from({ length: minutes + 1 }, (_, minute) => {
    const slot = Math.floor(minute / SLOT_MINUTES);
    const before = slot === 0 ? (slots[0]?.usual === undefined ? undefined : 0) : slots[slot - 1]?.usual;
    if (before === undefined) return null;
    const after = slots[slot]?.usual ?? before;
    return before + ((after - before) * (minute % SLOT_MINUTES)) / SLOT_MINUTES;
  });
}

/** Returns the shares at the ends of minutes, counted from the day's start, as far as they are known. */
function knownEnds(slots: readonly Slot[], bars: readonly Bar[], total: number | undefined, hours: DayHours): Map<number, number> {
  const ends = new Map<number, number>();
  for (const { slot, today } of slots) if (today !== undefined) ends.set((slot + 1) * SLOT_MINUTES, today);
  const first = bars[0];
  // Bars say more, but of the time before the first of them only how much there was.
  const values = cumulativeVolume(bars, total);
  if (first && total !== undefined) ends.set((first.time - hours.start) / MINUTE, values[0]!.value - first.volume);
  for (const { time, value } of values) ends.set((time - hours.start) / MINUTE + 1, value);
  return ends;
}

/** Returns the shares at each minute's end, null before the first that is known and after `now`. */
export function todayByMinute(
  slots: readonly Slot[],
  bars: readonly Bar[],
  total: number | undefined,
  hours: DayHours,
  minutes: number,
  now: number,
): (number | null)[] {
  const ends = knownEnds(slots, bars, total, hours);
  // A first minute with nothing before it: nothing was traded until then.
  const first = Math.min(...ends.keys());
  let value: number | null = null;
  if (first > 0 && ends.get(first)! <= NOTHING * (total ?? 0)) value = 0;
  // The minute in progress has not ended: its shares are at now.
  const reached = Math.min(minutes, Math.ceil((now - hours.start) / MINUTE));
  return Array.from({ length: minutes + 1 }, (_, minute) => {
    if (minute > reached) return null;
    value = ends.get(minute) ?? value;
    return value;
  });
}

/** Returns what leads from 0 to the first minute that is known; nulls where that is the first. */
export function estimatedByMinute(today: readonly (number | null)[], usual: readonly (number | null)[]): (number | null)[] {
  const first = today.findIndex((value) => value !== null);
  const [reached, usualThen] = [today[first] ?? 0, usual[first] ?? 0];
  return today.map((_, minute) => {
    if (first <= 0 || minute > first) return null;
    return reached * (usualThen > 0 ? (usual[minute] ?? 0) / usualThen : minute / first);
  });
}

export function curveOf(
  slots: readonly Slot[],
  bars: readonly Bar[],
  total: number | undefined,
  hours: DayHours,
  now: number,
): Curve {
  const minutes = Math.round((hours.end - hours.start) / MINUTE);
  const start = toWall(hours.start);
  const usual = usualByMinute(slots, minutes);
  const today = todayByMinute(slots, bars, total, hours, minutes, now);
  return {
    times: Array.from({ length: minutes + 1 }, (_, minute) => start + minute * MINUTE),
    usual,
    today,
    estimated: estimatedByMinute(today, usual),
  };
}

/** Returns what of the curve to show: until an hour after now, or all of the day. */
export function shownUntil(curve: Curve, isWhole: boolean): number {
  const last = curve.times.at(-1) ?? 0;
  if (isWhole) return last;
  const reached = curve.today.length - 1 - [...curve.today].reverse().findIndex((value) => value !== null);
  return Math.min(last, (curve.times[reached] ?? last) + 3600);
}
