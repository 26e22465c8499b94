/** Sessions in words. */

import type { SessionView } from "../shared/session";
import { nextSessionTime } from "./market_clock";

const NAMES: Record<string, string> = {
  PRE_MARKET: "Premarket",
  MARKET_OPEN: "Market open",
  POST_MARKET: "After hours",
  CLOSED: "Closed",
};

export function sessionName(session: string): string {
  return NAMES[session] ?? session;
}

/**
 * Returns the seconds until the next session, null if that is unknown: from `market`, the market's time, which stands still
 * and hurries as a replay does. Where that does not say it, from `now`, the browser's. All in milliseconds since 1970.
 */
export function untilNext({ session, received }: SessionView, market: number | null, now: number): number | null {
  const left = session?.seconds_until_next_session;
  if (!session || left === undefined) return null;
  const next = nextSessionTime(session);
  const seconds = next !== null && market !== null ? (next - market) / 1000 : left - Math.max(0, now - received) / 1000;
  return Math.max(0, seconds);
}
