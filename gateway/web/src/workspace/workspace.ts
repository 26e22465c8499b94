/** The workspace: panels in tabs, splits, floating groups and windows of their own, by dockview. */

import { createDockview, type DockviewApi, type IContentRenderer, type IDockviewPanel } from "dockview";
import { mount, unmount } from "svelte";
import { writable } from "svelte/store";
import type { Colour } from "./link";
import { panelKind, type PanelContext, type Parameters } from "./panels";

interface Saved {
  parameters: Parameters;
  colour: Colour | null;
}

/** One panel's content: the component of its kind, loaded when it is first created. */
class Content implements IContentRenderer {
  readonly element = document.createElement("div");
  private mounted: Record<string, unknown> | null = null;
  private isDisposed = false;
  private readonly endings: (() => void)[] = [];

  constructor(
    private readonly workspace: Workspace,
    private readonly kind: string,
  ) {
    this.element.className = "panel-content";
  }

  init({ api, params }: { api: IDockviewPanel["api"]; params: Record<string, unknown> }): void {
    const saved = params as unknown as Saved;
    const parameters = writable<Parameters>(saved.parameters ?? {});
    const colour = writable<Colour | null>(saved.colour ?? null);
    const visible = writable(api.isVisible);
    const panel: PanelContext = {
      id: api.id,
      parameters,
      colour,
      visible,
      setTitle: (title) => api.setTitle(title),
      open: (kind, given, where) => void this.workspace.open(kind, given, { where, beside: api.id }),
      close: () => api.close(),
    };
    this.workspace.contexts.set(api.id, panel);
    const change = api.onDidVisibilityChange(({ isVisible }) => visible.set(isVisible));
    let isFirst = true;
    const save = (part: Partial<Saved>): void => {
      if (!isFirst) api.updateParameters(part as Record<string, unknown>);
    };
    this.endings.push(
      () => change.dispose(),
      parameters.subscribe((value) => save({ parameters: value })),
      colour.subscribe((value) => save({ colour: value })),
    );
    isFirst = false;
    void this.show(panel);
  }

  dispose(): void {
    this.isDisposed = true;
    for (const end of this.endings) end();
    if (this.mounted) void unmount(this.mounted);
  }

  private async show(panel: PanelContext): Promise<void> {
    const kind = panelKind(this.kind);
    if (!kind) {
      this.element.textContent = `There is no panel "${this.kind}" in this version.`;
      return;
    }
    try {
      const { default: component } = await kind.load();
      if (!this.isDisposed) this.mounted = mount(component, { target: this.element, props: { panel } });
    } catch (error) {
      // Files of an older version are gone after an update.
      this.element.textContent = `This panel could not be loaded (${String(error)}). Reload the page.`;
    }
  }
}

export class Workspace {
  readonly dock: DockviewApi;
  readonly contexts = new Map<string, PanelContext>();

  constructor(element: HTMLElement) {
    this.dock = createDockview(element, {
      theme: { name: "tradeul", className: "tradeul-theme", gap: 4 },
      popoutUrl: "/popout.html",
      defaultRenderer: "onlyWhenVisible",
      floatingGroupBounds: "boundedWithinViewport",
      createComponent: ({ name }) => new Content(this, name),
    });
    this.dock.onDidRemovePanel(({ id }) => this.contexts.delete(id));
  }

  /** Adds a panel and makes it active. */
  open(
    kind: string,
    parameters: Parameters = {},
    { where = "tab", beside, colour = null }: {
      where?: "tab" | "right" | "below" | undefined;
      beside?: string;
      colour?: Colour | null;
    } = {},
  ): IDockviewPanel {
    const known = panelKind(kind);
    if (!known) throw new Error(`expected a kind of panel, was ${kind}`);
    const direction = { tab: "within", right: "right", below: "below" } as const;
    const referencePanel = beside ?? this.dock.activePanel?.id;
    const saved: Saved = { parameters: { ...known.defaults, ...parameters }, colour };
    return this.dock.addPanel({
      id: this.freeId(kind),
      component: kind,
      title: known.title,
      params: saved as unknown as Record<string, unknown>,
      ...(referencePanel && this.dock.getPanel(referencePanel)
        ? { position: { referencePanel, direction: direction[where] } }
        : {}),
    });
  }

  private freeId(kind: string): string {
    for (let number = 1; ; number += 1) {
      const id = `${kind}-${number}`;
      if (!this.dock.getPanel(id)) return id;
    }
  }
}
