/** Linked panels: a click on a symbol turns all panels of the same colour to it, in every window of this browser. */

import { writable, type Readable } from "svelte/store";

export const COLOURS = ["blue", "orange", "violet", "teal"] as const;
export type Colour = (typeof COLOURS)[number];

const NAME = "tradeul.links";
type Links = Partial<Record<Colour, string>>;

const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(NAME);
const { subscribe, update } = writable<Links>(read());

function read(): Links {
  try {
    return JSON.parse(localStorage.getItem(NAME) ?? "{}") as Links;
  } catch {
    return {};
  }
}

function set(colour: Colour, symbol: string): void {
  update((links) => (links[colour] === symbol ? links : { ...links, [colour]: symbol }));
}

channel?.addEventListener("message", ({ data }: MessageEvent<{ colour: Colour; symbol: string }>) =>
  set(data.colour, data.symbol),
);

/** The symbol of each colour. */
export const links: Readable<Links> = { subscribe };

/** Turns the panels of `colour` to `symbol`. */
export function link(colour: Colour, symbol: string): void {
  set(colour, symbol);
  localStorage.setItem(NAME, JSON.stringify({ ...read(), [colour]: symbol }));
  channel?.postMessage({ colour, symbol });
}
