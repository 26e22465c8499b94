/** The market's time, which is not the browser's: the simulator and replays have their own. */

import type { Status } from "../stream/types";

/** How far the time of the newest message is continued: a replay may stand still. */
const CONTINUED_MS = 3_000;

/** Returns the market's time at `now`, both in milliseconds since 1970; null before the first message. */
export function marketTime({ time, received }: Pick<Status, "time" | "received">, now: number): number | null {
  if (time === null || received === null) return null;
  return time + Math.min(CONTINUED_MS, Math.max(0, now - received));
}
