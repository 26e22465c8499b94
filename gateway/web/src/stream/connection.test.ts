import { beforeEach, describe, expect, test } from "vitest";
import { Connection, type Admission, type Network, type Socket } from "./connection";
import type { ListDelta, ListSnapshot, Status } from "./types";

const CLOSED_BY_NETWORK = 1006;
const GOING_AWAY = 1001;

class FakeSocket implements Socket {
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly sent: Record<string, unknown>[] = [];
  isClosed = false;

  constructor(readonly ticket: string | undefined) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Record<string, unknown>);
  }

  close(): void {
    this.isClosed = true;
  }

  receive(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

/** A network whose time stands still until `pass`. */
class FakeNetwork implements Network {
  time = 1_000_000;
  admission: Admission = { kind: "open" };
  readonly sockets: FakeSocket[] = [];
  private timers: { id: number; due: number; run: () => void }[] = [];
  private lastId = 0;

  open(ticket: string | undefined): Socket {
    const socket = new FakeSocket(ticket);
    this.sockets.push(socket);
    return socket;
  }

  admit(): Promise<Admission> {
    return Promise.resolve(this.admission);
  }

  now(): number {
    return this.time;
  }

  random(): number {
    return 0.5;
  }

  setTimer(run: () => void, milliseconds: number): number {
    this.lastId += 1;
    this.timers.push({ id: this.lastId, due: this.time + milliseconds, run });
    return this.lastId;
  }

  clearTimer(timer: number): void {
    this.timers = this.timers.filter(({ id }) => id !== timer);
  }

  async pass(milliseconds: number): Promise<void> {
    const end = this.time + milliseconds;
    for (;;) {
      await settle();
      const next = this.timers.filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)[0];
      if (!next) break;
      this.clearTimer(next.id);
      this.time = Math.max(this.time, next.due);
      next.run();
    }
    this.time = end;
    await settle();
  }

  get newest(): FakeSocket {
    const socket = this.sockets.at(-1);
    if (!socket) throw new Error("expected a socket");
    return socket;
  }
}

const settle = (): Promise<void> => new Promise((done) => queueMicrotask(() => queueMicrotask(done)));

let network: FakeNetwork;
let snapshots: ListSnapshot[];
let deltas: ListDelta[];
let refusals: string[];
let alerts: string[];
let connection: Connection;
const status = (): Status => connection.status(1);
const subscriptions = (socket: FakeSocket): unknown[] => socket.sent.filter(({ action }) => action !== "ping");

beforeEach(() => {
  network = new FakeNetwork();
  [snapshots, deltas, refusals, alerts] = [[], [], [], []];
  connection = new Connection(network, {
    snapshot: (snapshot) => snapshots.push(snapshot),
    delta: (delta) => deltas.push(delta),
    aggregate: () => {},
    alert: ({ symbol, sequence }) => alerts.push(`${symbol} ${sequence}`),
    alertsReset: () => alerts.push("reset"),
    refused: (list, { message }) => refusals.push(`${list}: ${message}`),
    status: () => {},
  });
});

async function opened(): Promise<FakeSocket> {
  connection.start("");
  await network.pass(0);
  network.newest.onopen?.();
  network.newest.receive({ type: "connected", lists: ["winners"] });
  return network.newest;
}

const timestamp = "2026-03-10T13:31:00Z";
const snapshot = (sequence: number, epoch = 7): object => ({
  type: "snapshot", list: "winners", epoch, sequence, rows: [{ symbol: "A", rank: 1 }], timestamp,
}); // prettier-ignore
const delta = (sequence: number): object => ({ type: "delta", list: "winners", sequence, deltas: [], timestamp });

describe("a connection", () => {
  test("subscribes what was wanted before it was open, and hands on what comes", async () => {
    connection.subscribe("winners");
    const socket = await opened();
    expect(socket.sent).toEqual([{ action: "subscribe_list", list: "winners", changed_fields_only: true, aggregates: false }]);
    socket.receive(snapshot(4));
    socket.receive(delta(5));
    expect([snapshots.length, deltas.map(({ sequence }) => sequence)]).toEqual([1, [5]]);
    expect(status()).toMatchObject({ state: "open", lists: ["winners"], staleSince: null });
    expect(status().subscribed["winners"]).toMatchObject({ epoch: 7, sequence: 5, rows: 1, holes: 0 });
  });

  test("asks for a snapshot once when a sequence is missing, and withholds what follows", async () => {
    connection.subscribe("winners");
    const socket = await opened();
    for (const message of [snapshot(4), delta(6), delta(7)]) socket.receive(message);
    expect(socket.sent.slice(1)).toEqual([{ action: "resync", list: "winners" }]);
    expect(deltas).toEqual([]);
    for (const message of [snapshot(7), delta(8)]) socket.receive(message);
    expect(deltas.map(({ sequence }) => sequence)).toEqual([8]);
    expect(status().subscribed["winners"]?.holes).toBe(1);
  });

  test("goes on from its positions after a loss", async () => {
    connection.subscribe("winners");
    const first = await opened();
    first.receive(snapshot(4));
    first.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    expect(status()).toMatchObject({ state: "waiting", reason: "the connection was lost", staleSince: network.time });
    await network.pass(300);
    expect(network.sockets).toHaveLength(2);
    network.newest.onopen?.();
    expect(network.newest.sent).toEqual([{ action: "subscribe_list", list: "winners", epoch: 7, sequence: 4, changed_fields_only: true, aggregates: false }]);
    expect(status()).toMatchObject({ state: "open", connections: 2, staleSince: null });
  });

  test("says why the server has gone", async () => {
    const socket = await opened();
    socket.receive({ type: "error", message: "the server is about to stop" });
    socket.onclose?.({ code: GOING_AWAY, reason: "" });
    expect(status()).toMatchObject({ state: "waiting", reason: "the server is about to stop" });
  });

  test("waits longer after each failure, and not at all when it is asked to", async () => {
    connection.start("");
    const waits: number[] = [];
    for (let failure = 0; failure < 8; failure += 1) {
      await network.pass(0);
      network.newest.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
      waits.push((status().retryAt ?? 0) - network.time);
      await network.pass(waits.at(-1) ?? 0);
    }
    expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    network.newest.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    const before = network.sockets.length;
    connection.retry();
    await network.pass(0);
    expect(network.sockets.length).toBe(before + 1);
  });

  test("notices a network that was cut without a word", async () => {
    const socket = await opened();
    await network.pass(4_100);
    expect(socket.sent).toEqual([{ action: "ping" }]);
    socket.receive({ type: "pong" });
    await network.pass(7_900);
    expect(status().state).toBe("open");
    await network.pass(4_200);
    expect(socket.isClosed).toBe(true);
    // Its next attempt may be on the way already.
    expect(status()).toMatchObject({ reason: "no answer", connections: 1, staleSince: expect.any(Number) });
  });

  test("keeps to the server's limit of messages", async () => {
    for (let list = 0; list < 40; list += 1) connection.subscribe(`list_${list}`);
    const socket = await opened();
    expect(socket.sent).toHaveLength(18);
    await network.pass(1_000);
    expect(socket.sent.length).toBeLessThanOrEqual(18 + 4);
    for (let second = 0; second < 8; second += 1) {
      await network.pass(1_000);
      socket.receive({ type: "pong" });
    }
    expect(subscriptions(socket)).toHaveLength(40);
  });

  test("waits for a key where one is required, and sends a ticket then", async () => {
    network.admission = { kind: "key", reason: "this gateway requires a key" };
    connection.start("");
    await network.pass(60_000);
    expect([network.sockets.length, status().state]).toEqual([0, "key"]);
    network.admission = { kind: "open", ticket: "t1" };
    connection.retry("tradeul_key");
    await network.pass(0);
    expect(network.newest.ticket).toBe("t1");
  });

  test("passes on what the server refuses", async () => {
    connection.subscribe("wyners");
    const socket = await opened();
    socket.receive({ type: "error", message: "there is no list 'wyners'", list: "wyners" });
    expect(refusals).toEqual(["wyners: there is no list 'wyners'"]);
    expect(status().state).toBe("open");
  });

  test("subscribes custom scans with their filter, and without a position after a loss", async () => {
    const scan = { filter: "price < 5", order_by: "gap_percent desc", limit: 10 };
    connection.subscribe("mine", scan);
    const socket = await opened();
    const subscription = { action: "subscribe_scan", scan: "mine", ...scan, changed_fields_only: true, aggregates: false };
    expect(socket.sent).toEqual([subscription]);
    socket.receive({ type: "snapshot", list: "mine", epoch: 7, sequence: 1, rows: [], timestamp });
    socket.receive({ type: "delta", list: "mine", sequence: 3, deltas: [], timestamp });
    expect(socket.sent.at(-1)).toEqual({ action: "resync", scan: "mine" });
    socket.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    await network.pass(300);
    network.newest.onopen?.();
    expect(network.newest.sent).toEqual([subscription]);
    connection.unsubscribe("mine");
    expect(network.newest.sent.at(-1)).toEqual({ action: "unsubscribe_scan", scan: "mine" });
  });

  test("asks for the fields that are needed, and for a snapshot when more are", async () => {
    connection.subscribe("winners", undefined, ["price"]);
    const socket = await opened();
    expect(socket.sent).toEqual([{ action: "subscribe_list", list: "winners", fields: ["price"], changed_fields_only: true, aggregates: false }]);
    socket.receive({ type: "subscribed_list", list: "winners" });
    socket.receive(snapshot(4));
    connection.subscribe("winners", undefined, ["price"]);
    connection.subscribe("winners", undefined, ["rvol", "price"]);
    expect(socket.sent.slice(1)).toEqual([
      { action: "subscribe_list", list: "winners", fields: ["price", "rvol"], changed_fields_only: true, aggregates: false },
    ]);
    // What was on the way has the fields of before, a snapshot as well.
    for (const message of [delta(5), snapshot(6)]) socket.receive(message);
    socket.receive({ type: "subscribed_list", list: "winners" });
    for (const message of [snapshot(6), delta(7)]) socket.receive(message);
    expect(snapshots.map(({ fields }) => fields)).toEqual([["price"], ["price"], ["price", "rvol"]]);
    expect(deltas.map(({ sequence }) => sequence)).toEqual([5, 7]);
    connection.subscribe("winners");
    expect(socket.sent.at(-1)).toEqual({ action: "subscribe_list", list: "winners", changed_fields_only: true, aggregates: false });
    socket.receive({ type: "subscribed_list", list: "winners" });
    socket.receive(snapshot(8));
    expect(snapshots.at(-1)?.fields).toBeUndefined();
  });

  test("goes on from its position after a loss only if its rows have the fields that are needed", async () => {
    connection.subscribe("winners", undefined, ["price"]);
    const first = await opened();
    for (const message of [{ type: "subscribed_list", list: "winners" }, snapshot(4)]) first.receive(message);
    first.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    connection.subscribe("winners", undefined, ["rvol"]);
    await network.pass(300);
    network.newest.onopen?.();
    const subscription = { action: "subscribe_list", list: "winners", fields: ["price", "rvol"], changed_fields_only: true, aggregates: false };
    expect(network.newest.sent).toEqual([subscription]);
    for (const message of [{ type: "subscribed_list", list: "winners" }, snapshot(9)]) network.newest.receive(message);
    network.newest.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    await network.pass(300);
    network.newest.onopen?.();
    expect(network.newest.sent).toEqual([{ ...subscription, epoch: 7, sequence: 9 }]);
  });

  test("gives a scan with more fields another name, so that its rows are told apart", async () => {
    const scan = { filter: "price < 5" };
    connection.subscribe("mine", scan, ["price"]);
    const socket = await opened();
    connection.subscribe("mine", scan, ["rvol"]);
    const [, ended, widened] = socket.sent as { action: string; scan: string; fields?: string[] }[];
    expect(ended).toEqual({ action: "unsubscribe_scan", scan: "mine" });
    expect(widened).toMatchObject({ action: "subscribe_scan", ...scan, fields: ["price", "rvol"] });
    const rows = (list: string | undefined) => ({ type: "snapshot", list, epoch: 7, sequence: 1, rows: [], timestamp });
    socket.receive(rows("mine"));
    expect(snapshots).toEqual([]);
    socket.receive(rows(widened?.scan));
    socket.receive({ type: "delta", list: widened?.scan, sequence: 2, deltas: [], timestamp });
    expect(snapshots).toMatchObject([{ list: "mine", fields: ["price", "rvol"] }]);
    expect(deltas).toMatchObject([{ list: "mine", sequence: 2 }]);
    socket.receive({ type: "error", message: "too costly", scan: widened?.scan });
    expect(refusals).toEqual(["mine: too costly"]);
    connection.unsubscribe("mine");
    expect(socket.sent.at(-1)).toEqual({ action: "unsubscribe_scan", scan: widened?.scan });
  });

  test("gets alerts while somebody wants them, and goes on after the newest", async () => {
    const alert = (sequence: number): object => ({ type: "alert", epoch: 7, sequence, rule: "halt", symbol: "A", time: timestamp, text: "", row: {} });
    const socket = await opened();
    socket.receive(alert(3));
    connection.wantAlerts(true);
    connection.wantAlerts(true);
    expect(subscriptions(socket)).toEqual([{ action: "subscribe_alerts" }]);
    socket.receive({ type: "subscribed_alerts" });
    socket.receive({ type: "alerts_current", epoch: 7, sequence: 3 });
    socket.receive(alert(4));
    socket.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    await network.pass(1_000);
    network.newest.onopen?.();
    expect(subscriptions(network.newest)).toEqual([{ action: "subscribe_alerts", epoch: 7, sequence: 4 }]);
    network.newest.receive({ type: "alerts_reset", epoch: 8, sequence: 9, reason: "another day" });
    network.newest.receive(alert(10));
    expect(alerts).toEqual(["A 4", "reset", "A 10"]);
    connection.wantAlerts(false);
    expect(network.newest.sent.at(-1)).toEqual({ action: "unsubscribe_alerts" });
    network.newest.receive(alert(11));
    expect(alerts.length).toBe(3);
  });

  test("says nothing of the connection when alerts are refused", async () => {
    const socket = await opened();
    connection.wantAlerts(true);
    socket.receive({ type: "error", alerts: true, message: "too many subscriptions" });
    socket.onclose?.({ code: CLOSED_BY_NETWORK, reason: "" });
    expect(status().reason).toBe("the connection was lost");
  });

  test("gets bars only while somebody wants them, without losing its position", async () => {
    connection.subscribe("winners");
    const socket = await opened();
    socket.receive(snapshot(4));
    connection.wantAggregates(true);
    connection.wantAggregates(true);
    expect(socket.sent.slice(1)).toEqual([
      { action: "subscribe_list", list: "winners", epoch: 7, sequence: 4, changed_fields_only: true, aggregates: true },
    ]);
  });
});
