/** Workspaces to begin with. Panels of a kind that this version lacks are left out. */

import type { Colour } from "./link";
import type { Parameters } from "./panels";

export interface PresetPanel {
  id: string;
  kind: string;
  parameters?: Parameters;
  colour?: Colour;
  /** Beside which earlier panel, and on which side; without one it begins the workspace. */
  beside?: string;
  side?: "right" | "below" | "within";
  /** The part of the workspace's width or height that it begins with. */
  share?: number;
}

export interface Preset {
  name: string;
  title: string;
  about: string;
  panels: PresetPanel[];
}

const list = (id: string, name: string, rest: Partial<PresetPanel> = {}): PresetPanel => ({
  id, kind: "list", parameters: { list: name }, colour: "blue", ...rest,
}); // prettier-ignore

const symbol = (rest: Partial<PresetPanel> = {}): PresetPanel => ({
  id: "symbol", kind: "symbol", colour: "blue", ...rest,
}); // prettier-ignore

const market = (rest: Partial<PresetPanel> = {}): PresetPanel => ({ id: "market", kind: "market", colour: "blue", ...rest });

export const PRESETS: readonly [Preset, ...Preset[]] = [
  {
    name: "gappers",
    title: "Gappers",
    about: "What opened far from yesterday's close, with a chart: the first hour",
    panels: [
      list("up", "gappers_up", { share: 0.56 }),
      symbol({ beside: "up", side: "right" }),
      list("down", "gappers_down", { beside: "up", side: "below", share: 0.4 }),
      list("volume", "high_volume", { beside: "down", side: "within" }),
      market({ beside: "symbol", side: "below", share: 0.42 }),
      list("halts", "halts", { beside: "market", side: "within" }),
    ],
  },
  {
    name: "momentum",
    title: "Momentum",
    about: "What is moving now: momentum both ways, new highs and unusual volume",
    panels: [
      list("up", "momentum_up", { share: 0.56 }),
      symbol({ beside: "up", side: "right" }),
      list("down", "momentum_down", { beside: "up", side: "below", share: 0.36 }),
      list("highs", "new_highs", { beside: "symbol", side: "below", share: 0.4 }),
      list("lows", "new_lows", { beside: "highs", side: "within" }),
      list("volume", "high_volume", { beside: "highs", side: "within" }),
      list("anomalies", "anomalies", { beside: "down", side: "within" }),
    ],
  },
  {
    name: "halts",
    title: "Halts",
    about: "Halted symbols with their resume times, and what happens around them",
    panels: [
      list("halts", "halts", { share: 0.56 }),
      symbol({ beside: "halts", side: "right" }),
      list("reversals", "reversals", { beside: "halts", side: "below", share: 0.5 }),
      market({ beside: "symbol", side: "below", share: 0.42 }),
      list("anomalies", "anomalies", { beside: "reversals", side: "within" }),
    ],
  },
];

export function preset(name: string): Preset {
  return PRESETS.find((each) => each.name === name) ?? PRESETS[0];
}
