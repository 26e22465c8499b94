// @vitest-environment happy-dom
import { beforeEach, expect, test } from "vitest";
import { LOG_LENGTH, type LogEntry, LogView } from "./log";

let element: HTMLElement;
let log: LogView;

const entries = (first: number, count: number): LogEntry[] =>
  Array.from({ length: count }, (_, index) => ({ time: "2026-03-10T13:30:00Z", symbol: `S${first + index}`, entered: true }));
const shown = (): string[] => [...element.children].map((child) => (child as HTMLElement).dataset["symbol"] ?? "");
const newest = (last: number, count: number): string[] => Array.from({ length: count }, (_, index) => `S${last - index}`);

beforeEach(() => {
  element = document.createElement("div");
  document.body.replaceChildren(element);
  log = new LogView(element, "Log");
});

test("the newest entries have elements, the others when they are scrolled to", () => {
  log.add(entries(0, 100));
  log.flush();
  const first = shown();
  expect(first.length).toBeLessThan(100);
  expect(first).toEqual(newest(99, first.length));
  // At the end of what is shown, as a browser reports it.
  Object.defineProperties(element, { scrollHeight: { value: 720 }, clientHeight: { value: 100 } });
  element.scrollTop = 620;
  element.dispatchEvent(new Event("scroll"));
  expect(shown().length).toBe(2 * first.length);
  log.add(entries(100, 3));
  log.flush();
  expect(shown()).toEqual(newest(102, 2 * first.length));
  element.scrollTop = 0;
  element.dispatchEvent(new Event("scroll"));
  log.add(entries(103, 1));
  log.flush();
  expect(shown()).toEqual(newest(103, first.length));
  expect(log.all().length).toBe(104);
});

test("End goes to the oldest entry that is kept", () => {
  log.add(entries(0, LOG_LENGTH + 50));
  element.dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
  expect(shown()).toEqual(newest(LOG_LENGTH + 49, LOG_LENGTH));
  expect(element.lastElementChild?.getAttribute("aria-selected")).toBe("true");
});

test("many entries of one moment are the newest of them", () => {
  log.add(entries(0, 10));
  log.flush();
  log.add(entries(10, 200));
  log.flush();
  const symbols = shown();
  expect(symbols).toEqual(newest(209, symbols.length));
});
