/** How far the screen is behind the market, from the times of the lists' messages. */

import { readable, type Readable } from "svelte/store";
import { stream } from "../stream/client";

export interface Lag {
  /** The median of the last seconds in milliseconds; null before the first message. */
  milliseconds: number | null;
  /**
   * True if the market's time is the wall clock's. In a replay or a simulation it is not: then the lag is that over the
   * fastest message of the last minute.
   */
  isAbsolute: boolean;
}

const KEPT_MS = 5_000;
const BASE_MS = 60_000;
/** A market whose time differs from the browser's by more has a clock of its own. */
const WALL_MS = 5 * 60_000;
const INTERVAL_MS = 500;

export class LagMeter {
  private samples: { screen: number; difference: number }[] = [];
  /** The smallest difference of each second. */
  private base: { second: number; difference: number }[] = [];

  /** A message of the market's time `market` was on the screen at `screen`, both in milliseconds since 1970. */
  add(market: number, screen: number): void {
    const difference = screen - market;
    this.samples.push({ screen, difference });
    const second = Math.floor(screen / 1000);
    const last = this.base.at(-1);
    if (last?.second === second) last.difference = Math.min(last.difference, difference);
    else this.base.push({ second, difference });
  }

  lag(now: number): Lag {
    this.samples = this.samples.filter(({ screen }) => screen > now - KEPT_MS);
    this.base = this.base.filter(({ second }) => second * 1000 > now - BASE_MS);
    const sorted = this.samples.map(({ difference }) => difference).sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    if (median === undefined) return { milliseconds: null, isAbsolute: true };
    if (Math.abs(median) < WALL_MS) return { milliseconds: Math.max(0, median), isAbsolute: true };
    const least = Math.min(...this.base.map(({ difference }) => difference));
    return { milliseconds: median - least, isAbsolute: false };
  }
}

/** This window's lag: messages count as shown with the frame that follows them. */
export const lag: Readable<Lag> = readable<Lag>({ milliseconds: null, isAbsolute: true }, (set) => {
  const meter = new LagMeter();
  let newest: number | null = null;
  const end = stream().observe((market) => {
    if (newest === null) {
      // Hidden windows draw nothing.
      if (document.visibilityState !== "visible") return;
      requestAnimationFrame(() => {
        if (newest !== null) meter.add(newest, Date.now());
        newest = null;
      });
    }
    newest = Math.max(newest ?? market, market);
  });
  const timer = setInterval(() => set(meter.lag(Date.now())), INTERVAL_MS);
  return () => {
    end();
    clearInterval(timer);
  };
});
