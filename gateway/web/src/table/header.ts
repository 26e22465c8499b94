/** The header of a list: sorts by a click, moves columns by dragging, resizes them at their edges; all of it by keyboard, too. */

import { type Column, LEAST_WIDTH, limitWidth } from "./columns";
import type { Sort } from "./entries";

export interface HeaderActions {
  sort(field: string): void;
  /** Moves the column to the index that it will have. */
  move(field: string, to: number): void;
  /** A width in pixels, or null for the first one. */
  resize(field: string, width: number | null): void;
}

const STEP = 8;
/** The pointer moves so far before a click becomes a drag. */
const DRAG = 5;

interface Drag {
  field: string;
  pointer: number;
  startX: number;
  /** The width at the start if the edge is dragged. */
  width: number | null;
  isMoving: boolean;
  to: number;
}

export class Header {
  readonly element: HTMLElement;
  private columns: readonly Column[] = [];
  private cells: HTMLElement[] = [];
  private current = 0;
  private drag: Drag | null = null;
  private isClickSpent = false;

  constructor(
    document: Document,
    private readonly actions: HeaderActions,
  ) {
    this.element = document.createElement("div");
    this.element.className = "tl-header";
    this.element.setAttribute("role", "row");
    this.element.setAttribute("aria-rowindex", "1");
    this.element.addEventListener("click", (event) => this.click(event));
    this.element.addEventListener("dblclick", (event) => this.doubleClick(event));
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("pointerdown", (event) => this.dragStart(event));
    this.element.addEventListener("pointermove", (event) => this.dragMove(event));
    this.element.addEventListener("pointerup", (event) => this.dragEnd(event, true));
    this.element.addEventListener("pointercancel", (event) => this.dragEnd(event, false));
  }

  show(columns: readonly Column[], sort: Sort | null): void {
    const focused = this.cells.findIndex((cell) => cell === cell.ownerDocument.activeElement);
    const field = this.columns[focused]?.field;
    this.columns = columns;
    this.cells = columns.map((column, at) => this.cell(column, at, sort));
    this.element.replaceChildren(...this.cells);
    const at = columns.findIndex((column) => column.field === field);
    this.rove(at < 0 ? Math.min(this.current, Math.max(0, columns.length - 1)) : at, at >= 0);
  }

  /** Other widths of the same columns. */
  resize(columns: readonly Column[]): void {
    this.columns = columns;
  }

  private cell(column: Column, at: number, sort: Sort | null): HTMLElement {
    const { ownerDocument } = this.element;
    const cell = ownerDocument.createElement("div");
    cell.className = `tl-th${column.align === "end" ? " tl-end" : ""}`;
    cell.dataset["field"] = column.field;
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-colindex", String(at + 1));
    const direction = sort?.field === column.field ? (sort.descending ? "descending" : "ascending") : "none";
    cell.setAttribute("aria-sort", direction);
    cell.title = column.meaning;
    cell.tabIndex = -1;
    const label = ownerDocument.createElement("span");
    label.className = "tl-label";
    label.textContent = column.label;
    const grip = ownerDocument.createElement("span");
    grip.className = "tl-grip";
    grip.setAttribute("aria-hidden", "true");
    cell.append(label, grip);
    return cell;
  }

  private rove(at: number, hasFocus: boolean): void {
    this.cells.forEach((cell, index) => (cell.tabIndex = index === at ? 0 : -1));
    this.current = at;
    if (hasFocus) this.cells[at]?.focus();
  }

  private columnAt(event: Event): { column: Column; at: number } | null {
    const cell = (event.target as Element).closest<HTMLElement>(".tl-th");
    const at = cell ? this.cells.indexOf(cell) : -1;
    const column = this.columns[at];
    return column ? { column, at } : null;
  }

  private isGrip(event: Event): boolean {
    return (event.target as Element).classList.contains("tl-grip");
  }

  private click(event: Event): void {
    const found = this.columnAt(event);
    if (this.isClickSpent || this.isGrip(event) || !found) return;
    this.rove(found.at, false);
    this.actions.sort(found.column.field);
  }

  private doubleClick(event: Event): void {
    const found = this.columnAt(event);
    if (found && this.isGrip(event)) this.actions.resize(found.column.field, null);
  }

  /** Left and right go from column to column; with Shift they resize, with Alt they move the column. */
  private key(event: KeyboardEvent): void {
    const found = this.columnAt(event);
    if (!found || event.ctrlKey || event.metaKey) return;
    const { column, at } = found;
    const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (step !== 0 && event.shiftKey) this.actions.resize(column.field, limitWidth(column.width + step * STEP));
    else if (step !== 0 && event.altKey) this.actions.move(column.field, Math.min(this.columns.length - 1, Math.max(0, at + step)));
    else if (step !== 0) this.rove(Math.min(this.cells.length - 1, Math.max(0, at + step)), true);
    else if (event.key === "Home") this.rove(0, true);
    else if (event.key === "End") this.rove(this.cells.length - 1, true);
    else if (event.key === "Enter" || event.key === " ") this.actions.sort(column.field);
    else if (event.key === "Delete") this.actions.resize(column.field, null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private dragStart(event: PointerEvent): void {
    this.isClickSpent = false;
    const found = this.columnAt(event);
    if (!found || event.button !== 0) return;
    const width = this.isGrip(event) ? found.column.width : null;
    this.drag = { field: found.column.field, pointer: event.pointerId, startX: event.clientX, width, isMoving: false, to: found.at };
    // A grip's drag begins with its press; a header's press may still be a click, whose target a capture would change.
    if (width !== null) this.element.setPointerCapture(event.pointerId);
  }

  private dragMove(event: PointerEvent): void {
    const { drag } = this;
    if (!drag || drag.pointer !== event.pointerId) return;
    const distance = event.clientX - drag.startX;
    if (drag.width !== null) {
      this.isClickSpent = true;
      this.actions.resize(drag.field, Math.max(LEAST_WIDTH, drag.width + distance));
      return;
    }
    if (!drag.isMoving && Math.abs(distance) < DRAG) return;
    if (!drag.isMoving) this.element.setPointerCapture(event.pointerId);
    drag.isMoving = this.isClickSpent = true;
    drag.to = this.indexAt(event.clientX, drag.field);
    this.cells.forEach((cell, at) => {
      const from = this.columns.findIndex((column) => column.field === drag.field);
      cell.classList.toggle("tl-dragged", at === from);
      cell.classList.toggle("tl-before", at === drag.to && drag.to < from);
      cell.classList.toggle("tl-after", at === drag.to && drag.to > from);
    });
  }

  private indexAt(x: number, field: string): number {
    const from = this.columns.findIndex((column) => column.field === field);
    const edges = this.cells.map((cell) => cell.getBoundingClientRect());
    const at = edges.findIndex((edge) => x < edge.right);
    return at < 0 ? edges.length - 1 : Math.max(0, at === from ? from : at);
  }

  private dragEnd(event: PointerEvent, isDone: boolean): void {
    const { drag } = this;
    if (!drag || drag.pointer !== event.pointerId) return;
    this.drag = null;
    for (const cell of this.cells) cell.classList.remove("tl-dragged", "tl-before", "tl-after");
    if (isDone && drag.isMoving) this.actions.move(drag.field, drag.to);
  }
}
