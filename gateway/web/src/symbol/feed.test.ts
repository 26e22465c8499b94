// @vitest-environment node
import { expect, it } from "vitest";
import type { ListDelta, Row } from "../stream/types";
import { rowAfter } from "./feed";

const row: Row = { symbol: "ABC", rank: 1, price: 2 };
const delta = (...deltas: ListDelta["deltas"]): ListDelta => ({
  list: "symbol:ABC",
  sequence: 2,
  deltas,
  timestamp: "",
});

it("a delta's row is that of the symbol", () => {
  const other: Row = { symbol: "XYZ", rank: 1 };
  expect(
    rowAfter(
      delta(
        { action: "update", rank: 1, symbol: "XYZ", data: other },
        { action: "add", rank: 1, symbol: "ABC", data: row },
      ),
      "ABC",
    ),
  ).toBe(row);
  expect(rowAfter(delta({ action: "remove", symbol: "ABC" }), "ABC")).toBeNull();
});
