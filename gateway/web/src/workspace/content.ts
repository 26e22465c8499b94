/** One panel's content: the component of its kind, loaded when it is first created. */

import type { IContentRenderer, IDockviewPanel } from "dockview";
import { mount, unmount } from "svelte";
import { get, writable } from "svelte/store";
import { COLOURS, type Colour } from "./link";
import { panelKind, type PanelContext, type Parameters } from "./panels";

/** What dockview keeps of a panel; a layout of a stranger may have anything there. */
export interface Saved {
  parameters: Parameters;
  colour: Colour | null;
}

function savedOf(params: Record<string, unknown>): Saved {
  const { parameters, colour } = params;
  return {
    parameters: typeof parameters === "object" && parameters !== null ? (parameters as Parameters) : {},
    colour: COLOURS.find((each) => each === colour) ?? null,
  };
}

export interface Host {
  contexts: Map<string, PanelContext>;
  open(kind: string, parameters: Parameters | undefined, options: OpenOptions): unknown;
}

export interface OpenOptions {
  where?: "tab" | "right" | "below" | undefined;
  beside?: string;
  colour?: Colour | null;
}

export class Content implements IContentRenderer {
  readonly element = document.createElement("div");
  private mounted: Record<string, unknown> | null = null;
  private shown: Promise<void> = Promise.resolve();
  private isDisposed = false;
  private readonly endings: (() => void)[] = [];

  constructor(
    private readonly host: Host,
    private readonly kind: string,
  ) {
    this.element.className = "panel-content";
  }

  init({ api, params }: { api: IDockviewPanel["api"]; params: Record<string, unknown> }): void {
    const saved = savedOf(params);
    const parameters = writable(saved.parameters);
    const colour = writable(saved.colour);
    const visible = writable(api.isVisible);
    const panel: PanelContext = {
      id: api.id,
      parameters,
      colour,
      visible,
      setTitle: (title) => {
        if (title !== api.title) api.setTitle(title);
      },
      open: (kind, given, where) => void this.host.open(kind, given, { where, beside: api.id, colour: get(colour) }),
      close: () => api.close(),
    };
    this.host.contexts.set(api.id, panel);
    const change = api.onDidVisibilityChange(({ isVisible }) => visible.set(isVisible));
    let isReady = false;
    const save = (part: Partial<Saved>): void => {
      if (isReady) api.updateParameters(part as Record<string, unknown>);
    };
    this.endings.push(
      () => change.dispose(),
      parameters.subscribe((value) => save({ parameters: value })),
      colour.subscribe((value) => save({ colour: value })),
    );
    isReady = true;
    this.shown = this.show(panel);
  }

  /** Moves the focus to what is written or chosen in the panel first, as soon as that is there. */
  async focus(): Promise<void> {
    await this.shown;
    // A dialog that has just closed returns the focus to where it was before.
    await new Promise((resolve) => setTimeout(resolve));
    const first = ["textarea", "[role=grid]", "[tabindex='0']", "button"].map((each) => this.element.querySelector<HTMLElement>(each));
    first.find((each) => each !== null)?.focus();
  }

  dispose(): void {
    this.isDisposed = true;
    for (const end of this.endings) end();
    if (this.mounted) void unmount(this.mounted);
  }

  private async show(panel: PanelContext): Promise<void> {
    const kind = panelKind(this.kind);
    if (!kind) {
      this.fail(`There is no panel "${this.kind}" in this version.`);
      return;
    }
    try {
      const { default: component } = await kind.load();
      if (!this.isDisposed) this.mounted = mount(component, { target: this.element, props: { panel } });
    } catch (error) {
      // Files of an older version are gone after an update.
      console.error(error);
      this.fail("This panel could not be loaded. Reload the page.");
    }
  }

  private fail(text: string): void {
    const message = document.createElement("p");
    message.className = "panel-failure";
    message.textContent = text;
    this.element.replaceChildren(message);
  }
}
