/** What the gateway tells its pages (/site.json): whether keys are required, whose market and whose clock it is. */

import { readable } from "svelte/store";

export interface Site {
  keys: "required" | "off";
  market: "simulator" | "vendor";
  /** `feed`: a replay or a simulation, whose time is its own. */
  clock: "wall" | "feed";
}

const RETRY_MS = 5_000;

export const site = readable<Site | null>(null, (set) => {
  let timer = 0;
  async function read(): Promise<void> {
    try {
      const answer = await fetch("/site.json");
      set((await answer.json()) as Site);
    } catch {
      timer = window.setTimeout(() => void read(), RETRY_MS);
    }
  }
  void read();
  return () => clearTimeout(timer);
});
