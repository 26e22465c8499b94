/** A panel's tab: its title, and for the mouse a sign that closes it. The keys are Alt+W, and Delete on the tab. */

import type { ITabRenderer, TabPartInitParameters } from "dockview";

export class PanelTab implements ITabRenderer {
  readonly element = document.createElement("div");
  private readonly title = document.createElement("div");
  /** No button: a tab may have none inside, and its keys do the same. */
  private readonly sign = document.createElement("div");
  private readonly endings: (() => void)[] = [];

  constructor() {
    this.element.className = "dv-default-tab";
    this.title.className = "dv-default-tab-content";
    this.sign.className = "dv-default-tab-action";
    this.sign.setAttribute("aria-hidden", "true");
    this.sign.textContent = "✕";
    this.element.append(this.title, this.sign);
  }

  init({ api, title }: TabPartInitParameters): void {
    const change = api.onDidTitleChange((event) => this.show(event.title));
    this.endings.push(() => change.dispose());
    // The tab itself becomes active, or is dragged, by what is pressed in it.
    this.sign.addEventListener("pointerdown", (event) => event.preventDefault());
    this.sign.addEventListener("click", (event) => {
      event.preventDefault();
      api.close();
    });
    this.show(title);
  }

  dispose(): void {
    for (const end of this.endings) end();
  }

  private show(title: string): void {
    this.title.textContent = title;
    this.sign.title = `Close ${title} (Alt W)`;
  }
}
