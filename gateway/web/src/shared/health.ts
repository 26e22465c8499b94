/** What the mesh says of itself (/health), read while anybody looks at it. */

import { readable } from "svelte/store";

export interface Health {
  /** The degraded parts of the mesh, as sentences. */
  warnings: string[];
}

const POLL_MS = 15_000;

export const health = readable<Health>({ warnings: [] }, (set) => {
  let timer = 0;
  async function read(): Promise<void> {
    try {
      const { services = {}, warnings = [] } = (await (await fetch("/health")).json()) as {
        services?: Record<string, string>;
        warnings?: string[];
      };
      const down = Object.entries(services).filter(([, state]) => state !== "SERVING");
      set({ warnings: [...down.map(([name, state]) => `${name}: ${state.toLowerCase().replaceAll("_", " ")}`), ...warnings] });
    } catch {
      // The connection's state says it already.
      set({ warnings: [] });
    }
    timer = window.setTimeout(() => void read(), POLL_MS);
  }
  void read();
  return () => clearTimeout(timer);
});
