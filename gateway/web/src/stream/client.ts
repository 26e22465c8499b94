/** A window's side of the stream: `stream.subscribeList(...)`, `stream.subscribeScan(...)`, `stream.status`. */

import { writable, type Readable } from "svelte/store";
import { keyStore } from "../shared/key";
import { covers, union, type Fields } from "./fields";
import { ListCopy } from "./list_copy";
import type { Aggregate, Alert, FromWindow, FromWorker, ListDelta, ListSnapshot, Refusal, Scan, Status } from "./types";

export interface Handlers {
  snapshot(snapshot: ListSnapshot): void;
  delta(delta: ListDelta): void;
  /** The server refused the subscription: an unknown list, an invalid filter. */
  refused?(message: string, refusal: Refusal): void;
}

export interface AlertHandlers {
  alert(alert: Alert): void;
  /** Alerts were missed: the REST API has them. */
  reset?(): void;
}

interface Channel {
  post(message: FromWindow): void;
}

const NOTHING: Status = {
  state: "connecting", lists: [], connections: 0, staleSince: Date.now(), retryAt: null, reason: "",
  received: null, time: null, subscribed: {}, windows: 0,
}; // prettier-ignore

function openChannel(take: (message: FromWorker) => void): Channel {
  if (typeof SharedWorker !== "undefined") {
    const worker = new SharedWorker(new URL("./worker.ts", import.meta.url), { type: "module", name: "tradeul" });
    worker.port.onmessage = ({ data }) => take(data as FromWorker);
    return { post: (message) => worker.port.postMessage(message) };
  }
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "tradeul" });
  worker.onmessage = ({ data }) => take(data as FromWorker);
  return { post: (message) => worker.postMessage(message) };
}

export class Stream {
  readonly status: Readable<Status>;
  private readonly setStatus: (status: Status) => void;
  private readonly copies = new Map<string, ListCopy>();
  /** By list, and what each of them needs. */
  private readonly handlers = new Map<string, Map<Handlers, Fields>>();
  /** By list, the fields that the worker has been asked for. */
  private readonly requested = new Map<string, Fields>();
  private readonly refusals = new Map<string, Refusal>();
  private readonly observers = new Set<(marketTime: number) => void>();
  private readonly listeners = new Set<(aggregate: Aggregate) => void>();
  private readonly alerted = new Set<AlertHandlers>();
  private readonly channel: Channel;

  constructor(open: (take: (message: FromWorker) => void) => Channel = openChannel) {
    const { subscribe, set } = writable<Status>(NOTHING);
    this.status = { subscribe };
    this.setStatus = set;
    this.channel = open((message) => this.take(message));
    this.hello();
  }

  /**
   * Calls `handlers` with a snapshot, then with every change; returns what ends that. The rows have at least `fields`,
   * where all would be many times the bytes. Few different sets are better: the server encodes each of them.
   */
  subscribeList(list: string, handlers: Handlers, fields?: Fields): () => void {
    return this.subscribe(list, undefined, handlers, fields);
  }

  /** The same for a custom scan, under an id of the caller's that no built-in list has; scans with one id are one scan. */
  subscribeScan(id: string, scan: Scan, handlers: Handlers, fields?: Fields): () => void {
    return this.subscribe(id, scan, handlers, fields);
  }

  /** Calls `handler` with bars of all symbols in the subscribed lists, at most one a second and symbol. */
  subscribeAggregates(handler: (aggregate: Aggregate) => void): () => void {
    this.listeners.add(handler);
    if (this.listeners.size === 1) this.channel.post({ type: "aggregates", wanted: true });
    return () => {
      if (this.listeners.delete(handler) && this.listeners.size === 0) {
        this.channel.post({ type: "aggregates", wanted: false });
      }
    };
  }

  /** Calls `handlers` with each alert of any rule, from now on. */
  subscribeAlerts(handlers: AlertHandlers): () => void {
    this.alerted.add(handlers);
    if (this.alerted.size === 1) this.channel.post({ type: "alerts", wanted: true });
    return () => {
      if (this.alerted.delete(handlers) && this.alerted.size === 0) this.channel.post({ type: "alerts", wanted: false });
    };
  }

  /** Calls `observer` with the market's time (milliseconds since 1970) of each message of a list, after its handlers. */
  observe(observer: (marketTime: number) => void): () => void {
    this.observers.add(observer);
    return () => this.observers.delete(observer);
  }

  /** The list's rows as this window has them; empty without a subscription. */
  snapshotOf(list: string): ListSnapshot | null {
    const copy = this.copies.get(list);
    return copy?.isCurrent ? copy.toSnapshot() : null;
  }

  /** Tries to connect now instead of at the next attempt. */
  reconnect(): void {
    this.channel.post({ type: "reconnect" });
  }

  /** Another key, for all windows. */
  setKey(key: string): void {
    keyStore.set(key);
    this.useKey(key);
  }

  /** Another key, which the browser does not keep. */
  useKey(key: string): void {
    this.channel.post({ type: "hello", key });
  }

  private hello(): void {
    const lock = `tradeul-window-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    this.channel.post({ type: "hello", key: keyStore.get() });
    if (typeof navigator !== "undefined" && navigator.locks) {
      // Named only once it is held: the worker waits for the same lock, and would otherwise get it first.
      void navigator.locks.request(lock, () => {
        this.channel.post({ type: "lock", lock });
        return new Promise<void>(() => {});
      });
    }
    if (typeof window === "undefined") return;
    window.addEventListener("pagehide", (event) => {
      if (!event.persisted) this.channel.post({ type: "bye" });
    });
    window.addEventListener("online", () => this.reconnect());
  }

  private subscribe(list: string, scan: Scan | undefined, handlers: Handlers, fields: Fields): () => void {
    let all = this.handlers.get(list);
    if (!all) {
      all = new Map();
      this.handlers.set(list, all);
      this.copies.set(list, new ListCopy(list));
      this.request(list, scan, fields);
    } else if (!covers(this.requested.get(list), fields)) {
      this.request(list, scan, union(this.requested.get(list), fields));
    }
    all.set(handlers, fields);
    const copy = this.copies.get(list);
    if (copy?.isCurrent && covers(copy.fields, fields)) handlers.snapshot(copy.toSnapshot());
    const refusal = this.refusals.get(list);
    if (refusal) handlers.refused?.(refusal.message, refusal);
    return () => {
      if (!all.delete(handlers) || all.size > 0 || this.handlers.get(list) !== all) return;
      for (const each of [this.handlers, this.copies, this.refusals, this.requested]) each.delete(list);
      this.channel.post({ type: "unsubscribe", list });
    };
  }

  private request(list: string, scan: Scan | undefined, fields: Fields): void {
    this.requested.set(list, fields);
    this.channel.post({ type: "subscribe", list, ...(scan && { scan }), ...(fields && { fields }) });
  }

  /** The handlers for which the rows that are here are enough; the others get the snapshot that is on the way. */
  private handlersOf(list: string): Handlers[] {
    const has = this.copies.get(list)?.fields;
    return [...(this.handlers.get(list) ?? [])].filter(([, needed]) => covers(has, needed)).map(([handlers]) => handlers);
  }

  private take(message: FromWorker): void {
    if (message.type === "status") {
      this.setStatus(message.status);
    } else if (message.type === "snapshot") {
      this.copies.get(message.snapshot.list)?.snapshot(message.snapshot);
      this.refusals.delete(message.snapshot.list);
      for (const handlers of this.handlersOf(message.snapshot.list)) handlers.snapshot(message.snapshot);
    } else if (message.type === "delta") {
      const { delta } = message;
      const copy = this.copies.get(delta.list);
      // What its snapshot contains already. A hole cannot be: the worker asks for a snapshot itself.
      if (!copy?.isCurrent || delta.sequence <= copy.sequence) return;
      if (!copy.apply(delta)) return;
      for (const handlers of this.handlersOf(delta.list)) handlers.delta(delta);
      const time = Date.parse(delta.timestamp);
      if (time) for (const observer of this.observers) observer(time);
    } else if (message.type === "refused") {
      const { list, refusal } = message;
      this.refusals.set(list, refusal);
      for (const handlers of this.handlers.get(list)?.keys() ?? []) handlers.refused?.(refusal.message, refusal);
    } else if (message.type === "alert") {
      for (const handlers of this.alerted) handlers.alert(message.alert);
    } else if (message.type === "alerts_reset") {
      for (const handlers of this.alerted) handlers.reset?.();
    } else {
      for (const listener of this.listeners) listener(message.aggregate);
    }
  }
}

let opened: Stream | null = null;

/** Makes the window's one stream another one than its own, before anybody has opened it. */
export function useStream(other: Stream): void {
  if (opened) throw new Error("expected to be called before the stream is opened");
  opened = other;
}

/** The window's one stream, opened by the first caller. */
export function stream(): Stream {
  opened ??= new Stream();
  return opened;
}
