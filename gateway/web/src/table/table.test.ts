import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import fc from "fast-check";
import type { Change, ListDelta, Row } from "../stream/types";
import { columnOf } from "./columns";
import { ListTable } from "./table";

const FIELDS = ["rank", "symbol", "price", "change_percent", "volume_today", "halted"];
let table: ListTable;
let host: HTMLElement;

/** An element without a layout has no height: these tests show `rows` rows. */
function makeTable(rows: number): void {
  vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(rows * 22);
  host = document.createElement("div");
  document.body.append(host);
  table = new ListTable(host, { label: "Gappers up", columns: { fields: FIELDS, widths: {} } });
}

beforeEach(() => makeTable(1000));

afterEach(() => {
  table.destroy();
  host.remove();
  vi.restoreAllMocks();
});

function row(symbol: string, rank: number, more: Partial<Row> = {}): Row {
  return { symbol, rank, price: 10, change_percent: 5, volume_today: 1000, ...more } as Row;
}

function snapshot(...rows: Row[]): void {
  table.snapshot({ list: "gappers_up", epoch: 1, sequence: 1, rows, timestamp: "2026-03-10T14:00:00Z" });
  table.flush();
}

function apply(...deltas: Change[]): void {
  table.apply({ list: "gappers_up", sequence: 2, deltas, timestamp: "2026-03-10T14:00:01Z" });
  table.flush();
}

function rowElements(): HTMLElement[] {
  const isShown = (element: HTMLElement) => !/tl-unused|tl-leaving/.test(element.className);
  const top = (element: HTMLElement) => Number.parseInt(element.style.top);
  return [...host.querySelectorAll<HTMLElement>(".tl-row")].filter(isShown).sort((a, b) => top(a) - top(b));
}

function texts(element: HTMLElement): string[] {
  return [...element.querySelectorAll<HTMLElement>(".tl-cell")].map((cell) => (cell.querySelector(".tl-name") ?? cell).textContent ?? "");
}

function symbols(): string[] {
  return rowElements().map((element) => element.dataset["symbol"] as string);
}

function rowOf(symbol: string): HTMLElement {
  return rowElements().find((element) => element.dataset["symbol"] === symbol) as HTMLElement;
}

function press(key: string, options: KeyboardEventInit = {}): void {
  host.querySelector(".tl-grid")?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...options }));
  table.flush();
}

function header(field: string): HTMLElement {
  return host.querySelector(`.tl-th[data-field=${field}]`) as HTMLElement;
}

describe("the rows", () => {
  test("show the snapshot by rank, in the formats of the columns", () => {
    snapshot(row("B", 2, { price: 0.5, volume_today: 2_400_000 }), row("A", 1, { change_percent: -12.34 }));
    expect(rowElements().map(texts)).toEqual([
      ["1", "A", "10.00", "\u221212.3\u202f%", "1.0K", ""],
      ["2", "B", "0.5000", "+5.0\u202f%", "2.4M", ""],
    ]);
  });

  test("follow updates, moves, entries and leaves", () => {
    snapshot(row("A", 1), row("B", 2), row("C", 3));
    apply(
      { action: "remove", symbol: "B" },
      { action: "add", symbol: "D", rank: 1, data: row("D", 1) },
      { action: "rerank", symbol: "C", old_rank: 3, new_rank: 2 },
      { action: "update", symbol: "A", rank: 3, data: row("A", 3, { price: 11 }) },
    );
    expect(symbols()).toEqual(["D", "C", "A"]);
    expect(texts(rowOf("A"))).toContain("11.00");
  });

  test("touch only the cells whose text differs", async () => {
    snapshot(row("A", 1), row("B", 2));
    const touched: Node[] = [];
    const observer = new MutationObserver((records) => touched.push(...records.map((record) => record.target)));
    observer.observe(host, { subtree: true, characterData: true, childList: true });
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { volume_today: 5000 }) });
    await Promise.resolve();
    observer.disconnect();
    expect(touched.map((node) => node.textContent)).toEqual(["5.0K"]);
  });

  test("are made once and moved: an element stays with its symbol", () => {
    snapshot(row("A", 1), row("B", 2));
    const element = rowOf("B");
    apply({ action: "rerank", symbol: "B", old_rank: 2, new_rank: 1 }, { action: "rerank", symbol: "A", old_rank: 1, new_rank: 2 });
    expect(rowOf("B")).toBe(element);
    expect(element.style.top).toBe("0px");
  });

  test("that are out of view have no elements, and scrolling brings them", () => {
    table.destroy();
    host.remove();
    makeTable(10);
    snapshot(...Array.from({ length: 200 }, (_, at) => row(`S${at}`, at + 1)));
    expect(symbols()).toHaveLength(14);
    const grid = host.querySelector(".tl-grid") as HTMLElement;
    grid.scrollTop = 100 * 22;
    grid.dispatchEvent(new Event("scroll"));
    table.flush();
    expect(symbols()).toContain("S100");
    expect(symbols()).not.toContain("S0");
    expect(host.querySelectorAll(".tl-row").length).toBeLessThan(40);
    expect((host.querySelector(".tl-body") as HTMLElement).style.height).toBe(`${200 * 22}px`);
  });

  test("clip only what may be wider than its column", () => {
    const clipped = () => [...rowOf("A").querySelectorAll(".tl-clipped")].map((cell) => cell.textContent);
    snapshot(row("A", 1, { change_percent: 123_456.7 }));
    expect(clipped()).toEqual([expect.stringContaining("+123")]);
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 9 }) });
    expect(clipped()).toEqual([]);
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 9, halted: true, halt_reason: "LUDP" }) });
    expect(clipped()).toEqual([]);
    const many = { halted: true, halt_reason: "LUDP", halts_today: 3, suspect_prints: 12, security_type: "PFD" };
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 9, ...many }) });
    expect(clipped()).toEqual([expect.stringContaining("LUDP")]);
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 9 }) });
    expect(clipped()).toEqual([]);
    header("volume_today").focus();
    for (let step = 0; step < 4; step += 1) {
      header("volume_today").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", shiftKey: true, bubbles: true }));
    }
    expect(clipped()).toEqual(["1.0K"]);
  });

  test("are drawn once a frame, however many deltas have arrived", async () => {
    snapshot(row("A", 1));
    // The last frame that was asked for before, and one that measures it.
    for (let frame = 0; frame < 2; frame += 1) await new Promise((done) => window.requestAnimationFrame(done));
    const frames = vi.spyOn(window, "requestAnimationFrame");
    for (let price = 11; price < 20; price += 1) {
      table.apply({ list: "gappers_up", sequence: price, timestamp: "", deltas: [{ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price }) }] });
    }
    expect(frames).toHaveBeenCalledTimes(1);
    expect(texts(rowOf("A"))).toContain("10.00");
    table.flush();
    expect(texts(rowOf("A"))).toContain("19.00");
  });

  test("mark the direction of the price, and start the flash anew each time", () => {
    snapshot(row("A", 1));
    const cell = () => rowOf("A").children[2]?.className ?? "";
    expect(cell()).not.toMatch(/tl-flash|tl-up|tl-down/);
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 11 }) });
    expect(cell()).toMatch(/tl-up.*tl-flash-a/);
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 10.5 }) });
    expect(cell()).toMatch(/tl-down.*tl-flash-b/);
  });

  test("that enter are marked, those of the first snapshot are not", () => {
    snapshot(row("A", 1));
    expect(rowOf("A").className).not.toContain("tl-enter");
    apply({ action: "add", symbol: "B", rank: 2, data: row("B", 2) });
    expect(rowOf("B").className).toContain("tl-enter");
  });

  test("say that they are halted, with the reason", () => {
    snapshot(row("A", 1, { halted: true, halt_reason: "LUDP", halts_today: 1 }), row("B", 2));
    expect(rowOf("A").className).toContain("tl-halted");
    expect(rowOf("A").querySelector(".tl-badge-halt")?.textContent).toBe("LUDP");
    expect(rowOf("B").querySelector(".tl-badge")).toBeNull();
  });

  test("hide excluded symbols, star watched ones, and give way to a reason when there are none", () => {
    snapshot(row("A", 1), row("B", 2));
    table.setEmptyText("Nothing matches.");
    table.setExcluded(new Set(["A"]));
    table.setStarred(new Set(["B"]));
    table.flush();
    expect(symbols()).toEqual(["B"]);
    expect(table.hidden).toBe(1);
    expect(rowOf("B").className).toContain("tl-starred");
    const empty = host.querySelector(".tl-empty") as HTMLElement;
    expect(empty.hidden).toBe(true);
    table.setExcluded(new Set(["A", "B"]));
    table.flush();
    expect(empty.hidden).toBe(false);
  });
});

describe("events", () => {
  test("name who came and who left; the first snapshot is neither", () => {
    const changes: string[] = [];
    table.on("change", ({ entered, left, timestamp }) =>
      changes.push(`${timestamp} +${entered.map((each) => each.symbol)} -${left.map((each) => each.symbol)}`),
    );
    snapshot(row("A", 1), row("B", 2));
    apply({ action: "remove", symbol: "A" }, { action: "add", symbol: "C", rank: 1, data: row("C", 1) });
    snapshot(row("C", 1), row("D", 2));
    expect(changes).toEqual(["2026-03-10T14:00:01Z +C -A", "2026-03-10T14:00:00Z +D -B"]);
  });

  test("a click and Enter select", () => {
    const selected: string[] = [];
    table.on("select", ({ symbol }) => selected.push(symbol));
    snapshot(row("A", 1), row("B", 2));
    rowOf("B").children[2]?.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    press("ArrowUp");
    press("Enter");
    expect(selected).toEqual(["B", "A"]);
    expect(rowOf("A").getAttribute("aria-selected")).toBe("true");
    expect(rowOf("B").getAttribute("aria-selected")).toBe("false");
  });

  test("the keyboard's row stays with its symbol when ranks change", () => {
    snapshot(row("A", 1), row("B", 2), row("C", 3));
    press("ArrowDown");
    expect(rowOf("A").className).toContain("tl-active");
    apply({ action: "rerank", symbol: "A", old_rank: 1, new_rank: 3 }, { action: "rerank", symbol: "C", old_rank: 3, new_rank: 1 });
    expect(rowOf("A").className).toContain("tl-active");
    expect(host.querySelector(".tl-grid")?.getAttribute("aria-activedescendant")).toBe(rowOf("A").id);
    press("ArrowUp");
    expect(rowOf("B").className).toContain("tl-active");
    press("End");
    expect(rowOf("A").className).toContain("tl-active");
    press("Home");
    expect(rowOf("C").className).toContain("tl-active");
  });

  test("the menu key and the second button request a row's menu", () => {
    const menus: string[] = [];
    table.on("menu", ({ symbol }) => menus.push(symbol));
    snapshot(row("A", 1), row("B", 2));
    rowOf("B").dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true }));
    press("ArrowDown");
    press("F10", { shiftKey: true });
    expect(menus).toEqual(["B", "A"]);
  });
});

describe("held ranks", () => {
  function hover(): void {
    host.querySelector(".tl-body")?.dispatchEvent(new PointerEvent("pointermove", { pointerType: "mouse", bubbles: true }));
    table.flush();
  }

  function leave(): void {
    host.querySelector(".tl-body")?.dispatchEvent(new PointerEvent("pointerleave"));
    table.flush();
  }

  test("stay under the pointer while values go on, and count what waits", () => {
    snapshot(row("A", 1), row("B", 2), row("C", 3));
    hover();
    apply(
      { action: "remove", symbol: "A" },
      { action: "update", symbol: "B", rank: 2, data: row("B", 2, { price: 12 }) },
      { action: "rerank", symbol: "C", old_rank: 3, new_rank: 1 },
      { action: "add", symbol: "D", rank: 3, data: row("D", 3) },
    );
    expect(symbols()).toEqual(["A", "B", "C"]);
    expect(texts(rowOf("B"))).toContain("12.00");
    expect(rowOf("A").className).toContain("tl-gone");
    expect(host.querySelector(".tl-waiting")?.textContent).toBe("Held: 1 new, 1 gone, 1 moved");
    leave();
    expect(symbols()).toEqual(["C", "B", "D"]);
    expect((host.querySelector(".tl-waiting") as HTMLElement).hidden).toBe(true);
    expect(rowOf("D").className).toContain("tl-enter");
  });

  test("a row that leaves and returns meanwhile is the same row", () => {
    snapshot(row("A", 1), row("B", 2));
    hover();
    apply({ action: "remove", symbol: "A" });
    apply({ action: "add", symbol: "A", rank: 2, data: row("A", 2, { price: 9 }) }, { action: "rerank", symbol: "B", old_rank: 2, new_rank: 1 });
    expect(rowOf("A").className).not.toContain("tl-gone");
    expect(texts(rowOf("A"))).toContain("9.00");
    expect(host.querySelector(".tl-waiting")?.textContent).toBe("Held: 2 moved");
  });

  test("go on under a pointer that rests, and under a finger", () => {
    vi.useFakeTimers();
    try {
      snapshot(row("A", 1), row("B", 2));
      hover();
      const swap: Change[] = [
        { action: "rerank", symbol: "B", old_rank: 2, new_rank: 1 },
        { action: "rerank", symbol: "A", old_rank: 1, new_rank: 2 },
      ];
      apply(...swap);
      expect(symbols()).toEqual(["A", "B"]);
      vi.advanceTimersByTime(15_000);
      table.flush();
      expect(symbols()).toEqual(["B", "A"]);
      host.querySelector(".tl-body")?.dispatchEvent(new PointerEvent("pointermove", { pointerType: "touch", bubbles: true }));
      apply({ action: "remove", symbol: "B" });
      expect(symbols()).toEqual(["A"]);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("columns", () => {
  const order = () => [...host.querySelectorAll<HTMLElement>(".tl-th")].map((cell) => cell.dataset["field"]);
  const key = (field: string, name: string, options: KeyboardEventInit = {}) =>
    header(field).dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, ...options }));

  test("sort by a click, the other way by the second, and by rank again by the third", () => {
    snapshot(row("A", 1, { price: 5 }), row("B", 2, { price: 9 }), { symbol: "C", rank: 3 }, row("D", 4, { price: 7 }));
    const click = () => {
      header("price").click();
      table.flush();
    };
    click();
    expect(symbols()).toEqual(["B", "D", "A", "C"]);
    expect(header("price").getAttribute("aria-sort")).toBe("descending");
    apply({ action: "update", symbol: "A", rank: 1, data: row("A", 1, { price: 8 }) });
    expect(symbols()).toEqual(["B", "A", "D", "C"]);
    click();
    expect(symbols()).toEqual(["D", "A", "B", "C"]);
    click();
    expect(symbols()).toEqual(["A", "B", "C", "D"]);
    expect(header("price").getAttribute("aria-sort")).toBe("none");
  });

  test("are moved and resized by keyboard, and say so", () => {
    const choices: object[] = [];
    table.on("columns", (choice) => choices.push(choice));
    key("price", "ArrowRight", { altKey: true });
    expect(order()).toEqual(["rank", "symbol", "change_percent", "price", "volume_today", "halted"]);
    key("price", "ArrowRight", { shiftKey: true });
    key("price", "ArrowRight", { shiftKey: true });
    const width = columnOf("price").width + 16;
    expect(choices.at(-1)).toEqual({ fields: order(), widths: { price: width } });
    expect(host.style.getPropertyValue("--tl-columns")).toContain(`${width}px`);
    key("price", "Delete");
    expect(choices.at(-1)).toEqual({ fields: order(), widths: {} });
  });

  test("keep one stop of the keyboard among them", () => {
    key("rank", "ArrowRight");
    const stops = [...host.querySelectorAll<HTMLElement>(".tl-th")].filter((cell) => cell.tabIndex === 0);
    expect(stops.map((cell) => cell.dataset["field"])).toEqual(["symbol"]);
    key("symbol", "End");
    expect(document.activeElement).toBe(header("halted"));
  });

  test("that are chosen replace the others, and the rows follow", () => {
    snapshot(row("A", 1));
    table.setColumns({ fields: ["symbol", "volume_today"], widths: {} });
    table.flush();
    expect(order()).toEqual(["symbol", "volume_today"]);
    expect(texts(rowOf("A"))).toEqual(["A", "1.0K"]);
  });
});

/** What the deltas of docs/websocket.md mean, in the plainest way. */
class Twin {
  rows: Row[] = [];

  apply({ deltas }: ListDelta): void {
    for (const change of deltas) {
      if (change.action === "rerank") {
        this.rows = this.rows.map((each) => (each.symbol === change.symbol ? { ...each, rank: change.new_rank } : each));
        continue;
      }
      this.rows = this.rows.filter((each) => each.symbol !== change.symbol);
      if (change.action !== "remove") this.rows.push({ ...change.data, rank: change.rank });
    }
  }

  shown(): string[][] {
    const columns = FIELDS.map((field) => columnOf(field));
    return [...this.rows]
      .sort((a, b) => a.rank - b.rank)
      .map((each) => columns.map((column) => column.format(each[column.field], each)));
  }
}

const rowArbitrary = fc.record(
  {
    price: fc.double({ min: 0.01, max: 900, noNaN: true }),
    change_percent: fc.double({ min: -50, max: 50, noNaN: true }),
    volume_today: fc.integer({ min: 0, max: 10_000_000 }),
    halted: fc.boolean(),
  },
  { requiredKeys: [] },
);

/** The lists that follow one another, each as its symbols by rank; the server sends their differences. */
const listsArbitrary = fc.array(
  fc.uniqueArray(fc.tuple(fc.constantFrom(..."ABCDEFGH"), rowArbitrary), { selector: ([symbol]) => symbol, maxLength: 8 }),
  { minLength: 1, maxLength: 8 },
);

const actionsArbitrary = fc.array(fc.constantFrom("flush", "hold", "release", "sort", "unsort", "none"), { minLength: 8, maxLength: 8 });

function difference(before: Row[], after: Row[]): Change[] {
  const changes: Change[] = [];
  for (const { symbol } of before) if (!after.some((each) => each.symbol === symbol)) changes.push({ action: "remove", symbol });
  for (const each of after) {
    const { symbol, rank } = each;
    const old = before.find((one) => one.symbol === symbol);
    if (!old) changes.push({ action: "add", symbol, rank, data: each });
    else if (JSON.stringify({ ...old, rank: 0 }) !== JSON.stringify({ ...each, rank: 0 })) changes.push({ action: "update", symbol, rank, data: each });
    else if (old.rank !== rank) changes.push({ action: "rerank", symbol, old_rank: old.rank, new_rank: rank });
  }
  return changes;
}

test("after any sequence of deltas the table shows what a naive twin shows", () => {
  fc.assert(
    fc.property(listsArbitrary, actionsArbitrary, (lists, actions) => {
      table.destroy();
      host.remove();
      makeTable(1000);
      const twin = new Twin();
      snapshot();
      let before: Row[] = [];
      lists.forEach((list, at) => {
        const after = list.map(([symbol, values], index) => ({ ...values, symbol, rank: index + 1 }) as Row);
        const delta: ListDelta = { list: "gappers_up", sequence: at + 2, deltas: difference(before, after), timestamp: "" };
        before = after;
        twin.apply(delta);
        table.apply(delta);
        const action = actions[at];
        if (action === "flush") table.flush();
        if (action === "hold" || action === "release") table.hold("test", action === "hold");
        if (action === "sort" || action === "unsort") table.setSort(action === "sort" ? { field: "price", descending: true } : null);
      });
      table.hold("test", false);
      table.setSort(null);
      table.flush();
      expect(rowElements().map(texts)).toEqual(twin.shown());
      expect(table.rows().map((each) => each.symbol)).toEqual(twin.shown().map((each) => each[1]));
    }),
    { numRuns: 40 },
  );
}, 60_000);
