/** Which symbol a panel shows: that of its colour, or its own. */

import { derived, get, type Readable } from "svelte/store";
import { link, links } from "../workspace/link";
import type { PanelContext } from "../workspace/panels";

/** Returns the panel's symbol, "" without one. A panel that leaves its colour keeps the symbol. */
export function symbolOf({ parameters, colour }: PanelContext): Readable<string> {
  return derived([parameters, colour, links], ([$parameters, $colour, $links]) => {
    const own = typeof $parameters["symbol"] === "string" ? $parameters["symbol"] : "";
    return ($colour && $links[$colour]) || own;
  });
}

/** Turns the panel, and with it all panels of its colour, to a symbol. */
export function showSymbol({ parameters, colour }: PanelContext, symbol: string): void {
  if (get(parameters)["symbol"] !== symbol) parameters.update((before) => ({ ...before, symbol }));
  const linked = get(colour);
  if (linked) link(linked, symbol);
}
