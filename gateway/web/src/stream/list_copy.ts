/** An exact copy of one list, kept by its snapshot and its deltas. */

import type { Fields } from "./fields";
import type { Change, ListDelta, ListSnapshot, Position, Row } from "./types";

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
