/** A symbol's row, live. */

import { api, ApiError } from "../shared/api";
import { stream } from "../stream/client";
import type { ListDelta, Row } from "../stream/types";

export interface SymbolView {
  /** The row as of the newest change, or the stored data of a symbol that has not traded today. */
  row: Row | null;
  /** Why there is no row. */
  error: string;
}

const POLL_MS = 1_000;
/** A row may change ten times a second; nobody reads that, and each change redraws a chart. */
const SHOWN_MS = 200;
/** The first change of a row may be long in coming, its first snapshot is not. */
const PATIENCE_MS = 3_000;

/** Returns the row as a delta of a one-row list leaves it, or null. */
export function rowAfter(delta: ListDelta, symbol: string): Row | null {
  for (const change of delta.deltas) {
    if ((change.action === "add" || change.action === "update") && change.symbol === symbol) return change.data;
  }
  return null;
}

/**
 * Calls `take` with the symbol's row and with each change of it; returns what ends that. The row comes from REST at once
 * and from the stream from then on; where the stream refuses (too many scans are open), REST is asked once a second.
 */
export function watchSymbol(symbol: string, take: (view: SymbolView) => void): () => void {
  const ended = new AbortController();
  let isStreaming = false;
  let timer = 0;
  let newest: Row | null = null;
  let pause = 0;

  function show(row: Row): void {
    isStreaming = true;
    newest = row;
    if (pause !== 0) return;
    showNewest();
  }

  function showNewest(): void {
    pause = 0;
    if (newest === null) return;
    take({ row: newest, error: "" });
    newest = null;
    pause = window.setTimeout(showNewest, SHOWN_MS);
  }

  async function read(): Promise<void> {
    try {
      const row = await api<Row>(`/api/v1/ticker/${encodeURIComponent(symbol)}`, { signal: ended.signal });
      if (!isStreaming) take({ row, error: "" });
    } catch (error) {
      if (ended.signal.aborted || isStreaming) return;
      const unknown = error instanceof ApiError && error.status === 404;
      take({ row: null, error: unknown ? `There is no symbol ${symbol}` : (error as Error).message });
    }
  }

  function poll(): void {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      if (isStreaming || ended.signal.aborted) return;
      void read().then(poll);
    }, POLL_MS);
  }

  void read();
  timer = window.setTimeout(poll, PATIENCE_MS);
  const filter = `symbol = "${symbol}"`;
  const unsubscribe = stream().subscribeScan(`symbol:${symbol}`, { filter, limit: 1 }, {
    snapshot: ({ rows }) => {
      const row = rows[0];
      // Without a row the market does not know the symbol (yet); REST may.
      if (row !== undefined) show(row);
    },
    delta: (delta) => {
      const row = rowAfter(delta, symbol);
      if (row !== null) show(row);
    },
    refused: poll,
  }); // prettier-ignore
  return () => {
    ended.abort();
    clearTimeout(timer);
    clearTimeout(pause);
    unsubscribe();
  };
}
