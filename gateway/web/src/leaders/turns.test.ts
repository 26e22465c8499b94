import { expect, test } from "vitest";
import { leaderFields, nextList, titleOf } from "./turns";

test("lists come in turn, around the end", () => {
  const lists = ["a", "b", "c"];
  expect([nextList(lists, "c", 1), nextList(lists, "a", -1), nextList(lists, "gone", 1), nextList([], "a", 1)]).toEqual(["a", "c", "a", "a"]);
});

test("lists have titles, and what a row lacks is not zero", () => {
  expect(titleOf("gappers_up")).toBe("Gappers up");
  expect(leaderFields({ symbol: "A", rank: 1, price: 2, company_name: "Alpha" })).toEqual({
    company: "Alpha", price: 2, change: null, volume: null,
  }); // prettier-ignore
});
