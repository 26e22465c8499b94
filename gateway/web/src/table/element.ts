/**
 * `<tradeul-list>`: a live list in any page, without the dashboard; other pages get it as /tradeul-list.js (list.ts).
 *
 *     <tradeul-list list="gappers_up" columns="rank,symbol,price,gap_percent"></tradeul-list>
 *     <tradeul-list filter="rvol > 3 AND price < 20" order-by="rvol desc" limit="20"></tradeul-list>
 *
 * It fills its place; give it a height. Events, with their `detail`: `select` {symbol, row}, `change` {entered, left, timestamp},
 * `columns` {fields, widths}. Rows have the fields of its columns, and those of badges.
 */

import { parseScan, requestOf, streamIdOf } from "../scan/own_scans";
import { stream, type Stream } from "../stream/client";
import { defaultFields, fieldsFor, parseChoice } from "./columns";
import { ListTable } from "./table";

export type Source = Pick<Stream, "subscribeList" | "subscribeScan">;

export class TradeulList extends HTMLElement {
  static readonly observedAttributes = ["list", "filter", "order-by", "limit", "columns", "label"];

  /** Where the rows come from; set before the element is connected, for pages with a connection of their own. */
  source: Source | null = null;
  private live: ListTable | null = null;
  private end: (() => void) | null = null;
  private isPending = false;

  /** The table, while the element is connected: for rows, sort, and symbols to hide or to star. */
  get table(): ListTable | null {
    return this.live;
  }

  connectedCallback(): void {
    this.style.display = "block";
    const place = this.ownerDocument.createElement("div");
    place.style.height = "100%";
    this.replaceChildren(place);
    this.live = new ListTable(place, { label: this.label() });
    for (const name of ["select", "change", "columns"] as const) {
      this.live.on(name, (detail) => this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true })));
    }
    this.live.setEmptyText("Waiting for the first rows.");
    this.update();
  }

  disconnectedCallback(): void {
    this.end?.();
    this.live?.destroy();
    this.end = this.live = null;
  }

  attributeChangedCallback(): void {
    if (this.isPending) return;
    // Several attributes that are set together are one change.
    this.isPending = true;
    queueMicrotask(() => {
      this.isPending = false;
      this.update();
    });
  }

  private label(): string {
    return this.getAttribute("label") ?? this.getAttribute("list") ?? this.getAttribute("filter") ?? "List";
  }

  private update(): void {
    const table = this.live;
    if (!table) return;
    this.end?.();
    this.end = null;
    table.clear();
    table.setLabel(this.label());
    const list = this.getAttribute("list");
    const fields = this.getAttribute("columns")?.split(",").map((field) => field.trim());
    const choice = parseChoice({ fields: fields ?? defaultFields(list ?? ""), widths: {} }) ?? { fields: ["symbol"], widths: {} };
    table.setColumns(choice);
    const needed = fieldsFor(list ?? "", choice.fields);
    const handlers = {
      snapshot: (snapshot: Parameters<ListTable["snapshot"]>[0]) => {
        table.setEmptyText("No symbol matches now.");
        table.snapshot(snapshot);
      },
      delta: (delta: Parameters<ListTable["apply"]>[0]) => table.apply(delta),
      refused: (message: string) => table.setEmptyText(message),
    };
    const source = this.source ?? stream();
    if (list) {
      this.end = source.subscribeList(list, handlers, needed);
      return;
    }
    const filter = this.getAttribute("filter");
    const scan = parseScan({ filter, order_by: this.getAttribute("order-by") ?? "", limit: this.getAttribute("limit") ?? undefined });
    if (filter === null || !scan) table.setEmptyText("expected an attribute list or filter");
    else this.end = source.subscribeScan(streamIdOf(scan), requestOf(scan), handlers, needed);
  }
}

if (!customElements.get("tradeul-list")) customElements.define("tradeul-list", TradeulList);
