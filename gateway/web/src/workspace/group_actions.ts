/** The buttons at the right of each group's tabs: link colour, a window of its own, the whole workspace, another panel. */

import type { DockviewGroupPanel, IDockviewPanel, IHeaderActionsRenderer } from "dockview";
import { COLOURS } from "./link";
import type { PanelContext } from "./panels";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  add: "M8 3v10M3 8h10",
  maximize: "M3 3h10v10H3z",
  popout: "M9 3h4v4M13 3L7 9M11 9v4H3V5h4",
  colour: "M6.5 9.5l3-3M7 5l1.5-1.5a2.5 2.5 0 0 1 4 4L11 9M9 11l-1.5 1.5a2.5 2.5 0 0 1-4-4L5 7",
};

function icon(path: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** What the buttons do, to the panel that is in front. */
export interface GroupHost {
  readonly contexts: ReadonlyMap<string, PanelContext>;
  requestPanel(beside: string | undefined): void;
  popOut(panel: IDockviewPanel | undefined): void;
  maximize(panel: IDockviewPanel | undefined): void;
}

export class GroupActions implements IHeaderActionsRenderer {
  readonly element = document.createElement("div");
  private readonly colour: HTMLButtonElement;
  private readonly endings: (() => void)[] = [];
  private endColour = (): void => {};

  constructor(
    private readonly workspace: GroupHost,
    private readonly group: DockviewGroupPanel,
  ) {
    this.element.className = "group-actions";
    this.colour = this.button("colour", "Link colour", () => this.nextColour());
    this.button("add", "Add a panel here", () => workspace.requestPanel(group.activePanel?.id));
    this.button("popout", "To a window of its own", () => workspace.popOut(group.activePanel));
    this.button("maximize", "Maximize", () => workspace.maximize(group.activePanel));
  }

  init(): void {
    const change = this.group.api.onDidActivePanelChange(() => this.followColour());
    this.endings.push(() => change.dispose());
    this.followColour();
  }

  dispose(): void {
    this.endColour();
    for (const end of this.endings) end();
  }

  private button(name: keyof typeof ICONS, title: string, run: () => void): HTMLButtonElement {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `plain action-${name}`;
    button.title = title;
    button.setAttribute("aria-label", title);
    button.append(icon(ICONS[name]));
    button.addEventListener("click", run);
    this.element.append(button);
    return button;
  }

  private context() {
    return this.workspace.contexts.get(this.group.activePanel?.id ?? "");
  }

  private nextColour(): void {
    this.context()?.colour.update((value) => {
      const next = value === null ? 0 : COLOURS.indexOf(value) + 1;
      return COLOURS[next] ?? null;
    });
  }

  private followColour(): void {
    this.endColour();
    this.endColour = () => {};
    // The panel's content may not exist yet when the group says that it is active.
    queueMicrotask(() => {
      this.endColour();
      const end = this.context()?.colour.subscribe((value) => {
        this.colour.dataset["colour"] = value ?? "none";
        const title = value ? `Linked: ${value}; press for the next colour` : "Not linked; press to link by colour";
        this.colour.title = title;
        this.colour.setAttribute("aria-label", title);
      });
      this.endColour = end ?? (() => {});
    });
  }
}
