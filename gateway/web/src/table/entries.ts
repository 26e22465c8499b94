/** The rows of one list and the order in which they are shown; no DOM. */

import type { ListDelta, ListSnapshot, Row, Value } from "../stream/types";

/** One symbol's row. The table keeps the entry while the row is shown, also if it has left the list under the pointer. */
export class Entry {
  readonly symbol: string;
  rank: number;
  /** Never changed in place: another row object means other values. */
  row: Row;
  /** True from the row's entry until the table has marked it. */
  isNew: boolean;
  /** True if the row has left the list, but is still shown because the order is held. */
  isGone = false;
  /** The rank when the order began to be held; 0 if it entered since. */
  heldRank = 0;

  constructor(symbol: string, rank: number, row: Row, isNew: boolean) {
    this.symbol = symbol;
    this.rank = rank;
    this.row = row;
    this.isNew = isNew;
  }
}

export interface Movement {
  symbol: string;
  rank: number;
  row: Row;
}

/** Who came and who left. */
export interface MembershipChange {
  entered: Movement[];
  left: Movement[];
  timestamp: string;
}

export interface Sort {
  field: string;
  descending: boolean;
}

/** What has not been shown yet because the order is held. */
export interface Waiting {
  entered: number;
  left: number;
  moved: number;
}

export class Entries {
  private readonly entries = new Map<string, Entry>();
  private shownEntries: Entry[] = [];
  private isOrderStale = false;
  private isHeld = false;
  /** Rows that left while the order is held, and are still shown. */
  private readonly gone = new Map<string, Entry>();
  private hasSnapshot = false;
  private sort: Sort | null = null;
  private excluded: ReadonlySet<string> = new Set();

  get size(): number {
    return this.entries.size;
  }

  get(symbol: string): Entry | undefined {
    return this.entries.get(symbol);
  }

  /** Replaces all rows. Returns who came and left since the rows before, or null if there were none. */
  snapshot(snapshot: ListSnapshot): MembershipChange | null {
    const { rows, timestamp } = snapshot;
    const isFirst = !this.hasSnapshot;
    this.hasSnapshot = true;
    const change: MembershipChange = { entered: [], left: [], timestamp };
    const members = new Set<string>();
    for (const row of rows) members.add(row.symbol);
    for (const entry of this.entries.values()) {
      if (!members.has(entry.symbol)) this.remove(entry.symbol, change);
    }
    for (const row of rows) this.put(row.symbol, row.rank, row, change, isFirst);
    this.isOrderStale = true;
    return isFirst ? null : change;
  }

  /** Applies the changes. Returns who came and left. */
  apply(delta: ListDelta): MembershipChange {
    const change: MembershipChange = { entered: [], left: [], timestamp: delta.timestamp };
    for (const item of delta.deltas) {
      if (item.action === "remove") {
        this.remove(item.symbol, change);
      } else if (item.action === "rerank") {
        const entry = this.entries.get(item.symbol);
        if (entry && entry.rank !== item.new_rank) {
          entry.rank = item.new_rank;
          this.isOrderStale = true;
        }
      } else {
        this.put(item.symbol, item.rank, item.data, change, false);
      }
    }
    return change;
  }

  private put(symbol: string, rank: number, row: Row, change: MembershipChange, isFirst: boolean): void {
    const entry = this.entries.get(symbol);
    if (entry === undefined) {
      this.entries.set(symbol, this.returned(symbol, rank, row) ?? new Entry(symbol, rank, row, !isFirst));
      this.isOrderStale = true;
      change.entered.push({ symbol, rank, row });
      return;
    }
    if (entry.rank !== rank || this.sort) this.isOrderStale = true;
    entry.rank = rank;
    entry.row = row;
  }

  /** Returns the entry that is still shown, of a row that left and came back while the order is held. */
  private returned(symbol: string, rank: number, row: Row): Entry | undefined {
    const entry = this.gone.get(symbol);
    if (!entry) return undefined;
    this.gone.delete(symbol);
    entry.isGone = false;
    entry.rank = rank;
    entry.row = row;
    return entry;
  }

  private remove(symbol: string, change: MembershipChange): void {
    const entry = this.entries.get(symbol);
    if (!entry) return;
    this.entries.delete(symbol);
    entry.isGone = true;
    if (this.isHeld && entry.heldRank > 0) this.gone.set(symbol, entry);
    this.isOrderStale = true;
    change.left.push({ symbol, rank: entry.rank, row: entry.row });
  }

  /** Forgets all rows, for another list: the next snapshot is a first one. */
  clear(): void {
    this.entries.clear();
    this.hasSnapshot = false;
    this.reorder();
  }

  setSort(sort: Sort | null): void {
    this.sort = sort;
    this.reorder();
  }

  /** Hides these symbols. */
  setExcluded(symbols: ReadonlySet<string>): void {
    this.excluded = symbols;
    this.reorder();
  }

  /** Rows that are hidden because their symbols are excluded. */
  get hidden(): number {
    let hidden = 0;
    for (const symbol of this.excluded) if (this.entries.has(symbol)) hidden += 1;
    return hidden;
  }

  /** While the order is held, rows keep their places and only their values change. */
  hold(isHeld: boolean): void {
    if (isHeld === this.isHeld) return;
    this.isHeld = false;
    if (isHeld) this.reorder();
    this.gone.clear();
    this.isHeld = isHeld;
  }

  /** Shows everything as it is now, also while the order is held. */
  private reorder(): void {
    const isHeld = this.isHeld;
    this.isHeld = false;
    this.isOrderStale = true;
    for (const entry of this.shown()) entry.heldRank = entry.rank;
    this.gone.clear();
    this.isHeld = isHeld;
  }

  /** What a release would change; null while nothing is held. */
  waiting(): Waiting | null {
    if (!this.isHeld) return null;
    const waiting = { entered: 0, left: 0, moved: 0 };
    for (const entry of this.shownEntries) {
      if (entry.isGone) waiting.left += 1;
      else if (entry.rank !== entry.heldRank) waiting.moved += 1;
    }
    for (const entry of this.entries.values()) {
      if (entry.heldRank === 0 && !this.excluded.has(entry.symbol)) waiting.entered += 1;
    }
    return waiting;
  }

  /** The entries as they are to be shown, top to bottom. */
  shown(): readonly Entry[] {
    if (this.isHeld || !this.isOrderStale) return this.shownEntries;
    this.isOrderStale = false;
    const shown: Entry[] = [];
    for (const entry of this.entries.values()) if (!this.excluded.has(entry.symbol)) shown.push(entry);
    shown.sort(this.sort ? comparison(this.sort) : byRank);
    this.shownEntries = shown;
    return shown;
  }
}

function byRank(a: Entry, b: Entry): number {
  return a.rank - b.rank;
}

/** Rows without the value come last in either direction; ties are broken by rank. */
function comparison({ field, descending }: Sort): (a: Entry, b: Entry) => number {
  const valueOf = (entry: Entry): Value | undefined => (field === "rank" ? entry.rank : entry.row[field]);
  const sign = descending ? -1 : 1;
  return (a, b) => {
    const left = valueOf(a);
    const right = valueOf(b);
    if (left === right) return a.rank - b.rank;
    if (left === undefined) return 1;
    if (right === undefined) return -1;
    return (left < right ? -1 : 1) * sign;
  };
}
