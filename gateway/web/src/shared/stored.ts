/** A store of Svelte that this browser keeps: the same in all windows of the origin, and after a restart. */

import { writable, type Writable } from "svelte/store";

/**
 * Returns the store of `key`. `parse` makes a value of what was stored, perhaps by another version, and of null if nothing
 * was; it returns null for what it cannot use.
 */
export function stored<T>(key: string, parse: (stored: unknown) => T | null, initial: T): Writable<T> {
  const store = writable<T>(read(key, parse) ?? initial);
  globalThis.addEventListener?.("storage", (event) => {
    if (event.key === key || event.key === null) store.set(read(key, parse) ?? initial);
  });
  const save = (value: T): void => {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      // Without room, or where storage is not allowed, it lasts as long as the window.
    }
  };
  return {
    subscribe: store.subscribe,
    set: (value) => {
      save(value);
      store.set(value);
    },
    update: (change) =>
      store.update((value) => {
        const changed = change(value);
        save(changed);
        return changed;
      }),
  };
}

function read<T>(key: string, parse: (stored: unknown) => T | null): T | null {
  try {
    return parse(JSON.parse(localStorage.getItem(key) ?? "null"));
  } catch {
    return null;
  }
}
