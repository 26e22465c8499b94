/** Opens the search for a symbol from anywhere: `find()`. One <Find> in the page's frame shows it. */

import { writable, type Readable } from "svelte/store";

export interface FindRequest {
  /** What was typed already. */
  query?: string;
  onchoose: (symbol: string) => void;
}

const { subscribe, set } = writable<FindRequest | null>(null);

/** The open search, or null. */
export const findRequest: Readable<FindRequest | null> = { subscribe };

export function find(request: FindRequest): void {
  set(request);
}

export function closeFind(): void {
  set(null);
}
