/** Dark, light, or as the system is: kept by the browser, the same in all windows. */

import { derived, readable, type Readable } from "svelte/store";
import { stored } from "../shared/stored";

export const THEMES = ["system", "dark", "light"] as const;
export type Theme = (typeof THEMES)[number];
export type Shown = "dark" | "light";

export const theme = stored<Theme>("tradeul.theme", (value) => THEMES.find((each) => each === value) ?? null, "system");

const systemIsLight = readable(false, (set) => {
  const query = matchMedia("(prefers-color-scheme: light)");
  const change = (): void => set(query.matches);
  change();
  query.addEventListener("change", change);
  return () => query.removeEventListener("change", change);
});

/** What is shown. */
export const shown: Readable<Shown> = derived([theme, systemIsLight], ([$theme, $isLight]) =>
  $theme === "system" ? ($isLight ? "light" : "dark") : $theme,
);

/** Keeps the document's theme; returns what ends that. */
export function followTheme(documents: () => Iterable<Document>): () => void {
  return shown.subscribe((value) => {
    for (const each of documents()) each.documentElement.dataset["theme"] = value;
  });
}

export function nextTheme(): void {
  theme.update((value) => THEMES[(THEMES.indexOf(value) + 1) % THEMES.length] ?? "system");
}
