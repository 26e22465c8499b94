/** Who came to a list and who left it, when and at what price: the newest on top, without a framework. */

import type { Row } from "../stream/types";
import type { MembershipChange } from "./entries";
import { haltReason, percent, price, signTone, timeOfDay } from "./formats";
import { paceOf, type Drawn, type Pace } from "./pace";
import { ensureStyles } from "./styles";

export interface LogEntry {
  /** RFC 3339, the market's time. */
  time: string;
  symbol: string;
  entered: boolean;
  rank?: number;
  price?: number;
  change?: number | undefined;
  /** The halt's reason if the row was halted. */
  halt?: string;
}

/** Entries that are kept; older ones are dropped. */
export const LOG_LENGTH = 300;
/** So many of them have elements, and as many more each time their end is scrolled to: a page may have a dozen logs. */
const SHOWN_AT_ONCE = 40;
/** Pixels before the end at which more are shown. */
const NEAR_END = 200;

const signedPercent = percent(1, true);

/** Returns the entries of a change, in the order in which they are read. */
export function entriesOf({ entered, left, timestamp }: MembershipChange): LogEntry[] {
  const entry = (isEntered: boolean) => (movement: { symbol: string; rank: number; row: Row }) =>
    entryOf(movement.row, movement.rank, timestamp, isEntered);
  return [...left.map(entry(false)), ...entered.map(entry(true))];
}

export function entryOf(row: Row, rank: number, time: string, entered: boolean): LogEntry {
  const entry: LogEntry = { time, symbol: row.symbol, entered, rank };
  if (typeof row["price"] === "number") entry.price = row["price"];
  if (typeof row["change_percent"] === "number") entry.change = row["change_percent"];
  if (row["halted"] === true) entry.halt = typeof row["halt_reason"] === "string" ? row["halt_reason"] : "";
  return entry;
}

export class LogView extends EventTarget implements Drawn {
  readonly element: HTMLElement;
  /** Oldest first. */
  private entries: LogEntry[] = [];
  private pending: LogEntry[] = [];
  private active: HTMLElement | null = null;
  private pace: Pace | null = null;
  private made = 0;
  /** How many entries may have elements now. */
  private shownLength = SHOWN_AT_ONCE;
  private excluded: ReadonlySet<string> = new Set();

  constructor(element: HTMLElement, label: string) {
    super();
    this.element = element;
    element.classList.add("tl-log");
    element.tabIndex = 0;
    element.setAttribute("role", "listbox");
    element.setAttribute("aria-label", label);
    element.addEventListener("click", (event) => {
      const item = (event.target as Element).closest<HTMLElement>(".tl-log-entry");
      if (item) this.choose(item);
    });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    ensureStyles(element);
    this.follow();
  }

  /** Takes part in the frames of the window in which it is now. */
  private follow(): void {
    const window = this.element.ownerDocument.defaultView;
    const pace = window && paceOf(window);
    if (pace === this.pace) return;
    this.pace?.remove(this);
    this.pace = pace;
    pace?.add(this);
  }

  draw(): void {
    this.flush();
  }

  destroy(): void {
    this.pace?.remove(this);
  }

  setLabel(label: string): void {
    this.element.setAttribute("aria-label", label);
  }

  setExcluded(symbols: ReadonlySet<string>): void {
    this.excluded = symbols;
  }

  /** Adds entries, oldest first. */
  add(entries: readonly LogEntry[]): void {
    const shown = entries.filter(({ symbol }) => !this.excluded.has(symbol));
    if (shown.length === 0) return;
    this.entries.push(...shown);
    this.pending.push(...shown);
    if (this.entries.length > LOG_LENGTH) this.entries = this.entries.slice(-LOG_LENGTH);
    if (this.pending.length > this.shownLength) this.pending = this.pending.slice(-this.shownLength);
    this.follow();
    this.pace?.request(this);
  }

  /** Adds what was before the entries that are here, oldest first. */
  addEarlier(earlier: readonly LogEntry[]): void {
    const entries = [...earlier, ...this.entries];
    this.clear();
    this.add(entries.slice(-LOG_LENGTH));
  }

  all(): readonly LogEntry[] {
    return this.entries;
  }

  clear(): void {
    this.entries = [];
    this.pending = [];
    this.shownLength = SHOWN_AT_ONCE;
    this.active = null;
    this.element.removeAttribute("aria-activedescendant");
    this.element.replaceChildren();
  }

  /** Shows now what the next frame would show. */
  flush(): void {
    this.pace?.cancel(this);
    ensureStyles(this.element);
    const fragment = this.element.ownerDocument.createDocumentFragment();
    for (const entry of this.pending.reverse()) fragment.append(this.item(entry));
    this.pending = [];
    this.element.prepend(fragment);
    while (this.element.children.length > this.shownLength) this.element.lastElementChild?.remove();
  }

  private scrolled(): void {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    if (scrollTop === 0) this.shownLength = SHOWN_AT_ONCE;
    else if (scrollTop + clientHeight > scrollHeight - NEAR_END) this.showMore(SHOWN_AT_ONCE);
  }

  /** Makes elements for `count` older entries. */
  private showMore(count: number): void {
    this.flush();
    const shown = this.element.children.length;
    this.shownLength = Math.min(LOG_LENGTH, Math.max(this.shownLength, shown + count));
    const fragment = this.element.ownerDocument.createDocumentFragment();
    const end = this.entries.length - shown;
    for (const entry of this.entries.slice(Math.max(0, end - count), end).reverse()) fragment.append(this.item(entry));
    this.element.append(fragment);
  }

  private item(entry: LogEntry): HTMLElement {
    const { ownerDocument } = this.element;
    const item = ownerDocument.createElement("div");
    item.className = `tl-log-entry ${entry.entered ? "tl-log-entered" : "tl-log-left"}`;
    item.id = `${this.element.id || "log"}-${++this.made}`;
    item.dataset["symbol"] = entry.symbol;
    item.setAttribute("role", "option");
    const part = (className: string, text: string): void => {
      const element = ownerDocument.createElement("span");
      element.className = className;
      element.textContent = text;
      item.append(element);
    };
    part("tl-log-time", timeOfDay(entry.time));
    part("tl-log-what", entry.entered ? "in" : "out");
    part("tl-log-symbol", entry.symbol);
    part("tl-log-rank", entry.rank ? `#${entry.rank}` : "");
    part("tl-log-price", price(entry.price));
    const tone = signTone(entry.change);
    part(`tl-log-change${tone ? ` tl-${tone}` : ""}`, signedPercent(entry.change, { symbol: entry.symbol, rank: 0 }));
    if (entry.halt !== undefined) part("tl-badge tl-badge-halt", entry.halt || "HALT");
    const rank = entry.rank ? ` ${entry.entered ? "at" : "from"} rank ${entry.rank}` : "";
    item.title = `${entry.symbol} ${entry.entered ? "entered" : "left"}${rank}${entry.halt ? `; halted, ${haltReason(entry.halt)}` : ""}`;
    return item;
  }

  private choose(item: HTMLElement): void {
    this.activate(item);
    const symbol = item.dataset["symbol"];
    if (symbol) this.dispatchEvent(new CustomEvent("select", { detail: { symbol } }));
  }

  private activate(item: HTMLElement): void {
    this.active?.removeAttribute("aria-selected");
    this.active = item;
    item.setAttribute("aria-selected", "true");
    this.element.setAttribute("aria-activedescendant", item.id);
  }

  private key(event: KeyboardEvent): void {
    const { active } = this;
    const first = this.element.firstElementChild as HTMLElement | null;
    let next: Element | null | undefined;
    if (event.key === "ArrowDown") next = active?.isConnected ? active.nextElementSibling : first;
    else if (event.key === "ArrowUp") next = active?.isConnected ? active.previousElementSibling : first;
    else if (event.key === "Home") next = first;
    else if (event.key === "End") {
      this.showMore(LOG_LENGTH);
      next = this.element.lastElementChild;
    }
    else if (event.key === "Enter" && active?.isConnected) this.choose(active);
    else return;
    event.preventDefault();
    if (!next) return;
    this.activate(next as HTMLElement);
    next.scrollIntoView({ block: "nearest" });
  }
}
