// @vitest-environment node
import { expect, it } from "vitest";
import { levelsOf } from "./levels";

it("levels are by price, and those at one price are one", () => {
  const levels = levelsOf({
    prev_close: 10,
    premarket_high: 12,
    premarket_low: 9.5,
    intraday_high: 12,
    open: 11,
    luld_upper: 0,
  });
  expect(levels).toEqual([
    { price: 12, title: "PM high, Day high", kind: "premarket" },
    { price: 11, title: "Open", kind: "open" },
    { price: 10, title: "Prev close", kind: "close" },
    { price: 9.5, title: "PM low", kind: "premarket" },
  ]);
});

it("a row without prices has no levels", () => {
  expect(levelsOf({ symbol: "ABC", prev_close: undefined, halted: true })).toEqual([]);
});
