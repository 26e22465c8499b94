/** Reads a symbol's minutes from REST, again and again while they are looked at. */

import { api } from "../shared/api";
import { newYorkDate } from "../shared/newyork";
import { poll } from "../shared/poll";
import { parseBar, type Bar, type BarJson } from "./bars";

const MINUTES_OF_A_DAY = 960;
const POLL_MS = 5_000;

/** Returns the bars of the newest day among `bars`, and that day; today if there are none. */
export function newestDay(bars: readonly Bar[], today: string): { date: string; bars: Bar[] } {
  const last = bars.at(-1);
  if (last === undefined) return { date: today, bars: [] };
  const date = newYorkDate(last.time);
  return { date, bars: bars.filter((bar) => newYorkDate(bar.time) === date) };
}

/**
 * Calls `take` with the minutes of the newest day that has any, then every few seconds with those that are new or have
 * changed; returns what ends that.
 */
export function watchMinutes(symbol: string, take: (bars: Bar[]) => void, fail: (message: string) => void): () => void {
  const path = `/api/v1/ticker/${encodeURIComponent(symbol)}/bars`;
  let from = 0;

  async function read(signal: AbortSignal): Promise<void> {
    // The newest stored minute again, too: the vendor corrects bars.
    const query = from > 0 ? { from: new Date(from * 1000).toISOString() } : { limit: MINUTES_OF_A_DAY };
    const { bars } = await api<{ bars: BarJson[] }>(path, { query, signal });
    const parsed = bars.map(parseBar);
    from = parsed.at(-1)?.time ?? from;
    take(parsed);
  }

  return poll(POLL_MS, read, fail).stop;
}
