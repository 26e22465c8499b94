/** The logs of lists, kept by the browser for the day: those of scans are nowhere else, and the scanner's own begins when it starts. */

import { newYorkDate } from "../shared/newyork";
import { LOG_LENGTH, type LogEntry } from "./log";

const PREFIX = "tradeul.log.";
/** Times, symbols and numbers are most of it: names would be as much again. */
type Kept = [time: string, symbol: string, entered: boolean, ...values: [rank: Value, price: Value, change: Value, halt: Value]];
type Value = number | string | null | undefined;

const dayOf = (time: string): string => newYorkDate(Date.parse(time) / 1000);

/** Returns the entries that are kept of a list, of the day of `now` and not later, oldest first. */
export function loadLog(key: string, now: string, storage: Storage): LogEntry[] {
  try {
    const { day, entries } = JSON.parse(storage.getItem(PREFIX + key) ?? "{}") as { day?: string; entries?: Kept[] };
    if (day !== dayOf(now)) return [];
    const entry = ([time, symbol, entered, rank, price, change, halt]: Kept): LogEntry => ({
      time, symbol, entered,
      ...(typeof rank === "number" && { rank }),
      ...(typeof price === "number" && { price }),
      ...(typeof change === "number" && { change }),
      ...(typeof halt === "string" && { halt }),
    }); // prettier-ignore
    // A simulated day can begin anew: what would be ahead is of another one.
    return (entries ?? []).map(entry).filter(({ time }) => Date.parse(time) <= Date.parse(now));
  } catch {
    return [];
  }
}

/** Keeps the newest day's entries, oldest first; those of other days, of all lists, are dropped. */
export function saveLog(key: string, entries: readonly LogEntry[], storage: Storage): void {
  const newest = entries.at(-1);
  if (!newest) return;
  const day = dayOf(newest.time);
  const kept = entries
    .slice(-LOG_LENGTH)
    .filter(({ time }) => dayOf(time) === day)
    .map(({ time, symbol, entered, rank, price, change, halt }): Kept => [time, symbol, entered, rank, price, change, halt]);
  const text = JSON.stringify({ day, entries: kept });
  try {
    dropOthers(day, storage);
    storage.setItem(PREFIX + key, text);
  } catch {
    // Without room for it, it lasts as long as the panel.
  }
}

function dropOthers(day: string, storage: Storage): void {
  for (const name of Object.keys(storage)) {
    if (name.startsWith(PREFIX) && !storage.getItem(name)?.startsWith(`{"day":"${day}"`)) storage.removeItem(name);
  }
}
