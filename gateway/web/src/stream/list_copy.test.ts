import { describe, expect, test } from "vitest";
import { ListCopy } from "./list_copy";
import type { Change, ListDelta, ListSnapshot, Patch, PatchedDelta, Row } from "./types";

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

/** Whole numbers below a bound, the same ones for a seed. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % below;
  };
}

interface Patches {
  patches: PatchedDelta["deltas"];
}

/** One step of a list: whole rows, and the same with changed fields only. */
function randomStep(before: Row[], random: (below: number) => number): Record<"deltas", Change[]> & Patches {
  const deltas: Change[] = [];
  const patches: Patches["patches"] = [];
  const kept = before.filter(({ symbol }) => {
    if (random(8) > 0) return true;
    deltas.push({ action: "remove", symbol });
    return false;
  });
  if (random(2)) kept.reverse();
  const absent = "ABCDEFGH".split("").filter((symbol) => !before.some((each) => each.symbol === symbol));
  const added = absent.slice(0, random(3));
  patches.push(...deltas);
  for (const [index, old] of kept.entries()) {
    const { symbol, rank: old_rank } = old;
    const rank = index + 1;
    const values: Record<string, number | null> = {};
    for (const name of ["price", "rvol", "gap"]) if (random(3) === 0) values[name] = random(3) ? random(100) : null;
    if (random(2)) {
      const row = { symbol, rank } as Row;
      for (const [name, value] of Object.entries({ ...old, ...values, rank })) if (value !== null) row[name] = value;
      deltas.push({ action: "update", rank, symbol, data: row });
      patches.push({ action: "update", rank, symbol, data: values as Patch });
    } else if (rank !== old_rank) {
      const change: Change = { action: "rerank", symbol, old_rank, new_rank: rank };
      deltas.push(change);
      patches.push(change);
    }
  }
  for (const [index, symbol] of added.entries()) {
    const rank = kept.length + index + 1;
    const change: Change = { action: "add", rank, symbol, data: row(symbol, rank, random(100)) };
    deltas.push(change);
    patches.push(change);
  }
  return { deltas, patches };
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

  test.each([1, 2, 3, 4])("has the same rows by changed fields as by whole rows, at random (%i)", (seed) => {
    const random = randomNumbers(seed);
    const [patched, whole] = [copyOf("A", "B"), copyOf("A", "B")];
    for (let sequence = 11; sequence < 200; sequence++) {
      const { deltas, patches } = randomStep(whole.sorted(), random);
      const isWhole = random(2) === 0;
      const completed = patched.completed({ ...delta(sequence), deltas: isWhole ? deltas : patches });
      expect(completed && patched.apply(completed)).toBe(true);
      expect(whole.apply(delta(sequence, ...deltas))).toBe(true);
      expect(patched.sorted()).toEqual(whole.sorted());
      if (random(20) > 0) continue;
      // As after a resync.
      patched.snapshot(snapshot(sequence, whole.sorted()));
    }
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
