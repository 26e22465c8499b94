/** The frame's actions: all that the keyboard, the palette and the top bar can do. */

import { find } from "../find/find";
import type { Action } from "./actions";
import { link } from "./link";
import { PANELS } from "./panels";
import { PRESETS } from "./presets";
import { get, readable } from "svelte/store";
import { nextTheme } from "./theme";
import type { Workspace } from "./workspace";

/** The dialog that is open. */
export type Opened = "none" | "palette" | "panels" | "layouts" | "help" | "about" | "key";

export const HANDS_FREE = "leaders";
const SHOW_SYMBOLS = ["symbol", "chart"];

function toggleHandsFree(workspace: Workspace): void {
  const there = workspace.dock.panels.find(({ view }) => view.contentComponent === HANDS_FREE);
  if (there) {
    there.api.close();
    return;
  }
  const panel = workspace.open(HANDS_FREE);
  if (!workspace.isNarrow) panel.api.maximize();
}

/** Turns the linked panels to the symbol that is chosen, those of the active panel's colour; opens a panel where none shows it. */
export function findSymbol(workspace: Workspace, query = ""): void {
  const colour = get(workspace.contexts.get(workspace.active?.id ?? "")?.colour ?? readable(null)) ?? "blue";
  find({
    query,
    onchoose: (symbol) => {
      link(colour, symbol);
      const shows = workspace.dock.panels.find(
        ({ id, view }) => SHOW_SYMBOLS.includes(view.contentComponent) && get(workspace.contexts.get(id)?.colour ?? readable(null)) === colour,
      );
      if (shows) shows.api.setActive();
      else workspace.open("symbol", {}, { where: "right", colour });
    },
  });
}

export function frameActions(workspace: Workspace, open: (dialog: Opened) => void): Action[] {
  return [
    { id: "find", group: "Find", title: "Find a symbol: type its ticker or name, from anywhere", keys: ["/"], run: () => findSymbol(workspace) },
    { id: "palette", group: "Find", title: "Search commands and panels", keys: ["Ctrl+k"], run: () => open("palette") },
    {
      id: "add", group: "Panels", title: "Add a panel", keys: ["Alt+n"],
      run: () => workspace.requestPanel(workspace.active?.id),
    },
    {
      id: "scan", group: "Panels", title: "New scan: a filter of your own", keys: ["Alt+s"],
      run: () => workspace.add("scan", { colour: "blue" }),
    },
    { id: "close", group: "Panels", title: "Close the panel", keys: ["Alt+w"], run: () => workspace.close() },
    { id: "maximize", group: "Panels", title: "Maximize or restore the panel", keys: ["Alt+m"], run: () => workspace.maximize() },
    { id: "float", group: "Panels", title: "Float or dock the panel", keys: ["Alt+f"], run: () => workspace.float() },
    { id: "popout", group: "Panels", title: "Move the group to a window of its own", keys: ["Alt+o"], run: () => workspace.popOut() },
    { id: "left", group: "Panels", title: "Go to the panel on the left", keys: ["Alt+ArrowLeft"], run: () => workspace.move("left") },
    { id: "right", group: "Panels", title: "Go to the panel on the right", keys: ["Alt+ArrowRight"], run: () => workspace.move("right") },
    { id: "up", group: "Panels", title: "Go to the panel above", keys: ["Alt+ArrowUp"], run: () => workspace.move("up") },
    { id: "down", group: "Panels", title: "Go to the panel below", keys: ["Alt+ArrowDown"], run: () => workspace.move("down") },
    { id: "next", group: "Panels", title: "Next tab", keys: ["Alt+PageDown"], run: () => workspace.turn(1) },
    { id: "previous", group: "Panels", title: "Previous tab", keys: ["Alt+PageUp"], run: () => workspace.turn(-1) },
    ...Array.from({ length: 9 }, (_, index): Action => ({
      id: `panel-${index + 1}`, group: "Panels", title: `Go to panel ${index + 1}`, keys: [`Alt+${index + 1}`],
      run: () => workspace.focus(index),
    })),
    { id: "layouts", group: "Workspace", title: "Layouts: save, open, share", keys: ["Alt+l"], run: () => open("layouts") },
    ...PRESETS.map((preset, index): Action => ({
      id: `preset-${preset.name}`, group: "Workspace", title: `Preset: ${preset.title}`, keys: [`F${index + 2}`],
      run: () => workspace.showPreset(preset),
    })),
    ...(PANELS.some(({ kind }) => kind === HANDS_FREE)
      ? [{ id: "hands-free", group: "View", title: "Hands-free: the leaders of each list in turn", keys: ["Alt+h"],
           run: () => toggleHandsFree(workspace) } satisfies Action]
      : []),
    { id: "theme", group: "View", title: "Theme: system, dark, light", keys: ["Alt+t"], run: nextTheme },
    { id: "key", group: "Workspace", title: "API key", keys: [], run: () => open("key") },
    { id: "help", group: "View", title: "Keyboard shortcuts", keys: ["?", "F1"], run: () => open("help") },
    { id: "about", group: "View", title: "About and licences", keys: [], run: () => open("about") },
  ]; // prettier-ignore
}
