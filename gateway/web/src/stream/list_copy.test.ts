import { describe, expect, test } from "vitest";
import { ListCopy } from "./list_copy";
import type { Change, ListDelta, ListSnapshot, PatchedDelta, Row } from "./types";

const row = (symbol: string, rank: number, price = 1): Row => ({ symbol, rank, price });

const snapshot = (sequence: number, rows: Row[]): ListSnapshot => ({
  list: "winners", epoch: 7, sequence, rows, timestamp: "2026-03-10T13:31:00Z",
}); // prettier-ignore

const delta = (sequence: number, ...deltas: Change[]): ListDelta => ({
  list: "winners", sequence, deltas, timestamp: "2026-03-10T13:31:01Z",
}); // prettier-ignore

function copyOf(...symbols: string[]): ListCopy {
  const copy = new ListCopy("winners");
  copy.snapshot(snapshot(10, symbols.map((symbol, index) => row(symbol, index + 1)))); // prettier-ignore
  return copy;
}

const symbols = (copy: ListCopy): string[] => copy.sorted().map((each) => each.symbol);

describe("a list's copy", () => {
  test("has a position with the first snapshot", () => {
    const copy = new ListCopy("winners");
    expect(copy.position).toBeNull();
    copy.snapshot(snapshot(10, [row("B", 2), row("A", 1)]));
    expect(copy.position).toEqual({ epoch: 7, sequence: 10 });
    expect(symbols(copy)).toEqual(["A", "B"]);
  });

  test("follows all kinds of changes", () => {
    const copy = copyOf("A", "B", "C");
    const isApplied = copy.apply(
      delta(
        11,
        { action: "remove", symbol: "A" },
        { action: "add", rank: 1, symbol: "D", data: row("D", 1, 4) },
        { action: "update", rank: 3, symbol: "B", data: row("B", 3, 9) },
        { action: "rerank", symbol: "C", old_rank: 3, new_rank: 2 },
      ),
    );
    expect(isApplied).toBe(true);
    expect(copy.sorted()).toEqual([row("D", 1, 4), row("C", 2), row("B", 3, 9)]);
    expect(copy.sequence).toBe(11);
  });

  test("completes updates that have the changed fields only", () => {
    const copy = copyOf("A", "B");
    const patches: PatchedDelta = {
      ...delta(11, { action: "remove", symbol: "A" }),
      deltas: [
        { action: "remove", symbol: "A" },
        { action: "update", rank: 1, symbol: "B", data: { price: null, halted: true } },
        { action: "add", rank: 2, symbol: "C", data: row("C", 2) },
      ],
    };
    const completed = copy.completed(patches);
    expect(completed?.deltas[1]).toEqual({ action: "update", rank: 1, symbol: "B", data: { symbol: "B", rank: 1, halted: true } });
    expect(copy.sorted()).toEqual([row("A", 1), row("B", 2)]);
    expect(completed && copy.apply(completed)).toBe(true);
    expect(copy.sorted()).toEqual([{ symbol: "B", rank: 1, halted: true }, row("C", 2)]);
  });

  test("completes no update of a row that it lacks, nor after a hole", () => {
    const copy = copyOf("A");
    const patch = (sequence: number, symbol: string): PatchedDelta => ({
      ...delta(sequence),
      deltas: [{ action: "update", rank: 1, symbol, data: { price: 2 } }],
    });
    expect(copy.completed(patch(11, "B"))).toBeNull();
    expect(copy.completed(patch(12, "A"))).toBeNull();
    expect(copy.completed(patch(11, "A"))?.deltas).toHaveLength(1);
  });

  test("ignores what it has already", () => {
    const copy = copyOf("A", "B");
    expect(copy.apply(delta(10, { action: "remove", symbol: "A" }))).toBe(true);
    expect(symbols(copy)).toEqual(["A", "B"]);
  });

  test("is not current after a hole until the next snapshot", () => {
    const copy = copyOf("A", "B");
    expect(copy.apply(delta(12, { action: "remove", symbol: "A" }))).toBe(false);
    expect([copy.isCurrent, copy.position, symbols(copy)]).toEqual([false, null, ["A", "B"]]);
    expect(copy.apply(delta(11, { action: "remove", symbol: "A" }))).toBe(false);
    copy.snapshot(snapshot(12, [row("B", 1)]));
    expect([copy.isCurrent, symbols(copy)]).toEqual([true, ["B"]]);
  });

  test("takes a new rank of a row that it lacks for a hole, and changes nothing", () => {
    const copy = copyOf("A", "B");
    const changes: Change[] = [
      { action: "remove", symbol: "A" },
      { action: "rerank", symbol: "X", old_rank: 1, new_rank: 2 },
    ];
    expect(copy.apply(delta(11, ...changes))).toBe(false);
    expect(symbols(copy)).toEqual(["A", "B"]);
  });

  test("never changes rows that it has handed out", () => {
    const copy = copyOf("A", "B");
    const before = copy.sorted();
    copy.apply(delta(11, { action: "rerank", symbol: "A", old_rank: 1, new_rank: 2 }));
    expect(before[0]).toEqual(row("A", 1));
  });
});
