/** Continues the market's time between observations. */

import { newYorkTime } from "../shared/newyork";
import type { Session } from "../shared/session";

const LONGEST_MS = 15_000;
/** Observations closer together say nothing about the speed. */
const APART_MS = 1_000;

/** Continues observed times at the speed between them. All times are milliseconds since 1970. */
export class MarketClock {
  private last: { market: number; wall: number } | null = null;
  private speeds = [1, 1];

  observe(market: number, wall: number): void {
    if (this.last && wall - this.last.wall >= APART_MS) {
      const speed = (market - this.last.market) / (wall - this.last.wall);
      this.speeds = [this.speeds[1]!, Math.max(0, speed)];
    }
    if (!this.last || wall > this.last.wall) this.last = { market, wall };
  }

  /** Returns the market's time at `wall`, null before the first observation. */
  now(wall: number): number | null {
    if (!this.last) return null;
    // Of two speeds the lower: a jump is none.
    const speed = Math.min(...this.speeds);
    return this.last.market + speed * Math.min(LONGEST_MS, Math.max(0, wall - this.last.wall));
  }
}

/** Returns when the next session begins, in milliseconds since 1970; null where the session's text leaves that open. */
export function nextSessionTime(session: Session): number | null {
  const starts: Record<string, string> = {
    MARKET_OPEN: session.market_open,
    POST_MARKET: session.market_close,
    CLOSED: session.post_market_end,
  };
  // The next premarket's date may be another day's.
  const start = starts[session.next_session ?? ""];
  return start === undefined ? null : newYorkTime(session.trading_date, start) * 1000;
}

/** Returns the time at which the session was read, in milliseconds since 1970; null where its text leaves that open. */
export function sessionTime(session: Session): number | null {
  const left = session.seconds_until_next_session;
  const next = nextSessionTime(session);
  return left === undefined || next === null ? null : next - left * 1000;
}
