/** What the mesh says of itself (/health), read while anybody looks at it. */

import { readable } from "svelte/store";
import { poll } from "./poll";

export interface Health {
  /** The degraded parts of the mesh, as sentences. */
  warnings: string[];
}

const POLL_MS = 15_000;

export const health = readable<Health>({ warnings: [] }, (set) => {
  async function read(signal: AbortSignal): Promise<void> {
    const { services = {}, warnings = [] } = (await (await fetch("/health", { signal })).json()) as {
      services?: Record<string, string>;
      warnings?: string[];
    };
    const down = Object.entries(services).filter(([, state]) => state !== "SERVING");
    set({ warnings: [...down.map(([name, state]) => `${name}: ${state.toLowerCase().replaceAll("_", " ")}`), ...warnings] });
  }
  // Of a failure, the connection's state says it already.
  return poll(POLL_MS, read, () => set({ warnings: [] })).stop;
});
