/** What the API says of its lists and fields: read once, and again until it answers. */

import { readable, type Readable } from "svelte/store";
import { api } from "../shared/api";
import type { Field } from "../table/formats";

/** A built-in list, as in /api/v1/scanner/lists. */
export interface ListDefinition {
  list: string;
  title: string;
  filter?: string;
  order_by?: string;
  base_filter?: string;
  uses_scanner_filters?: boolean;
  limit: number;
}

const RETRY_MS = 2_000;

/** Loaded with the first subscriber, and kept. */
function loaded<T>(initial: T, load: () => Promise<T>): Readable<T> {
  let isLoaded = false;
  return readable(initial, (set) => {
    if (isLoaded) return;
    let isWanted = true;
    const attempt = (): void => {
      load().then(
        (value) => {
          isLoaded = true;
          set(value);
        },
        // Without a key, or while the scanner starts: what is shown meanwhile needs none of it.
        () => isWanted && setTimeout(attempt, RETRY_MS),
      );
    };
    attempt();
    return () => (isWanted = false);
  });
}

/** The fields by name; empty until they are loaded. */
export const fields: Readable<ReadonlyMap<string, Field>> = loaded(new Map(), async () => {
  const answer = await api<{ fields: (Pick<Field, "name" | "type"> & Partial<Field>)[] }>("/api/v1/scanner/fields");
  return new Map(answer.fields.map((field) => [field.name, { unit: "", meaning: "", values: [], ...field }]));
});

/** The built-in lists in the order of their definitions; empty until they are loaded. */
export const definitions: Readable<ReadonlyMap<string, ListDefinition>> = loaded(new Map(), async () => {
  const answer = await api<{ lists: ListDefinition[] }>("/api/v1/scanner/lists");
  return new Map(answer.lists.map((definition) => [definition.list, definition]));
});

/** gappers_up as "Gappers up", until the titles are loaded. */
export function titleOf(list: string, known: ReadonlyMap<string, ListDefinition>): string {
  const words = list.replaceAll("_", " ");
  return known.get(list)?.title ?? words.charAt(0).toUpperCase() + words.slice(1);
}
