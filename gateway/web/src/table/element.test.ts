import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Handlers } from "../stream/client";
import type { Fields } from "../stream/fields";
import type { Refusal, Row, Scan } from "../stream/types";
import { TradeulList } from "./element";

const opened: { list: string; scan?: Scan; fields: Fields; handlers: Handlers; isEnded: boolean }[] = [];

function subscribe(list: string, handlers: Handlers, fields: Fields, scan?: Scan): () => void {
  const entry = { list, handlers, fields, isEnded: false, ...(scan ? { scan } : {}) };
  opened.push(entry);
  return () => {
    entry.isEnded = true;
  };
}

let element: TradeulList;
const REFUSAL: Refusal = { message: "there is no list 'winers'; the nearest is 'winners'", reason: "", metadata: {} };

beforeEach(() => {
  opened.length = 0;
  vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(400);
  element = document.createElement("tradeul-list") as TradeulList;
  element.source = {
    subscribeList: (list, handlers, fields) => subscribe(list, handlers, fields),
    subscribeScan: (id, scan, handlers, fields) => subscribe(id, handlers, fields, scan),
  };
});

afterEach(() => {
  element.remove();
  vi.restoreAllMocks();
});

const texts = (): string[] => {
  element.table?.flush();
  return [...element.querySelectorAll(".tl-row:not(.tl-unused)")].map((row) => row.textContent ?? "");
};

function connect(attributes: Record<string, string>): void {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  document.body.append(element);
}

test("the element shows its list in the columns that it names, and passes its events on", () => {
  const selected: string[] = [];
  element.addEventListener("select", (event) => selected.push((event as CustomEvent<{ symbol: string }>).detail.symbol));
  connect({ list: "winners", columns: "rank, symbol, price" });
  expect(opened.map(({ list }) => list)).toEqual(["winners"]);
  expect(opened[0]?.fields).toEqual(expect.arrayContaining(["price", "halted"]));
  const row = { symbol: "A", rank: 1, price: 2, change_percent: 3 } as unknown as Row;
  opened[0]?.handlers.snapshot({ list: "winners", epoch: 1, sequence: 1, rows: [row], timestamp: "" });
  expect(texts()).toEqual(["1A2.00"]);
  element.querySelector(".tl-row")?.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  expect(selected).toEqual(["A"]);
});

test("other attributes are another subscription, once for all that are set together", async () => {
  connect({ list: "winners" });
  element.removeAttribute("list");
  element.setAttribute("filter", "rvol > 3");
  element.setAttribute("order-by", "rvol desc");
  element.setAttribute("limit", "20");
  await Promise.resolve();
  expect(opened.map(({ isEnded, scan }) => [isEnded, scan])).toEqual([
    [true, undefined],
    [false, { filter: "rvol > 3", order_by: "rvol desc", limit: 20 }],
  ]);
});

test("it says what is wrong, and ends with its element", () => {
  connect({});
  expect(element.textContent).toContain("expected an attribute list or filter");
  element.remove();
  connect({ list: "winers" });
  opened[0]?.handlers.refused?.("there is no list 'winers'; the nearest is 'winners'", REFUSAL);
  expect(element.textContent).toContain("the nearest is 'winners'");
  element.remove();
  expect(opened[0]?.isEnded).toBe(true);
  expect(element.table).toBeNull();
});
