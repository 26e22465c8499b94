/** A seeded list of rows and the deltas that change it, as the WebSocket server sends them. */

import type { Change, ListDelta, Row } from "../src/stream/types";

export const FIELDS = ["rank", "symbol", "price", "change_percent", "gap_percent", "volume_today", "rvol", "float_shares", "vwap", "chg_5m"];
/** Of 100 rows so many change their values with each delta, and so many swap their ranks with the next one. */
const UPDATED = 20;
const SWAPPED = 5;
/** One delta of so many brings a row and takes one. */
const REPLACED = 8;

function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function newRow(next: () => number, number: number, rank: number): Row {
  const price = 1 + next() * 200;
  return {
    symbol: `S${number}`,
    rank,
    price,
    change_percent: next() * 40 - 20,
    gap_percent: next() * 20,
    volume_today: Math.round(next() * 1e7),
    rvol: next() * 20,
    float_shares: Math.round(next() * 1e9),
    vwap: price,
    chg_5m: next() * 4 - 2,
  };
}

function ticked(row: Row, next: () => number): Row {
  const price = Math.max(0.5, (row["price"] as number) * (1 + (next() - 0.5) * 0.01));
  const volume = (row["volume_today"] as number) + Math.round(next() * 10_000);
  return { ...row, price, volume_today: volume, change_percent: (row["change_percent"] as number) + next() - 0.5, chg_5m: next() * 4 - 2 };
}

export interface Workload {
  rows: Row[];
  deltas: ListDelta[];
  /** The rows after all deltas, by rank. */
  last: Row[];
}

export function makeWorkload(rowCount: number, deltaCount: number, seed = 1): Workload {
  const next = random(seed);
  const rows = Array.from({ length: rowCount }, (_, at) => newRow(next, at, at + 1));
  let made = rowCount;
  const current = rows.map((row) => ({ ...row }));
  const deltas: ListDelta[] = [];
  for (let sequence = 2; sequence < deltaCount + 2; sequence += 1) {
    const changes = new Map<string, Change>();
    if (sequence % REPLACED === 0) {
      const at = Math.floor(next() * rowCount);
      const left = current[at] as Row;
      const entered = newRow(next, made++, at + 1);
      changes.set(left.symbol, { action: "remove", symbol: left.symbol });
      changes.set(entered.symbol, { action: "add", symbol: entered.symbol, rank: entered.rank, data: entered });
      current[at] = entered;
    }
    for (let count = 0; count < UPDATED; count += 1) {
      const at = Math.floor(next() * rowCount);
      const row = ticked(current[at] as Row, next);
      current[at] = row;
      const isAdded = changes.get(row.symbol)?.action === "add";
      changes.set(row.symbol, { action: isAdded ? "add" : "update", symbol: row.symbol, rank: row.rank, data: row });
    }
    for (let count = 0; count < SWAPPED; count += 1) {
      const at = Math.floor(next() * (rowCount - 1));
      const [upper, lower] = [current[at] as Row, current[at + 1] as Row];
      [current[at], current[at + 1]] = [{ ...lower, rank: at + 1 }, { ...upper, rank: at + 2 }];
      for (const row of [current[at] as Row, current[at + 1] as Row]) {
        const known = changes.get(row.symbol);
        if (known && known.action !== "rerank" && known.action !== "remove") {
          changes.set(row.symbol, { ...known, rank: row.rank, data: row });
        } else {
          changes.set(row.symbol, { action: "rerank", symbol: row.symbol, old_rank: 0, new_rank: row.rank });
        }
      }
    }
    deltas.push({ list: "bench", sequence, deltas: [...changes.values()], timestamp: "2026-03-10T14:00:00Z" });
  }
  return { rows, deltas, last: current };
}
