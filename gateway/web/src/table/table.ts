/**
 * A list as a live table, without a framework: `snapshot`, then `apply` for every delta.
 *
 * Messages change the entries at once; the elements follow once in a frame (pace.ts), and of them only the rows in view.
 */

import type { ListDelta, ListSnapshot, Row } from "../stream/types";
import { type Column, type ColumnChoice, columnsOf, defaultFields, limitWidth } from "./columns";
import { Entries, type Entry, type MembershipChange, type Sort, type Waiting } from "./entries";
import type { Field } from "./formats";
import { Header } from "./header";
import { paceOf, type Drawn, type Pace } from "./pace";
import { RowView } from "./row_view";
import { ensureStyles } from "./styles";

export interface TableOptions {
  /** Names the grid for screen readers. */
  label: string;
  columns?: ColumnChoice;
  /** Pixels; higher by itself where fingers point. */
  rowHeight?: number;
}

export interface TableEvents {
  /** A row was chosen, by a click or by Enter. */
  select: { symbol: string; row: Row };
  /** A row's menu was requested, at this position in the window. */
  menu: { symbol: string; row: Row; x: number; y: number };
  /** Rows came or left. */
  change: MembershipChange;
  /** The user has changed columns, order or widths. */
  columns: ColumnChoice;
  sort: Sort | null;
}

const ROW_HEIGHT = 22;
const COARSE_ROW_HEIGHT = 32;
/** Rows above and below those in view, so that a scroll finds them there. */
const OVERSCAN = 4;
/** So long a row that left fades, and so many at once. */
const LEAVING_MS = 260;
const MOST_LEAVING = 6;
/** Where nothing moves by itself, marks of changes last so long. */
const LIT_MS = 400;
/** A pointer that rests for so long no longer holds the ranks. */
const REST_MS = 15_000;
/** Texts are first, or rise, in ascending order. */
const ASCENDING_FIRST = new Set(["symbol", "company_name", "sector", "industry", "exchange", "security_type", "rank"]);

let tables = 0;

export class ListTable extends EventTarget implements Drawn {
  readonly element: HTMLElement;
  private readonly grid: HTMLElement;
  private readonly head: HTMLElement;
  private readonly body: HTMLElement;
  private readonly emptyText: HTMLElement;
  private readonly waitingText: HTMLElement;
  private readonly header: Header;
  private readonly entries = new Entries();
  private readonly id = `tl${++tables}`;
  private readonly observer: ResizeObserver;
  private readonly rowHeight: number;
  private fields: ReadonlyMap<string, Field> | undefined;
  private choice: ColumnChoice;
  private columns: Column[] = [];
  private sort: Sort | null = null;
  private readonly views = new Map<Entry, RowView>();
  private readonly unused: RowView[] = [];
  /** Rows that fade out, with the timers that end it. */
  private readonly leaving = new Map<RowView, number>();
  private made = 0;
  private viewHeight = 0;
  /** As of the newest scroll event: to read it anew would force a layout in each table of a frame. */
  private scrollTop = 0;
  private shownCount = -1;
  private activeSymbol = "";
  private selectedSymbol = "";
  private starred: ReadonlySet<string> = new Set();
  private readonly fresh: Entry[] = [];
  private readonly holds = new Set<string>();
  private restTimer = 0;
  private pace: Pace | null = null;
  private isStill = false;
  private readonly lit = new Map<RowView, number>();
  private dimTimer = 0;

  constructor(element: HTMLElement, options: TableOptions) {
    super();
    const document = element.ownerDocument;
    this.element = element;
    const isCoarse = document.defaultView?.matchMedia?.("(pointer: coarse)").matches ?? false;
    this.rowHeight = options.rowHeight ?? (isCoarse ? COARSE_ROW_HEIGHT : ROW_HEIGHT);
    this.choice = options.columns ?? { fields: defaultFields(""), widths: {} };
    const make = (className: string, role?: string): HTMLElement => {
      const made = document.createElement("div");
      made.className = className;
      if (role) made.setAttribute("role", role);
      return made;
    };
    this.grid = make("tl-grid", "grid");
    this.grid.tabIndex = 0;
    this.grid.setAttribute("aria-label", options.label);
    this.grid.setAttribute("aria-readonly", "true");
    this.head = make("tl-head", "rowgroup");
    this.body = make("tl-body", "rowgroup");
    this.emptyText = make("tl-empty");
    this.waitingText = make("tl-waiting");
    this.waitingText.hidden = true;
    this.header = new Header(document, {
      sort: (field) => this.toggleSort(field),
      move: (field, to) => this.moveColumn(field, to),
      resize: (field, width) => this.resizeColumn(field, width),
    });
    this.head.append(this.header.element);
    this.grid.append(this.head, this.body);
    element.classList.add("tl");
    element.style.setProperty("--tl-row", `${this.rowHeight}px`);
    element.replaceChildren(this.grid, this.emptyText, this.waitingText);
    this.listen();
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(this.grid);
    this.showColumns();
    this.measure();
  }

  /** Replaces all rows. */
  snapshot(snapshot: ListSnapshot): void {
    this.changed(this.entries.snapshot(snapshot));
  }

  /** Applies the changes of one delta; positions are the caller's to check. */
  apply(delta: ListDelta): void {
    this.changed(this.entries.apply(delta));
  }

  /** Forgets all rows, for another list: the next snapshot brings its first ones, and nobody has entered. */
  clear(): void {
    this.entries.clear();
    this.fresh.length = 0;
    this.activeSymbol = "";
    this.grid.scrollTop = this.scrollTop = 0;
    this.schedule();
  }

  get size(): number {
    return this.entries.size;
  }

  /** Rows that are not shown because their symbols are excluded. */
  get hidden(): number {
    return this.entries.hidden;
  }

  /** The rows in the order in which they are shown, with their current ranks. */
  rows(): Row[] {
    return this.entries.shown().map((entry) => ({ ...entry.row, rank: entry.rank }));
  }

  row(symbol: string): Row | undefined {
    return this.entries.get(symbol)?.row;
  }

  visibleColumns(): readonly Column[] {
    return this.columns;
  }

  setLabel(label: string): void {
    this.grid.setAttribute("aria-label", label);
  }

  /** The API's table of fields, for meanings and for fields that the page does not know. */
  setFields(fields: ReadonlyMap<string, Field>): void {
    this.fields = fields;
    this.showColumns();
  }

  setColumns(choice: ColumnChoice): void {
    this.choice = { fields: [...choice.fields], widths: { ...choice.widths } };
    this.showColumns();
  }

  setSort(sort: Sort | null): void {
    this.sort = sort;
    this.entries.setSort(sort);
    this.header.show(this.columns, sort);
    this.schedule();
  }

  setExcluded(symbols: ReadonlySet<string>): void {
    this.entries.setExcluded(symbols);
    this.schedule();
  }

  setStarred(symbols: ReadonlySet<string>): void {
    this.starred = symbols;
    this.schedule();
  }

  /** Why there are no rows; shown while there are none. */
  setEmptyText(text: string): void {
    this.emptyText.textContent = text;
  }

  /** Marks the row as the selected one, without an event. */
  select(symbol: string): void {
    if (symbol === this.selectedSymbol) return;
    this.selectedSymbol = symbol;
    this.schedule();
  }

  /** Holds the ranks for a reason of the caller's, such as an open menu, until it is released. */
  hold(reason: string, isHeld: boolean): void {
    if (isHeld) this.holds.add(reason);
    else this.holds.delete(reason);
    this.entries.hold(this.holds.size > 0);
    // What is held is what is seen now: a frame later, it could be another row that the pointer is over.
    if (isHeld) this.flush();
    else this.schedule();
  }

  focus(): void {
    this.grid.focus();
  }

  /** Shows now what the next frame would show. */
  flush(): void {
    this.pace?.cancel(this);
    this.render();
  }

  destroy(): void {
    this.pace?.remove(this);
    this.observer.disconnect();
    this.dropViews();
    this.element.ownerDocument.defaultView?.clearTimeout(this.dimTimer);
    this.element.ownerDocument.defaultView?.clearTimeout(this.restTimer);
    this.element.replaceChildren();
    this.element.classList.remove("tl");
  }

  on<Name extends keyof TableEvents>(name: Name, handler: (detail: TableEvents[Name]) => void): void {
    this.addEventListener(name, (event) => handler((event as CustomEvent<TableEvents[Name]>).detail));
  }

  private emit<Name extends keyof TableEvents>(name: Name, detail: TableEvents[Name]): void {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  private changed(change: MembershipChange | null): void {
    this.schedule();
    if (!change || change.entered.length + change.left.length === 0) return;
    for (const { symbol } of change.entered) {
      const entry = this.entries.get(symbol);
      if (entry) this.fresh.push(entry);
    }
    this.emit("change", change);
  }

  private schedule(): void {
    const window = this.element.ownerDocument.defaultView;
    if (!window) return;
    // A panel in a window of its own is drawn in that window's frames: the first one's stop when it is hidden.
    const pace = paceOf(window);
    if (pace !== this.pace) {
      this.pace?.remove(this);
      this.pace = pace;
      pace.add(this);
    }
    pace.request(this);
  }

  draw(isSlow: boolean): void {
    if (isSlow !== this.isStill) {
      this.isStill = isSlow;
      this.element.classList.toggle("tl-still", isSlow);
    }
    this.render();
    if (this.isStill) this.dim();
  }

  /** Ends marks of changes that no animation ends. */
  private dim(): void {
    const window = this.element.ownerDocument.defaultView;
    const now = performance.now();
    for (const [view, since] of this.lit) {
      if (now - since < LIT_MS) continue;
      view.calm();
      this.lit.delete(view);
    }
    for (const view of this.views.values()) if (view.isLit && !this.lit.has(view)) this.lit.set(view, now);
    if (this.lit.size > 0 && this.dimTimer === 0) {
      this.dimTimer =
        window?.setTimeout(() => {
          this.dimTimer = 0;
          this.schedule();
        }, LIT_MS) ?? 0;
    }
  }

  private render(): void {
    const shown = this.entries.shown();
    if (shown.length !== this.shownCount) this.showCount(shown.length);
    const top = Math.floor(this.scrollTop / this.rowHeight);
    const first = Math.max(0, top - OVERSCAN);
    const end = Math.min(shown.length, top + Math.ceil(this.viewHeight / this.rowHeight) + OVERSCAN);
    const inView = new Set<Entry>();
    for (let index = first; index < end; index += 1) inView.add(shown[index] as Entry);
    for (const [entry, view] of this.views) {
      if (inView.has(entry)) continue;
      this.views.delete(entry);
      if (entry.isGone && view.entry && this.leaving.size < MOST_LEAVING) this.fadeOut(view);
      else this.unused.push(view);
    }
    const isActiveInView = this.showRows(shown, first, end);
    for (const view of this.unused) if (view.entry) view.hide();
    this.showActive(isActiveInView);
    if (this.holds.size === 0) {
      for (const entry of this.fresh) entry.isNew = false;
      this.fresh.length = 0;
    }
    this.showWaiting(this.entries.waiting());
  }

  /** Returns true if the active row is among them. */
  private showRows(shown: readonly Entry[], first: number, end: number): boolean {
    let isActiveInView = false;
    for (let index = first; index < end; index += 1) {
      const entry = shown[index] as Entry;
      const { symbol } = entry;
      let view = this.views.get(entry);
      if (!view) {
        view = this.unused.pop() ?? this.makeView();
        this.views.set(entry, view);
      }
      const isActive = symbol === this.activeSymbol;
      isActiveInView ||= isActive;
      const isSelected = symbol === this.selectedSymbol;
      view.show(entry, index, index * this.rowHeight, { isActive, isSelected, isStarred: this.starred.has(symbol) });
    }
    return isActiveInView;
  }

  private fadeOut(view: RowView): void {
    const window = this.element.ownerDocument.defaultView;
    if (!window || this.isStill || window.matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.unused.push(view);
      return;
    }
    view.leave();
    const timer = window.setTimeout(() => {
      this.leaving.delete(view);
      view.hide();
      this.unused.push(view);
    }, LEAVING_MS);
    this.leaving.set(view, timer);
  }

  private makeView(): RowView {
    const view = new RowView(this.element.ownerDocument, this.columns, `${this.id}-${++this.made}`);
    this.body.append(view.element);
    return view;
  }

  private showCount(count: number): void {
    this.shownCount = count;
    this.body.style.height = `${count * this.rowHeight}px`;
    this.grid.setAttribute("aria-rowcount", String(count + 1));
    this.emptyText.hidden = count > 0;
  }

  private showActive(isInView: boolean): void {
    const view = isInView ? [...this.views.values()].find((each) => each.entry?.symbol === this.activeSymbol) : undefined;
    if (view) this.grid.setAttribute("aria-activedescendant", view.element.id);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  private showWaiting(waiting: Waiting | null): void {
    const parts: string[] = [];
    if (waiting && waiting.entered > 0) parts.push(`${waiting.entered} new`);
    if (waiting && waiting.left > 0) parts.push(`${waiting.left} gone`);
    if (waiting && waiting.moved > 0) parts.push(`${waiting.moved} moved`);
    this.waitingText.hidden = parts.length === 0;
    const text = `Held: ${parts.join(", ")}`;
    if (parts.length > 0 && this.waitingText.textContent !== text) this.waitingText.textContent = text;
  }

  private showColumns(): void {
    this.columns = columnsOf(this.choice, this.fields);
    this.header.show(this.columns, this.sort);
    this.grid.setAttribute("aria-colcount", String(this.columns.length));
    this.dropViews();
    this.showWidths();
    this.schedule();
  }

  private dropViews(): void {
    for (const timer of this.leaving.values()) this.element.ownerDocument.defaultView?.clearTimeout(timer);
    this.leaving.clear();
    this.lit.clear();
    this.views.clear();
    this.unused.length = 0;
    this.body.replaceChildren();
  }

  private showWidths(): void {
    this.element.style.setProperty("--tl-columns", this.columns.map(({ width }) => `${width}px`).join(" "));
    this.element.style.setProperty("--tl-width", `${this.columns.reduce((sum, { width }) => sum + width, 0)}px`);
  }

  private measure(): void {
    ensureStyles(this.element);
    const height = this.grid.clientHeight;
    // What was out of sight and is shown again must not flash for what happened meanwhile.
    if (this.viewHeight === 0 && height > 0) for (const view of this.views.values()) view.calm();
    this.viewHeight = height;
    this.schedule();
  }

  private toggleSort(field: string): void {
    const isFirst = this.sort?.field !== field;
    const startsDescending = !ASCENDING_FIRST.has(field);
    if (field === "rank") this.setSort(null);
    else if (isFirst) this.setSort({ field, descending: startsDescending });
    else if (this.sort?.descending === startsDescending) this.setSort({ field, descending: !startsDescending });
    else this.setSort(null);
    this.emit("sort", this.sort);
  }

  private moveColumn(field: string, to: number): void {
    const fields = this.choice.fields.filter((each) => each !== field);
    fields.splice(to, 0, field);
    this.choice = { ...this.choice, fields };
    this.showColumns();
    this.emit("columns", this.choice);
  }

  private resizeColumn(field: string, width: number | null): void {
    const { [field]: _, ...widths } = this.choice.widths;
    this.choice = { ...this.choice, widths: width === null ? widths : { ...widths, [field]: limitWidth(width) } };
    // Rows follow the widths by a property of the table: their elements stay.
    this.columns = columnsOf(this.choice, this.fields);
    this.header.resize(this.columns);
    for (const view of [...this.views.values(), ...this.unused]) view.resize(this.columns);
    this.showWidths();
    this.emit("columns", this.choice);
  }

  private listen(): void {
    this.grid.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => this.choose(this.symbolAt(event)));
    this.body.addEventListener("contextmenu", (event) => {
      const symbol = this.symbolAt(event);
      if (symbol && this.openMenu(symbol, event.clientX, event.clientY)) event.preventDefault();
    });
    // A finger's touch is no hovering.
    this.body.addEventListener("pointermove", (event) => event.pointerType !== "touch" && this.holdUnderPointer());
    this.body.addEventListener("pointerleave", () => this.releasePointer());
  }

  private scrolled(): void {
    this.scrollTop = this.grid.scrollTop;
    this.schedule();
  }

  private holdUnderPointer(): void {
    const window = this.element.ownerDocument.defaultView;
    window?.clearTimeout(this.restTimer);
    this.restTimer = window?.setTimeout(() => this.releasePointer(), REST_MS) ?? 0;
    if (!this.holds.has("pointer")) this.hold("pointer", true);
  }

  private releasePointer(): void {
    this.element.ownerDocument.defaultView?.clearTimeout(this.restTimer);
    if (this.holds.has("pointer")) this.hold("pointer", false);
  }

  private symbolAt(event: Event): string {
    return (event.target as Element).closest<HTMLElement>(".tl-row")?.dataset["symbol"] ?? "";
  }

  private choose(symbol: string): void {
    const row = this.entries.get(symbol)?.row;
    if (!row) return;
    this.activeSymbol = this.selectedSymbol = symbol;
    this.schedule();
    this.emit("select", { symbol, row });
  }

  private openMenu(symbol: string, x: number, y: number): boolean {
    const row = this.entries.get(symbol)?.row;
    if (!row) return false;
    this.emit("menu", { symbol, row, x, y });
    return true;
  }

  private key(event: KeyboardEvent): void {
    if (event.target !== this.grid || event.altKey || event.ctrlKey || event.metaKey) return;
    const shown = this.entries.shown();
    const page = Math.max(1, Math.floor(this.viewHeight / this.rowHeight) - 2);
    const at = shown.findIndex((entry) => entry.symbol === this.activeSymbol);
    const { key } = event;
    if (key === "ArrowDown") this.moveTo(at + 1);
    else if (key === "ArrowUp") this.moveTo(at < 0 ? 0 : at - 1);
    else if (key === "PageDown") this.moveTo(at + page);
    else if (key === "PageUp") this.moveTo(at - page);
    else if (key === "Home") this.moveTo(0);
    else if (key === "End") this.moveTo(shown.length - 1);
    else if (key === "Enter" || key === " ") this.choose(this.activeSymbol);
    else if (key === "ContextMenu" || (key === "F10" && event.shiftKey)) this.menuAtActive();
    else return;
    event.preventDefault();
  }

  private menuAtActive(): void {
    const view = [...this.views.values()].find((each) => each.entry?.symbol === this.activeSymbol);
    const box = view?.element.getBoundingClientRect();
    if (box) this.openMenu(this.activeSymbol, box.left + 24, box.bottom);
  }

  private moveTo(index: number): void {
    const shown = this.entries.shown();
    const at = Math.min(shown.length - 1, Math.max(0, index));
    const entry = shown[at];
    if (!entry) return;
    this.activeSymbol = entry.symbol;
    const top = at * this.rowHeight;
    // The header covers the first row's height of what is in view.
    const room = this.viewHeight - 2 * this.rowHeight;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top > this.grid.scrollTop + room) this.grid.scrollTop = top - room;
    this.scrolled();
    this.flush();
  }
}
