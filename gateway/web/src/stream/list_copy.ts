/** An exact copy of one list, kept by its snapshot and its deltas. */

import type { Fields } from "./fields";
import type { Change, ListDelta, ListSnapshot, Patch, PatchedDelta, Position, Row } from "./types";

export class ListCopy {
  readonly list: string;
  epoch = 0;
  sequence = 0;
  timestamp = "";
  /** Those that the rows have. */
  fields: Fields = undefined;
  /** False until the first snapshot, and from a hole on until the next one. */
  isCurrent = false;
  private readonly rows = new Map<string, Row>();

  constructor(list: string) {
    this.list = list;
  }

  get size(): number {
    return this.rows.size;
  }

  /** Where to resume, or null without rows to resume from. */
  get position(): Position | null {
    return this.isCurrent ? { epoch: this.epoch, sequence: this.sequence } : null;
  }

  snapshot(snapshot: ListSnapshot): void {
    this.rows.clear();
    for (const row of snapshot.rows) this.rows.set(row.symbol, row);
    this.epoch = snapshot.epoch;
    this.sequence = snapshot.sequence;
    this.timestamp = snapshot.timestamp;
    this.fields = snapshot.fields;
    this.isCurrent = true;
  }

  /** The delta with complete rows; null where it does not follow, or changes a row that is not here. */
  completed(delta: PatchedDelta): ListDelta | null {
    const isNext = this.isCurrent && delta.sequence === this.sequence + 1;
    const deltas: Change[] = [];
    for (const change of delta.deltas) {
      if (!("data" in change) || isRow(change.data)) {
        deltas.push(change as Change);
        continue;
      }
      const row = this.rows.get(change.symbol);
      if (!row || !isNext) return null;
      deltas.push({ ...change, data: patched(row, change.data, change.rank) });
    }
    return { ...delta, deltas };
  }

  /** Returns false at a hole: the copy is not current until the next snapshot. Deltas that it already has are ignored. */
  apply(delta: ListDelta): boolean {
    if (!this.isCurrent) return false;
    if (delta.sequence <= this.sequence) return true;
    if (delta.sequence !== this.sequence + 1 || !delta.deltas.every((change) => this.canApply(change))) {
      this.isCurrent = false;
      return false;
    }
    for (const change of delta.deltas) this.change(change);
    this.sequence = delta.sequence;
    this.timestamp = delta.timestamp;
    return true;
  }

  /** The rows by rank. */
  sorted(): Row[] {
    return [...this.rows.values()].sort((a, b) => a.rank - b.rank);
  }

  toSnapshot(): ListSnapshot {
    const { list, epoch, sequence, timestamp, fields } = this;
    return { list, epoch, sequence, timestamp, rows: this.sorted(), ...(fields && { fields }) };
  }

  private canApply(change: Change): boolean {
    return change.action !== "rerank" || this.rows.has(change.symbol);
  }

  private change(change: Change): void {
    if (change.action === "remove") {
      this.rows.delete(change.symbol);
    } else if (change.action === "rerank") {
      const row = this.rows.get(change.symbol);
      // Rows are shared with the messages that windows hold: never changed in place.
      if (row) this.rows.set(change.symbol, { ...row, rank: change.new_rank });
    } else {
      this.rows.set(change.symbol, { ...change.data, rank: change.rank });
    }
  }
}

function isRow(data: Row | Patch): data is Row {
  return data.symbol !== undefined;
}

/** The row after a merge patch (RFC 7396). */
function patched(row: Row, patch: Patch, rank: number): Row {
  const values: Record<string, unknown> = { ...row, ...patch, symbol: row.symbol, rank };
  for (const name in patch) if (patch[name] === null) delete values[name];
  return values as Row;
}
