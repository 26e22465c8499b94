/** The browser's time in milliseconds since 1970, four times a second, while anybody looks at it. */

import { readable } from "svelte/store";

export const ticking = readable(Date.now(), (set) => {
  set(Date.now());
  const timer = setInterval(() => set(Date.now()), 250);
  return () => clearInterval(timer);
});
