/** The workspace: panels in tabs, splits, floating groups and windows of their own, by dockview. */

import { createDockview, type DockviewApi, type IDockviewPanel } from "dockview";
import { writable } from "svelte/store";
import { Content, type Host, type OpenOptions, type Saved } from "./content";
import { GroupActions, type GroupHost } from "./group_actions";
import { currentLayout, keepCurrent, parseLayout, type Layout } from "./layouts";
import { panelKind, type PanelContext, type Parameters } from "./panels";
import { PRESETS, type Preset } from "./presets";
import { PanelTab } from "./tab";

const SAVE_MS = 400;
type Direction = "left" | "right" | "up" | "down";

export class Workspace implements Host, GroupHost {
  readonly dock: DockviewApi;
  readonly contexts = new Map<string, PanelContext>();
  /** The panel beside which the menu of panels is open; undefined while it is closed. */
  readonly menu = writable<{ beside: string | undefined } | undefined>(undefined);
  /** A line for the user: what could not be done. */
  readonly notice = writable("");
  /** The groups that floating panels were in. */
  private readonly floatedFrom = new Map<string, string>();
  private saveTimer = 0;
  private isLoading = false;

  /** `isNarrow`: a phone's size, where one panel at a time is shown. */
  constructor(
    element: HTMLElement,
    readonly isNarrow: boolean,
  ) {
    this.dock = createDockview(element, {
      theme: { name: "tradeul", className: "tradeul-theme", gap: 4 },
      popoutUrl: "/popout.html",
      defaultRenderer: "onlyWhenVisible",
      floatingGroupBounds: "boundedWithinViewport",
      scrollbars: "native",
      disableDnd: isNarrow,
      createComponent: ({ name }) => new Content(this, name),
      defaultTabComponent: "tab",
      createTabComponent: () => new PanelTab(),
      ...(!isNarrow && { createRightHeaderActionComponent: (group) => new GroupActions(this, group) }),
    });
    this.dock.onDidRemovePanel(({ id }) => this.contexts.delete(id));
    this.dock.onDidLayoutChange(() => this.keepSoon());
    this.dock.onDidOpenPopoutWindowFail(() =>
      this.notice.set("The browser has blocked the window. Allow pop-ups for this page, then try again."),
    );
  }

  dispose(): void {
    clearTimeout(this.saveTimer);
    this.dock.dispose();
  }

  /** Shows the layout of this window, or the first preset. */
  restore(): void {
    const layout = currentLayout(this.isNarrow);
    if (!layout || !this.show(layout)) this.showPreset(PRESETS[0]);
  }

  /** Returns false, and leaves the workspace empty, when the layout cannot be shown. */
  show(layout: Layout): boolean {
    this.isLoading = true;
    try {
      this.dock.fromJSON(layout.dock);
      return this.dock.panels.length > 0;
    } catch (error) {
      console.error(error);
      this.dock.clear();
      return false;
    } finally {
      this.isLoading = false;
      this.keepSoon();
    }
  }

  layout(title: string): Layout {
    const layout = parseLayout({ version: 1, title, dock: this.dock.toJSON() });
    if (!layout) throw new Error("expected a layout of this workspace");
    return layout;
  }

  showPreset({ panels }: Preset): void {
    this.isLoading = true;
    this.dock.clear();
    const placed = new Map<string, IDockviewPanel>();
    for (const { id, kind, parameters = {}, colour = null, beside, side = "right" } of panels) {
      if (!panelKind(kind)) continue;
      const reference = placed.get(beside ?? "") ?? [...placed.values()].at(-1);
      const where = this.isNarrow || side === "within" ? "tab" : side;
      placed.set(id, this.open(kind, parameters, { where, colour, ...(reference && { beside: reference.id }) }));
    }
    // A version that lacks all of them.
    if (placed.size === 0) this.open("connection");
    const { width, height } = this.dock;
    for (const { id, side, share } of panels) {
      const api = placed.get(id)?.group.api;
      if (share && api && !this.isNarrow) api.setSize(side === "below" ? { height: height * share } : { width: width * share });
    }
    // The first panel of each group is in front, and the first of all has the focus.
    for (const group of this.dock.groups) group.panels[0]?.api.setActive();
    [...placed.values()][0]?.api.setActive();
    this.isLoading = false;
    this.keepSoon();
  }

  /** Adds a panel and makes it active. */
  open(kind: string, parameters: Parameters = {}, { where = "tab", beside, colour = null }: OpenOptions = {}): IDockviewPanel {
    const known = panelKind(kind);
    if (!known) throw new Error(`expected a kind of panel, was ${kind}`);
    const direction = { tab: "within", right: "right", below: "below" } as const;
    const referencePanel = beside ?? this.dock.activePanel?.id;
    const saved: Saved = { parameters: { ...known.defaults, ...parameters }, colour };
    return this.dock.addPanel({
      id: this.freeId(kind),
      component: kind,
      title: known.title,
      params: { ...saved },
      ...(referencePanel && this.dock.getPanel(referencePanel)
        ? { position: { referencePanel, direction: direction[this.isNarrow ? "tab" : where] } }
        : {}),
    });
  }

  /** Adds a panel, and moves the focus to what is written or chosen in it first. */
  add(kind: string, options?: OpenOptions): void {
    void (this.open(kind, {}, options).view.content as Content).focus();
  }

  /** Opens the menu of panels, which adds one beside `beside`. */
  requestPanel(beside: string | undefined): void {
    this.menu.set({ beside });
  }

  /** The panel with the focus, or undefined in an empty workspace. */
  get active(): IDockviewPanel | undefined {
    return this.dock.activePanel;
  }

  maximize(panel = this.active): void {
    if (!panel) return;
    if (panel.api.isMaximized()) panel.api.exitMaximized();
    else panel.api.maximize();
  }

  float(panel = this.active): void {
    if (!panel) return;
    if (panel.api.location.type !== "floating") {
      this.floatedFrom.set(panel.id, panel.group.id);
      this.dock.addFloatingGroup(panel, { width: 560, height: 380 });
      return;
    }
    // Back to its group, or to the right of all if that is gone.
    const before = this.dock.groups.find(({ id }) => id === this.floatedFrom.get(panel.id));
    panel.api.moveTo({ group: before ?? this.dock.addGroup({ direction: "right" }) });
  }

  popOut(panel = this.active): void {
    if (panel) void this.dock.addPopoutGroup(panel.group, { popoutUrl: "/popout.html" });
  }

  close(panel = this.active): void {
    panel?.api.close();
  }

  /** The panel at this place, counted by rows of groups and their tabs, from 0. */
  focus(index: number): void {
    this.activate(this.dock.groups.flatMap(({ panels }) => panels)[index]);
  }

  /** The next tab of the group, around its end. */
  turn(step: 1 | -1): void {
    const panels = this.active?.group.panels ?? [];
    const index = panels.findIndex((each) => each === this.active);
    this.activate(panels[(index + step + panels.length) % panels.length]);
  }

  /** The group that is nearest in this direction. */
  move(direction: Direction): void {
    const from = this.active?.group.element.getBoundingClientRect();
    if (!from) return;
    const centre = ({ left, top, width, height }: DOMRect) => ({ x: left + width / 2, y: top + height / 2 });
    const start = centre(from);
    let nearest: { distance: number; panel: IDockviewPanel } | null = null;
    for (const group of this.dock.groups) {
      const panel = group.activePanel;
      if (!panel || group === this.active?.group || group.api.location.type === "popout") continue;
      const { x, y } = centre(group.element.getBoundingClientRect());
      const [along, across] = direction === "left" || direction === "right" ? [x - start.x, y - start.y] : [y - start.y, x - start.x];
      const ahead = direction === "left" || direction === "up" ? -along : along;
      const distance = ahead + 2 * Math.abs(across);
      if (ahead > 8 && (!nearest || distance < nearest.distance)) nearest = { distance, panel };
    }
    if (nearest) this.activate(nearest.panel);
  }

  /** All documents that show panels: the page's, and those of windows of their own. */
  documents(): Document[] {
    return [document, ...this.dock.groups.map(({ api }) => api.getWindow().document).filter((each) => each !== document)];
  }

  private activate(panel: IDockviewPanel | undefined): void {
    panel?.api.setActive();
    panel?.focus();
  }

  private freeId(kind: string): string {
    for (let number = 1; ; number += 1) {
      const id = `${kind}-${number}`;
      if (!this.dock.getPanel(id)) return id;
    }
  }

  private keepSoon(): void {
    if (this.isLoading) return;
    clearTimeout(this.saveTimer);
    this.saveTimer = window.setTimeout(() => keepCurrent(this.layout("Current"), this.isNarrow), SAVE_MS);
  }
}
