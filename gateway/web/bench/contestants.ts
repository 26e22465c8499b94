/** Three tables with one task: to show a list after each delta. */

import perspective from "@perspective-dev/client/inline";
import "@perspective-dev/viewer/inline";
import "@perspective-dev/viewer-datagrid";
import type { HTMLPerspectiveViewerElement } from "@perspective-dev/viewer";
import "@perspective-dev/viewer/dist/css/pro.css";
import { columnOf } from "../src/table/columns";
import { ListTable } from "../src/table/table";
import type { ListDelta, Row } from "../src/stream/types";
import { FIELDS } from "./workload";

export interface Contestant {
  readonly name: string;
  begin(place: HTMLElement, rows: Row[]): Promise<void>;
  /** Changes what the table has; it is shown with `show` at the latest. */
  apply(delta: ListDelta): void;
  /** Resolves when the elements of the page show everything that was applied, with their layout. */
  show(): Promise<void>;
  /** The symbols that the table has, in its order. */
  symbols(): Promise<string[]>;
  end(): Promise<void>;
}

/** The rows kept as a client of the WebSocket keeps them; for tables that keep none themselves. */
class Rows {
  readonly bySymbol = new Map<string, Row>();

  constructor(rows: Row[]) {
    for (const row of rows) this.bySymbol.set(row.symbol, row);
  }

  apply({ deltas }: ListDelta): { changed: Row[]; left: string[] } {
    const changed: Row[] = [];
    const left: string[] = [];
    for (const change of deltas) {
      if (change.action === "remove") {
        this.bySymbol.delete(change.symbol);
        left.push(change.symbol);
        continue;
      }
      const known = this.bySymbol.get(change.symbol);
      const row = change.action === "rerank" ? { ...(known as Row), rank: change.new_rank } : change.data;
      this.bySymbol.set(change.symbol, row);
      changed.push(row);
    }
    return { changed, left };
  }

  sorted(): Row[] {
    return [...this.bySymbol.values()].sort((a, b) => a.rank - b.rank);
  }
}

export class OurTable implements Contestant {
  readonly name = "tradeul";
  private table!: ListTable;
  private place!: HTMLElement;

  begin(place: HTMLElement, rows: Row[]): Promise<void> {
    this.place = place;
    this.table = new ListTable(place, { label: "bench", columns: { fields: FIELDS, widths: {} } });
    this.table.snapshot({ list: "bench", epoch: 1, sequence: 1, rows, timestamp: "" });
    return this.show();
  }

  apply(delta: ListDelta): void {
    this.table.apply(delta);
  }

  show(): Promise<void> {
    this.table.flush();
    void this.place.querySelector<HTMLElement>(".tl-row")?.offsetTop;
    return Promise.resolve();
  }

  symbols(): Promise<string[]> {
    return Promise.resolve(this.table.rows().map(({ symbol }) => symbol));
  }

  end(): Promise<void> {
    this.table.destroy();
    return Promise.resolve();
  }
}

/** What one writes first: the whole table as text, after each delta. */
export class PlainTable implements Contestant {
  readonly name = "innerHTML";
  private rows!: Rows;
  private place!: HTMLElement;
  private readonly columns = FIELDS.map((field) => columnOf(field));

  begin(place: HTMLElement, rows: Row[]): Promise<void> {
    this.place = place;
    this.rows = new Rows(rows);
    return this.show();
  }

  apply(delta: ListDelta): void {
    this.rows.apply(delta);
  }

  show(): Promise<void> {
    const line = (row: Row): string => `<tr>${this.columns.map(({ field, format }) => `<td>${format(row[field], row)}</td>`).join("")}</tr>`;
    this.place.innerHTML = `<table>${this.rows.sorted().map(line).join("")}</table>`;
    void this.place.offsetHeight;
    return Promise.resolve();
  }

  symbols(): Promise<string[]> {
    return Promise.resolve([...this.place.querySelectorAll("tr")].map((row) => row.children[1]?.textContent ?? ""));
  }

  end(): Promise<void> {
    this.place.replaceChildren();
    return Promise.resolve();
  }
}

type Table = Awaited<ReturnType<Awaited<ReturnType<typeof perspective.worker>>["table"]>>;

export class Perspective implements Contestant {
  readonly name = "perspective";
  private rows!: Rows;
  private table!: Table;
  private viewer!: HTMLPerspectiveViewerElement;
  private pending: Promise<unknown>[] = [];

  async begin(place: HTMLElement, rows: Row[]): Promise<void> {
    this.rows = new Rows(rows);
    const worker = await perspective.worker();
    const types = Object.fromEntries(FIELDS.map((field) => [field, field === "symbol" ? "string" : field === "rank" ? "integer" : "float"]));
    this.table = await worker.table(types as never, { index: "symbol", name: `bench${performance.now()}` });
    await this.table.update(rows.map(pick) as never);
    this.viewer = document.createElement("perspective-viewer") as HTMLPerspectiveViewerElement;
    place.append(this.viewer);
    await this.viewer.load(Promise.resolve(worker) as never);
    await this.viewer.restore({ table: await this.table.get_name(), plugin: "Datagrid", columns: FIELDS, sort: [["rank", "asc"]], settings: false } as never);
    await this.viewer.flush();
  }

  apply(delta: ListDelta): void {
    const { changed, left } = this.rows.apply(delta);
    if (left.length > 0) this.pending.push(this.table.remove(left as never) as never);
    this.pending.push(this.table.update(changed.map(pick) as never) as never);
  }

  async show(): Promise<void> {
    await Promise.all(this.pending);
    this.pending = [];
    await this.viewer.flush();
  }

  async symbols(): Promise<string[]> {
    const view = await this.table.view({ sort: [["rank", "asc"]], columns: ["symbol"] });
    const columns = (await view.to_columns()) as Record<string, string[]>;
    await view.delete();
    return columns["symbol"] ?? [];
  }

  async end(): Promise<void> {
    await this.viewer.delete();
    await this.table.delete();
    this.viewer.remove();
  }
}

function pick(row: Row): Record<string, unknown> {
  return Object.fromEntries(FIELDS.map((field) => [field, row[field]]));
}
