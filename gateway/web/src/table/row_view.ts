/** One row's elements. They are made once, filled with one symbol after another, and touched only where a text differs. */

import { BADGE_FIELDS, type Badge, badgesOf } from "./badges";
import type { Column } from "./columns";
import type { Entry } from "./entries";
import type { Row, Value } from "../stream/types";

/** Two names of one animation: the other one starts it anew without a forced layout. */
const FLASHES = ["tl-flash-a", "tl-flash-b"] as const;

/** More than a digit of the table's font is wide, and a column's padding: longer texts are clipped. */
const LETTER_WIDTH = 8;
const PADDING = 12;
/** The same of a badge, whose letters are smaller; with its border and what separates it. */
const BADGE_LETTER_WIDTH = 7;
const BADGE_PADDING = 13;

interface Cell {
  readonly element: HTMLElement;
  readonly text: Text;
  value: Value | undefined;
  tone: string;
  flash: number;
  className: string;
}

export interface RowMarks {
  isActive: boolean;
  isSelected: boolean;
  isStarred: boolean;
}

export class RowView {
  readonly element: HTMLElement;
  entry: Entry | null = null;
  private columns: readonly Column[];
  private readonly cells: Cell[] = [];
  private readonly badges: HTMLElement;
  private badgeRow: Row | null = null;
  private shownBadges: readonly Badge[] = [];
  private row: object | null = null;
  private rank = 0;
  private top = -1;
  private index = -1;
  private className = "";
  private flash = 0;

  constructor(document: Document, columns: readonly Column[], id: string) {
    this.columns = columns;
    this.element = document.createElement("div");
    this.element.id = id;
    this.element.setAttribute("role", "row");
    this.badges = document.createElement("span");
    this.badges.className = "tl-badges";
    columns.forEach((column, at) => {
      const element = document.createElement("div");
      element.setAttribute("role", "gridcell");
      element.setAttribute("aria-colindex", String(at + 1));
      const text = document.createTextNode("");
      if (column.field === "symbol") {
        const name = document.createElement("span");
        name.className = "tl-name";
        name.append(text);
        element.append(name, this.badges);
      } else {
        element.append(text);
      }
      this.cells.push({ element, text, value: undefined, tone: "", flash: 0, className: "" });
      this.paint(this.cells[at] as Cell, column, "");
      this.element.append(element);
    });
  }

  /** Shows the entry. A row that shows another symbol than before neither moves nor flashes. */
  show(entry: Entry, index: number, top: number, marks: RowMarks): void {
    const isSame = this.entry === entry;
    if (!isSame) {
      this.entry = entry;
      this.element.dataset["symbol"] = entry.symbol;
    }
    if (this.index !== index) {
      this.index = index;
      // The header is the first row.
      this.element.setAttribute("aria-rowindex", String(index + 2));
    }
    if (this.top !== top) {
      this.top = top;
      this.element.style.top = `${top}px`;
    }
    if (entry.isNew) this.flash = this.flash === 1 ? 2 : 1;
    else if (!isSame) this.flash = 0;
    entry.isNew = false;
    this.setClass(this.classOf(entry, isSame, marks));
    if (this.row !== entry.row || this.rank !== entry.rank || !isSame) this.fill(entry, isSame);
  }

  /** Other widths of the same columns. */
  resize(columns: readonly Column[]): void {
    this.columns = columns;
    this.repaint();
  }

  /** Fades the row out where it is. */
  leave(): void {
    this.element.removeAttribute("aria-rowindex");
    this.index = -1;
    this.setClass("tl-row tl-leaving");
  }

  hide(): void {
    this.entry = null;
    this.setClass("tl-row tl-unused");
  }

  /** True while a change is marked. */
  get isLit(): boolean {
    return this.flash > 0 || this.cells.some(({ flash }) => flash > 0);
  }

  /** Ends marks that have been seen: an element that is shown again would begin its animations anew. */
  calm(): void {
    this.flash = 0;
    for (const cell of this.cells) cell.flash = 0;
    this.repaint();
  }

  private classOf(entry: Entry, isSame: boolean, marks: RowMarks): string {
    let name = "tl-row";
    // Without a transition, or an element that is used again would fly across the table.
    if (!isSame) name += " tl-placed";
    if (this.flash > 0) name += this.flash === 1 ? " tl-enter-a" : " tl-enter-b";
    if (entry.row["halted"] === true) name += " tl-halted";
    if (entry.isGone) name += " tl-gone";
    if (marks.isActive) name += " tl-active";
    if (marks.isSelected) name += " tl-selected";
    if (marks.isStarred) name += " tl-starred";
    return name;
  }

  private setClass(name: string): void {
    if (this.className === name) return;
    const isSelected = name.includes(" tl-selected");
    if (isSelected !== this.className.includes(" tl-selected")) this.element.setAttribute("aria-selected", String(isSelected));
    this.className = name;
    this.element.className = name;
  }

  private fill(entry: Entry, mayFlash: boolean): void {
    const { row } = entry;
    this.row = row;
    this.rank = entry.rank;
    this.columns.forEach((column, at) => {
      const cell = this.cells[at] as Cell;
      const { field } = column;
      const value = field === "rank" ? entry.rank : field === "symbol" ? entry.symbol : row[field];
      const before = cell.value;
      const isChanged = value !== before;
      // A tone may depend on other fields of the row.
      if (!isChanged && !column.tone) return;
      cell.value = value;
      if (isChanged) {
        const text = column.format(value, row);
        if (text !== cell.text.data) cell.text.data = text;
      }
      let tone: string = column.tone?.(value, row) ?? "";
      if (column.flashes) {
        tone = cell.tone;
        if (!mayFlash || before === undefined || value === undefined) tone = "";
        else if (value > before) tone = "up";
        else if (value < before) tone = "down";
        cell.flash = tone !== "" && mayFlash ? (cell.flash === 1 ? 2 : 1) : 0;
      }
      this.paint(cell, column, tone);
    });
    this.showBadges(row);
  }

  private repaint(): void {
    this.cells.forEach((cell, at) => this.paint(cell, this.columns[at] as Column, cell.tone));
  }

  /** True if the cell's content may be wider than its column. */
  private isLong(cell: Cell, column: Column): boolean {
    let width = cell.text.length * LETTER_WIDTH + PADDING;
    if (column.field === "symbol") for (const { text } of this.shownBadges) width += text.length * BADGE_LETTER_WIDTH + BADGE_PADDING;
    return width > column.width;
  }

  private paint(cell: Cell, column: Column, tone: string): void {
    cell.tone = tone;
    let name = column.align === "end" ? "tl-cell tl-end" : "tl-cell";
    if (column.field === "symbol") name += " tl-symbol";
    if (this.isLong(cell, column)) name += " tl-clipped";
    if (tone !== "") name += ` tl-${tone}`;
    if (column.flashes) name += " tl-tick";
    if (cell.flash > 0) name += ` ${FLASHES[cell.flash - 1]}`;
    if (cell.className === name) return;
    cell.className = name;
    cell.element.className = name;
  }

  private showBadges(row: Row): void {
    const before = this.badgeRow;
    this.badgeRow = row;
    if (before && BADGE_FIELDS.every((field) => before[field] === row[field])) return;
    this.shownBadges = badgesOf(row);
    this.badges.replaceChildren(...this.shownBadges.map((badge) => this.badge(badge)));
    this.repaint();
  }

  private badge({ kind, text, meaning }: Badge): HTMLElement {
    const element = this.element.ownerDocument.createElement("span");
    element.className = `tl-badge tl-badge-${kind}`;
    element.textContent = text;
    element.title = meaning;
    return element;
  }
}
