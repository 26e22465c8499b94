/** What happens in a list that somebody may want to be told of. */

import type { ListDelta, ListSnapshot, Row } from "../stream/types";

export const KINDS = ["enter", "leave", "high", "halt", "resume"] as const;
export type Kind = (typeof KINDS)[number];

export interface Notice {
  kind: Kind;
  symbol: string;
  row: Row;
}

/** Follows one list, and returns what has happened with each message. The first snapshot is only where it begins. */
export class Detector {
  private rows: Map<string, Row> | null = null;

  /** `isHalts`: the list of halted symbols, which a symbol enters when it is halted, and leaves when trading resumes. */
  constructor(private readonly isHalts: boolean) {}

  snapshot({ rows }: ListSnapshot): Notice[] {
    const before = this.rows;
    this.rows = new Map(rows.map((row) => [row.symbol, row]));
    if (!before) return [];
    const notices: Notice[] = [];
    for (const [symbol, row] of before) if (!this.rows.has(symbol)) this.left(row, notices);
    for (const row of rows) this.compare(before.get(row.symbol), row, notices);
    return notices;
  }

  delta({ deltas }: ListDelta): Notice[] {
    const notices: Notice[] = [];
    if (!this.rows) return notices;
    for (const change of deltas) {
      const before = this.rows.get(change.symbol);
      if (change.action === "remove") {
        this.rows.delete(change.symbol);
        if (before) this.left(before, notices);
      } else if (change.action !== "rerank") {
        this.rows.set(change.symbol, change.data);
        this.compare(before, change.data, notices);
      }
    }
    return notices;
  }

  private left(row: Row, notices: Notice[]): void {
    const { symbol } = row;
    notices.push({ kind: "leave", symbol, row });
    if (this.isHalts) notices.push({ kind: "resume", symbol, row });
  }

  private compare(before: Row | undefined, row: Row, notices: Notice[]): void {
    const { symbol } = row;
    if (!before) {
      notices.push({ kind: "enter", symbol, row });
      if (this.isHalts) notices.push({ kind: "halt", symbol, row });
      return;
    }
    const [high, highBefore] = [row["intraday_high"], before["intraday_high"]];
    if (typeof high === "number" && typeof highBefore === "number" && high > highBefore) notices.push({ kind: "high", symbol, row });
    if (row["halted"] === true && before["halted"] !== true) notices.push({ kind: "halt", symbol, row });
    if (row["halted"] !== true && before["halted"] === true) notices.push({ kind: "resume", symbol, row });
  }
}
