/** The alerts that a panel shows: those of before from the REST API, new ones from the stream, each once. */

import type { Alert, Position } from "../stream/types";

/** What is older is there after "Older" only. */
export const MOST_ALERTS = 1_000;

/** Newest first. */
function compare(a: Position, b: Position): number {
  return b.epoch - a.epoch || b.sequence - a.sequence;
}

/** Returns both together, newest first, each alert once. */
export function merged(before: readonly Alert[], further: readonly Alert[], most = MOST_ALERTS): Alert[] {
  const all = new Map([...before, ...further].map((alert) => [`${alert.epoch}/${alert.sequence}`, alert]));
  return [...all.values()].sort(compare).slice(0, most);
}
