/** The market's time, which is not the browser's: the simulator and replays have their own, at their own speed. */

import { derived, type Readable } from "svelte/store";
import { replay } from "../replay/replay";
import { session } from "../shared/session";
import { ticking } from "../shared/ticking";
import { stream } from "../stream/client";
import { MarketClock, sessionTime } from "./market_clock";

/** A newer message says more than what is continued. */
const FRESH_MS = 3_000;

const clock = new MarketClock();
let observed = 0;

/** The market's time in milliseconds since 1970, four times a second; null while it is unknown. */
export const marketNow: Readable<number | null> = derived(
  [session, ticking, stream().status, replay],
  ([$session, $ticking, { time, received }, $replay]) => {
    // A market that is paused is at the time that it says.
    if ($replay.replay?.paused && $replay.replay.now) return Date.parse($replay.replay.now);
    if ($session.session && $session.received > observed) {
      observed = $session.received;
      const at = sessionTime($session.session);
      if (at !== null) clock.observe(at, observed);
    }
    const newest = time !== null && received !== null && $ticking - received < FRESH_MS ? time : null;
    const continued = clock.now($ticking);
    return newest === null || continued === null ? (continued ?? newest) : Math.max(newest, continued);
  },
);
