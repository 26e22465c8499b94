/** The day's volume so far against the usual, minute by minute. */

import { toWall } from "../shared/newyork";
import { cumulativeVolume, type Bar } from "./bars";
import type { DayHours } from "./sessions";

/** Columns of the curve: every minute of the day, in seconds of New York's wall clock. */
export interface Curve {
  times: number[];
  usual: (number | null)[];
  today: (number | null)[];
}

/** A slot of /api/v1/rvol/{symbol}/curve: both volumes are those at its end. */
export interface Slot {
  slot: number;
  usual?: number;
  today?: number;
}

const MINUTE = 60;
const SLOT_MINUTES = 5;

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

/** Returns the shares at each minute's end, null before the first that is known and after `now`. */
export function todayByMinute(
  slots: readonly Slot[],
  bars: readonly Bar[],
  total: number | undefined,
  hours: DayHours,
  minutes: number,
  now: number,
): (number | null)[] {
  const ends = new Map<number, number>();
  for (const { slot, today } of slots) if (today !== undefined) ends.set((slot + 1) * SLOT_MINUTES, today);
  // Bars say more, but not of the time before the first of them.
  for (const { time, value } of cumulativeVolume(bars, total)) ends.set((time - hours.start) / MINUTE + 1, value);
  // The minute in progress has not ended: its shares are at now.
  const reached = Math.min(minutes, Math.ceil((now - hours.start) / MINUTE));
  let value: number | null = null;
  return Array.from({ length: minutes + 1 }, (_, minute) => {
    if (minute > reached) return null;
    value = ends.get(minute) ?? value;
    return value;
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
  return {
    times: Array.from({ length: minutes + 1 }, (_, minute) => start + minute * MINUTE),
    usual: usualByMinute(slots, minutes),
    today: todayByMinute(slots, bars, total, hours, minutes, now),
  };
}

/** Returns what of the curve to show: until an hour after now, or all of the day. */
export function shownUntil(curve: Curve, isWhole: boolean): number {
  const last = curve.times.at(-1) ?? 0;
  if (isWhole) return last;
  const reached = curve.today.length - 1 - [...curve.today].reverse().findIndex((value) => value !== null);
  return Math.min(last, (curve.times[reached] ?? last) + 3600);
}
