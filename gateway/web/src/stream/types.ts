/** The messages of /ws/scanner (docs/websocket.md), and what the worker and the windows send each other. */

import type { Fields } from "./fields";

export type Value = number | string | boolean;
export type Row = Record<string, Value> & { symbol: string; rank: number };

export type Change =
  | { action: "add" | "update"; rank: number; symbol: string; data: Row }
  | { action: "remove"; symbol: string }
  | { action: "rerank"; symbol: string; old_rank: number; new_rank: number };

/** All rows of a list at a position. `list` is a built-in list's name or the id of a custom scan. */
export interface ListSnapshot {
  list: string;
  epoch: number;
  sequence: number;
  rows: Row[];
  timestamp: string;
  /** Those that the rows have; noted by the connection. */
  fields?: Fields;
}

/** The changes that lead from `sequence` - 1 to `sequence`. */
export interface ListDelta {
  list: string;
  sequence: number;
  deltas: Change[];
  timestamp: string;
}

/** The changed fields of a row, null for those that are absent now; without a symbol, which a row has. */
export type Patch = Record<string, Value | null> & { symbol?: undefined };

/** A delta as it comes over the network, whose updates have the changed fields only. */
export interface PatchedDelta extends Omit<ListDelta, "deltas"> {
  deltas: (Change | { action: "update"; rank: number; symbol: string; data: Patch })[];
}

/** A one-second or one-minute bar of a symbol that is in a subscribed list. */
export interface Aggregate {
  symbol: string;
  data: { o: number; h: number; l: number; c: number; v: number; vw?: number; av?: number; op?: number };
  timestamp: string;
}

export interface Position {
  epoch: number;
  sequence: number;
}

/** What has happened to a symbol (docs/alerts.md). */
export interface Alert extends Position {
  rule: string;
  symbol: string;
  time: string;
  quality?: number;
  /** The percentage of the rule's earlier alerts of the day that were worse. */
  quality_rank?: number;
  level?: number;
  text: string;
  /** The symbol's row at that moment. */
  row: Partial<Row>;
}

/** A custom scan, as docs/websocket.md describes it. */
export interface Scan {
  filter: string;
  order_by?: string;
  limit?: number;
}

/** Why a list or scan is not subscribed: for a scan with the `reason` of docs/protocol.md and, for instance, a position. */
export interface Refusal {
  message: string;
  reason?: string;
  metadata?: Record<string, string>;
}

/** `waiting`: the connection was lost or refused, and is tried again at `retryAt`. `key`: a key is required. */
export type ConnectionState = "connecting" | "open" | "waiting" | "key";

export interface ListStatus extends Position {
  rows: number;
  /** The market's time of the newest message, in milliseconds since 1970. */
  time: number;
  /** When that message arrived here, in milliseconds since 1970. */
  received: number;
  /** Snapshots that were requested because a sequence was missing. */
  holes: number;
}

export interface Status {
  state: ConnectionState;
  /** The names of the built-in lists, as the server sent them. */
  lists: string[];
  /** Connections that were opened so far. */
  connections: number;
  /** When the connection was lost, in milliseconds since 1970; null while it is open. */
  staleSince: number | null;
  /** When the next attempt is made, in milliseconds since 1970; null while none is planned. */
  retryAt: number | null;
  /** Why there is no connection. */
  reason: string;
  /** When the newest message of any list arrived. */
  received: number | null;
  /** The market's time of that message. */
  time: number | null;
  subscribed: Record<string, ListStatus>;
  /** Windows that share the connection. */
  windows: number;
}

export type FromWindow =
  | { type: "hello"; key: string }
  /** The window holds this lock for as long as it exists. */
  | { type: "lock"; lock: string }
  /** Again for a list that the window has, if it needs more fields. */
  | { type: "subscribe"; list: string; scan?: Scan; fields?: Fields }
  | { type: "unsubscribe"; list: string }
  | { type: "aggregates"; wanted: boolean }
  | { type: "alerts"; wanted: boolean }
  | { type: "reconnect" }
  | { type: "bye" };

export type FromWorker =
  | { type: "snapshot"; snapshot: ListSnapshot }
  | { type: "delta"; delta: ListDelta }
  | { type: "aggregate"; aggregate: Aggregate }
  | { type: "alert"; alert: Alert }
  | { type: "alerts_reset" }
  | { type: "refused"; list: string; refusal: Refusal }
  | { type: "status"; status: Status };
