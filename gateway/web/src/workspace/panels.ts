/**
 * The kinds of panels. To add one: a Svelte component that takes `PanelProps`, and an entry here.
 *
 * `load` is a dynamic import, so that what a kind needs (the charts' library) is fetched with its first panel.
 */

import type { Component } from "svelte";
import type { Writable } from "svelte/store";
import { NEW_SCAN } from "../scan/own_scans";
import type { Colour } from "./link";

/** What a panel is asked to show, saved with the layout: JSON values only. */
export type Parameters = Record<string, unknown>;

export interface PanelContext {
  /** The panel's id in the workspace. */
  id: string;
  /** Saved with the layout whenever it is set. */
  parameters: Writable<Parameters>;
  /** The panel's link colour, or null; the frame shows and changes it. */
  colour: Writable<Colour | null>;
  /** Whether the panel is visible: without it, a panel need not draw. */
  visible: Writable<boolean>;
  /** Sets the text of the panel's tab. */
  setTitle(title: string): void;
  /** Adds a panel beside this one, as a tab or to the right of it. */
  open(kind: string, parameters?: Parameters, where?: "tab" | "right" | "below"): void;
  close(): void;
}

export interface PanelProps {
  panel: PanelContext;
}

export interface PanelKind {
  kind: string;
  title: string;
  /** One line for the menu of panels. */
  about: string;
  load(): Promise<{ default: Component<PanelProps> }>;
  defaults: Parameters;
  /** Shown in the menu and the palette; false for kinds that only others open. */
  isListed?: boolean;
}

export const PANELS: PanelKind[] = [
  {
    kind: "list",
    title: "List",
    about: "A ranked list, live, with its columns, alerts and log",
    load: () => import("../table/ListPanel.svelte"),
    defaults: { list: "gappers_up" },
  },
  {
    kind: "scan",
    title: "Scan",
    about: "A scan of your own: filter, order, number of matches",
    load: () => import("../table/ListPanel.svelte"),
    defaults: { scan: { ...NEW_SCAN } },
  },
  {
    kind: "watch",
    title: "Watch list",
    about: "The symbols that you watch",
    load: () => import("../table/ListPanel.svelte"),
    defaults: { watch: true },
  },
  {
    kind: "alerts",
    title: "Alerts",
    about: "What has just happened, live; sounds by rule, and rules of your own",
    load: () => import("../alerts/AlertPanel.svelte"),
    defaults: {},
  },
  {
    kind: "symbol",
    title: "Symbol",
    about: "A symbol's chart, its volume against the usual, facts and company",
    load: () => import("../symbol/SymbolPanel.svelte"),
    defaults: {},
  },
  {
    kind: "chart",
    title: "Chart",
    about: "A symbol's chart of today",
    load: () => import("../symbol/SymbolPanel.svelte"),
    defaults: { content: "chart" },
  },
  {
    kind: "market",
    title: "Market",
    about: "The session, breadth, a heat map of the sectors and halts",
    load: () => import("../market/MarketPanel.svelte"),
    defaults: {},
  },
  {
    kind: "leaders",
    title: "Hands-free",
    about: "The leaders of each list in turn, large enough to read from afar",
    load: () => import("../leaders/Leaders.svelte"),
    defaults: {},
  },
  {
    kind: "connection",
    title: "Connection",
    about: "The stream's state, and the position of each list",
    load: () => import("./Connection.svelte"),
    defaults: {},
  },
];

export function panelKind(kind: string): PanelKind | undefined {
  return PANELS.find((each) => each.kind === kind);
}
