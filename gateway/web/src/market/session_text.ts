/** Sessions in words. */

import type { SessionView } from "../shared/session";

const NAMES: Record<string, string> = {
  PRE_MARKET: "Premarket",
  MARKET_OPEN: "Market open",
  POST_MARKET: "After hours",
  CLOSED: "Closed",
};

export function sessionName(session: string): string {
  return NAMES[session] ?? session;
}

/** Returns the seconds until the next session at `now` (milliseconds since 1970), null if that is unknown. */
export function untilNext({ session, received }: SessionView, now: number): number | null {
  const left = session?.seconds_until_next_session;
  return left === undefined ? null : Math.max(0, left - Math.max(0, now - received) / 1000);
}
