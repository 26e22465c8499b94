/** Shares one connection among windows: each gets the lists that it has subscribed, and the status. */

import { Connection, type Admission, type Network, type Socket } from "./connection";
import type { Fields } from "./fields";
import type { FromWindow, FromWorker, Scan } from "./types";

/** A list without subscribers is kept for a while: a window that reloads or changes its layout wants it again. */
const KEEP_MS = 5_000;
const STATUS_MS = 250;

export interface Port {
  postMessage(message: FromWorker): void;
}

interface Window {
  lists: Set<string>;
  aggregates: boolean;
  alerts: boolean;
}

export class Hub {
  private readonly windows = new Map<Port, Window>();
  private readonly connection: Connection;
  private isStarted = false;
  private statusTimer: number | null = null;

  constructor(private readonly network: Network) {
    this.connection = new Connection(network, {
      snapshot: (snapshot) => this.toSubscribers(snapshot.list, { type: "snapshot", snapshot }),
      delta: (delta) => this.toSubscribers(delta.list, { type: "delta", delta }),
      aggregate: (aggregate) => {
        for (const [port, window] of this.windows) if (window.aggregates) port.postMessage({ type: "aggregate", aggregate });
      },
      alert: (alert) => this.toAlerted({ type: "alert", alert }),
      alertsReset: () => this.toAlerted({ type: "alerts_reset" }),
      refused: (list, { message, reason, metadata }) =>
        this.toSubscribers(list, { type: "refused", list, refusal: { message, ...(reason && { reason }), ...(metadata && { metadata }) } }),
      status: () => this.sendStatus(),
    });
  }

  add(port: Port): void {
    this.windows.set(port, { lists: new Set(), aggregates: false, alerts: false });
    this.sendStatus();
  }

  remove(port: Port): void {
    const window = this.windows.get(port);
    if (!window) return;
    this.windows.delete(port);
    for (const list of window.lists) this.release(list);
    this.setAggregates(window, false);
    this.setAlerts(window, false);
    this.sendStatus();
  }

  take(port: Port, message: Exclude<FromWindow, { type: "lock" }>): void {
    const window = this.windows.get(port);
    if (!window) return;
    if (message.type === "hello") this.hello(message.key);
    else if (message.type === "subscribe") this.subscribe(port, window, message);
    else if (message.type === "aggregates") this.setAggregates(window, message.wanted);
    else if (message.type === "alerts") this.setAlerts(window, message.wanted);
    else if (message.type === "reconnect") this.connection.retry();
    else if (message.type === "bye") this.remove(port);
    else if (window.lists.delete(message.list)) this.release(message.list);
  }

  private hello(key: string): void {
    if (this.isStarted) this.connection.retry(key);
    else this.connection.start(key);
    if (this.isStarted) return;
    this.isStarted = true;
    this.tick();
  }

  private subscribe(port: Port, window: Window, { list, scan, fields }: { list: string; scan?: Scan; fields?: Fields }): void {
    const isNew = !window.lists.has(list);
    window.lists.add(list);
    this.connection.subscribe(list, scan, fields);
    const snapshot = this.connection.snapshotOf(list);
    // A window that needs more fields has the rows that are here.
    if (snapshot && isNew) port.postMessage({ type: "snapshot", snapshot });
  }

  private setAggregates(window: Window, wanted: boolean): void {
    window.aggregates = wanted;
    this.connection.wantAggregates([...this.windows.values()].some(({ aggregates }) => aggregates));
  }

  private setAlerts(window: Window, wanted: boolean): void {
    window.alerts = wanted;
    this.connection.wantAlerts([...this.windows.values()].some(({ alerts }) => alerts));
  }

  private toAlerted(message: FromWorker): void {
    for (const [port, window] of this.windows) if (window.alerts) port.postMessage(message);
  }

  private release(list: string): void {
    this.network.setTimer(() => {
      if (![...this.windows.values()].some((window) => window.lists.has(list))) this.connection.unsubscribe(list);
    }, KEEP_MS);
  }

  private toSubscribers(list: string, message: FromWorker): void {
    for (const [port, window] of this.windows) if (window.lists.has(list)) port.postMessage(message);
  }

  /** Positions change with every message; the windows get them a few times a second. */
  private tick(): void {
    this.statusTimer = this.network.setTimer(() => this.tick(), STATUS_MS);
    if (this.windows.size > 0) this.sendStatus();
  }

  private sendStatus(): void {
    const status = this.connection.status(this.windows.size);
    for (const port of this.windows.keys()) port.postMessage({ type: "status", status });
  }

  stop(): void {
    if (this.statusTimer !== null) this.network.clearTimer(this.statusTimer);
  }
}

/** The network of a browser's worker, for the gateway that has served it. */
export function browserNetwork(origin: string): Network {
  let keysRequired: boolean | null = null;

  async function admit(key: string): Promise<Admission> {
    try {
      if (keysRequired === null) {
        const answer = await fetch(`${origin}/site.json`);
        if (!answer.ok) return { kind: "unreachable", reason: `the gateway answers with ${answer.status}` };
        keysRequired = ((await answer.json()) as { keys: string }).keys === "required";
      }
      if (!keysRequired) return { kind: "open" };
      if (!key) return { kind: "key", reason: "this gateway requires a key" };
      const headers = { "content-type": "application/json", "x-api-key": key };
      const answer = await fetch(`${origin}/api/v1/tickets`, { method: "POST", headers, body: "{}" });
      if (answer.ok) return { kind: "open", ticket: ((await answer.json()) as { ticket: string }).ticket };
      if (answer.status === 401 || answer.status === 403) return { kind: "key", reason: "this key is not valid here" };
      // A gateway that has been restarted may have other rules.
      if (answer.status === 404) keysRequired = null;
      return { kind: "unreachable", reason: `no ticket: the gateway answers with ${answer.status}` };
    } catch {
      keysRequired = null;
      return { kind: "unreachable", reason: "the gateway does not answer" };
    }
  }

  function open(ticket: string | undefined): Socket {
    const query = ticket ? `?ticket=${encodeURIComponent(ticket)}` : "";
    return new WebSocket(`${origin.replace(/^http/, "ws")}/ws/scanner${query}`) as unknown as Socket;
  }

  return {
    open,
    admit,
    now: () => Date.now(),
    random: () => Math.random(),
    setTimer: (run, milliseconds) => self.setTimeout(run, milliseconds) as unknown as number,
    clearTimer: (timer) => self.clearTimeout(timer),
  };
}
