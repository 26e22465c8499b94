/** The session of the market's now, read while anybody looks at it. */

import { readable } from "svelte/store";
import { api } from "./api";
import { poll } from "./poll";

/** /api/v1/session/current. */
export interface Session {
  current_session: "PRE_MARKET" | "MARKET_OPEN" | "POST_MARKET" | "CLOSED";
  trading_date: string;
  is_trading_day: boolean;
  is_holiday: boolean;
  is_early_close: boolean;
  pre_market_start: string;
  market_open: string;
  market_close: string;
  post_market_end: string;
  next_session?: string;
  seconds_until_next_session?: number;
}

export interface SessionView {
  session: Session | null;
  /** When it was received, in milliseconds since 1970. */
  received: number;
  error: string;
}

const POLL_MS = 10_000;

export const session = readable<SessionView>({ session: null, received: 0, error: "" }, (_set, update) => {
  async function read(signal: AbortSignal): Promise<number> {
    const current = await api<Session>("/api/v1/session/current", { signal });
    update(() => ({ session: current, received: Date.now(), error: "" }));
    const left = (current.seconds_until_next_session ?? Infinity) * 1000;
    // Just after the next session has begun, but never in a hurry: a replay's hours pass in seconds.
    return Math.max(1000, Math.min(POLL_MS, left + 250));
  }
  return poll(POLL_MS, read, (error) => update((view) => ({ ...view, error }))).stop;
});
