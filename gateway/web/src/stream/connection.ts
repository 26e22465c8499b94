/**
 * The one WebSocket of this browser: subscribes, keeps copies and positions, and goes on from them after a loss.
 *
 * Sockets, tickets, time and timers are passed in, so that tests can play a network.
 */

import { covers, union, type Fields } from "./fields";
import { ListCopy } from "./list_copy";
import type { Aggregate, Alert, ListDelta, ListSnapshot, ListStatus, PatchedDelta, Position, Refusal, Scan, Status } from "./types";

export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  send(text: string): void;
  close(): void;
}

/** A ticket, none because keys are not required, or the reason why there is no connection for now. */
export type Admission =
  | { kind: "open"; ticket?: string }
  | { kind: "key"; reason: string }
  | { kind: "unreachable"; reason: string };

export interface Network {
  open(ticket: string | undefined): Socket;
  admit(key: string): Promise<Admission>;
  now(): number;
  random(): number;
  setTimer(run: () => void, milliseconds: number): number;
  clearTimer(timer: number): void;
}

export interface Events {
  snapshot(snapshot: ListSnapshot): void;
  delta(delta: ListDelta): void;
  aggregate(aggregate: Aggregate): void;
  alert(alert: Alert): void;
  /** Alerts were missed, which the REST API has. */
  alertsReset(): void;
  refused(list: string, refusal: Refusal): void;
  status(status: Status): void;
}

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 10_000;
/** A connection without a message for so long is asked for one, and given up without an answer in time. */
const QUIET_MS = 4_000;
const ANSWER_MS = 4_000;
/** The server reads 20 messages a second after a burst of 100; a subscription counts as 5 (docs/websocket.md). */
const BURST = 90;
const PER_SECOND = 18;
const SUBSCRIPTION_COST = 5;

interface Wanted {
  copy: ListCopy;
  scan: Scan | undefined;
  /** Those that somebody needs; they only become more while the list is wanted. */
  fields: Fields;
  /** Its name in messages: a scan with other fields has another one, so that rows with fewer fields can be told apart. */
  wireName: string;
  received: number;
  holes: number;
  isResyncing: boolean;
}

type Message =
  | { type: "connected"; lists: string[] }
  | ({ type: "snapshot" } & ListSnapshot)
  | ({ type: "delta" } & PatchedDelta)
  | ({ type: "aggregate" } & Aggregate)
  | ({ type: "alert" } & Alert)
  | ({ type: "alerts_current" | "alerts_reset" } & Position)
  | ({ type: "error"; list?: string; scan?: string; alerts?: boolean } & Refusal)
  | { type: "subscribed_list"; list: string }
  | { type: "pong" | "subscribed_scan" | "subscribed_alerts" };

export class Connection {
  private readonly wanted = new Map<string, Wanted>();
  /** Of each list, the fields of the subscriptions that were sent and not answered yet: they are answered in order. */
  private readonly unanswered = new Map<string, Fields[]>();
  /** Of each list, the fields of the rows that come now. */
  private readonly coming = new Map<string, Fields>();
  /** Of names in messages that are not the list's own. */
  private readonly listsByWireName = new Map<string, string>();
  private widened = 0;
  private socket: Socket | null = null;
  private key = "";
  private wantsAggregates = false;
  private wantsAlerts = false;
  /** Of the newest alert, so that a new connection begins after it. */
  private alertPosition: Position | null = null;
  private state: Status["state"] = "connecting";
  private reason = "";
  private lists: string[] = [];
  private connections = 0;
  private failures = 0;
  private attempt = 0;
  private staleSince: number | null;
  private retryAt: number | null = null;
  private received: number | null = null;
  private time: number | null = null;
  private lastMessageAt = 0;
  private retryTimer: number | null = null;
  private quietTimer: number | null = null;
  private sendTimer: number | null = null;
  private queue: { text: string; cost: number }[] = [];
  private tokens = BURST;
  private refilled: number;

  constructor(
    private readonly network: Network,
    private readonly events: Events,
  ) {
    this.staleSince = network.now();
    this.refilled = network.now();
  }

  start(key: string): void {
    this.key = key;
    this.connect();
  }

  /** Another key, or an impatient reader: tries at once. Does nothing while the connection is open with this key. */
  retry(key = this.key): void {
    const isSame = key === this.key;
    this.key = key;
    if (this.socket && isSame && this.state === "open") return;
    this.failures = 0;
    this.drop();
    this.connect();
  }

  /** For a list that is wanted already, `fields` are added to those that it has. */
  subscribe(list: string, scan?: Scan, fields?: Fields): void {
    const known = this.wanted.get(list);
    if (known && JSON.stringify(known.scan) === JSON.stringify(scan)) {
      if (!covers(known.fields, fields)) this.widen(list, known, fields);
      return;
    }
    if (known) this.unsubscribe(list);
    this.wanted.set(list, { copy: new ListCopy(list), scan, fields, wireName: list, received: 0, holes: 0, isResyncing: false });
    if (this.state === "open") this.sendSubscription(list);
  }

  /** The rows of before stay until the snapshot with more fields is there. */
  private widen(list: string, wanted: Wanted, fields: Fields): void {
    if (wanted.scan) {
      if (this.state === "open") this.send({ action: "unsubscribe_scan", scan: wanted.wireName }, 1);
      this.listsByWireName.delete(wanted.wireName);
      this.widened += 1;
      wanted.wireName = `${list}+${this.widened}`;
      this.listsByWireName.set(wanted.wireName, list);
    }
    wanted.fields = union(wanted.fields, fields);
    if (this.state === "open") this.sendSubscription(list);
  }

  unsubscribe(list: string): void {
    const wanted = this.wanted.get(list);
    if (wanted) this.listsByWireName.delete(wanted.wireName);
    if (!this.wanted.delete(list) || this.state !== "open" || !wanted) return;
    if (wanted.scan) this.send({ action: "unsubscribe_scan", scan: wanted.wireName }, 1);
    else this.send({ action: "unsubscribe_list", list }, 1);
  }

  /** Bars are many; the server sends none until somebody wants them. */
  wantAggregates(wanted: boolean): void {
    if (wanted === this.wantsAggregates) return;
    this.wantsAggregates = wanted;
    // Under its name again: this replaces a subscription.
    if (this.state === "open") for (const list of this.wanted.keys()) this.sendSubscription(list);
  }

  /** All alerts, from now on; a connection has one subscription of them, so each reader chooses its own. */
  wantAlerts(wanted: boolean): void {
    if (wanted === this.wantsAlerts) return;
    this.wantsAlerts = wanted;
    this.alertPosition = null;
    if (this.state !== "open") return;
    if (wanted) this.subscribeAlerts();
    else this.send({ action: "unsubscribe_alerts" }, 1);
  }

  private subscribeAlerts(): void {
    this.send({ action: "subscribe_alerts", ...this.alertPosition }, SUBSCRIPTION_COST);
  }

  /** The list as it is here, or null before its first snapshot and after a hole. */
  snapshotOf(list: string): ListSnapshot | null {
    const copy = this.wanted.get(list)?.copy;
    return copy?.isCurrent ? copy.toSnapshot() : null;
  }

  status(windows: number): Status {
    const subscribed: Record<string, ListStatus> = {};
    for (const [list, { copy, received, holes }] of this.wanted) {
      const { epoch, sequence, timestamp, size } = copy;
      subscribed[list] = { epoch, sequence, rows: size, time: Date.parse(timestamp) || 0, received, holes };
    }
    const { state, lists, connections, staleSince, retryAt, reason, received, time } = this;
    return { state, lists, connections, staleSince, retryAt, reason, received, time, subscribed, windows };
  }

  private connect(): void {
    const attempt = ++this.attempt;
    this.set("connecting", this.reason);
    void this.network.admit(this.key).then((admission) => {
      if (attempt !== this.attempt) return;
      if (admission.kind === "key") this.set("key", admission.reason);
      else if (admission.kind === "unreachable") this.wait(admission.reason);
      else this.open(admission.ticket);
    });
  }

  private open(ticket: string | undefined): void {
    const socket = this.network.open(ticket);
    this.socket = socket;
    socket.onopen = () => {
      this.failures = 0;
      this.connections += 1;
      this.tokens = BURST;
      this.refilled = this.lastMessageAt = this.network.now();
      this.staleSince = null;
      this.set("open", "");
      for (const list of this.wanted.keys()) this.sendSubscription(list);
      if (this.wantsAlerts) this.subscribeAlerts();
      this.watch();
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      this.lastMessageAt = this.network.now();
      this.take(JSON.parse(data) as Message);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket !== this.socket) return;
      this.lost(this.reason || reason || (code === 1006 ? "the connection was lost" : `closed with ${code}`));
    };
  }

  private take(message: Message): void {
    if (message.type === "snapshot" || message.type === "delta") {
      const list = this.listOf(message.list);
      const wanted = this.wanted.get(list);
      // Its unsubscription is on the way.
      if (wanted?.wireName !== message.list) return;
      message.list = list;
      wanted.received = this.received = this.lastMessageAt;
      const time = Date.parse(message.timestamp);
      // Undated messages (an empty list before the first event) say nothing about the market's time.
      if (time) this.time = time;
      if (message.type === "snapshot") {
        wanted.isResyncing = false;
        const fields = wanted.scan ? wanted.fields : this.coming.get(list);
        if (fields) message.fields = fields;
        wanted.copy.snapshot(message);
        this.events.snapshot(message);
      } else {
        this.takeDelta(wanted, message);
      }
    } else if (message.type === "subscribed_list") {
      this.coming.set(message.list, this.unanswered.get(message.list)?.shift());
    } else if (message.type === "aggregate") {
      this.events.aggregate(message);
    } else if (message.type === "alert" || message.type === "alerts_current" || message.type === "alerts_reset") {
      this.takeAlerts(message);
    } else if (message.type === "connected") {
      this.lists = message.lists;
      this.changed();
    } else if (message.type === "error") {
      const name = message.list ?? message.scan;
      if (message.list) this.unanswered.get(message.list)?.shift();
      if (name) this.events.refused(this.listOf(name), message);
      // Without a name it is about the connection: that it will be closed, and why.
      else if (!message.alerts) this.reason = message.message;
    }
  }

  private takeDelta(wanted: Wanted, message: PatchedDelta): void {
    const { copy } = wanted;
    // What the copy has already.
    if (copy.isCurrent && message.sequence <= copy.sequence) return;
    const delta = copy.completed(message);
    if (delta && copy.apply(delta)) {
      this.events.delta(delta);
    } else if (!wanted.isResyncing) {
      copy.isCurrent = false;
      wanted.isResyncing = true;
      wanted.holes += 1;
      this.send({ action: "resync", [wanted.scan ? "scan" : "list"]: wanted.wireName }, SUBSCRIPTION_COST);
    }
  }

  private takeAlerts(message: Extract<Message, Position & { type: `alert${string}` }>): void {
    // The end of the subscription is on the way.
    if (!this.wantsAlerts) return;
    this.alertPosition = { epoch: message.epoch, sequence: message.sequence };
    if (message.type === "alert") this.events.alert(message);
    else if (message.type === "alerts_reset") this.events.alertsReset();
  }

  /** The list of a name in messages. */
  private listOf(wireName: string): string {
    return this.listsByWireName.get(wireName) ?? wireName;
  }

  private sendSubscription(list: string): void {
    const wanted = this.wanted.get(list);
    if (!wanted) return;
    wanted.isResyncing = false;
    const { copy, scan, fields, wireName } = wanted;
    const options = { ...(fields && { fields }), changed_fields_only: true, aggregates: this.wantsAggregates };
    // A scan begins with a snapshot on every connection; only lists have positions to resume from.
    if (scan) {
      this.send({ action: "subscribe_scan", scan: wireName, ...scan, ...options }, SUBSCRIPTION_COST);
      return;
    }
    const unanswered = this.unanswered.get(list) ?? [];
    this.unanswered.set(list, [...unanswered, fields]);
    // Changes lead to rows with these fields from rows with the same ones only.
    const position = covers(copy.fields, fields) ? copy.position : null;
    this.send({ action: "subscribe_list", list, ...position, ...options }, SUBSCRIPTION_COST);
  }

  private send(message: object, cost: number): void {
    this.queue.push({ text: JSON.stringify(message), cost });
    if (this.sendTimer === null) this.drain();
  }

  /** Sends what the server's limit allows, and the rest later. */
  private drain(): void {
    this.sendTimer = null;
    const now = this.network.now();
    this.tokens = Math.min(BURST, this.tokens + ((now - this.refilled) / 1000) * PER_SECOND);
    this.refilled = now;
    for (let next = this.queue[0]; next && this.socket; next = this.queue[0]) {
      if (next.cost > this.tokens) {
        this.sendTimer = this.network.setTimer(() => this.drain(), ((next.cost - this.tokens) / PER_SECOND) * 1000 + 10);
        return;
      }
      this.tokens -= next.cost;
      this.queue.shift();
      this.socket.send(next.text);
    }
  }

  /** Notices a network that was cut without a word: TCP alone takes minutes. */
  private watch(): void {
    this.clear("quietTimer");
    const quiet = this.network.now() - this.lastMessageAt;
    if (quiet >= QUIET_MS + ANSWER_MS) {
      this.lost("no answer");
      return;
    }
    if (quiet >= QUIET_MS) this.send({ action: "ping" }, 1);
    this.quietTimer = this.network.setTimer(() => this.watch(), quiet >= QUIET_MS ? ANSWER_MS : QUIET_MS - quiet + 1);
  }

  private lost(reason: string): void {
    if (this.state === "open") this.staleSince = this.received ?? this.network.now();
    this.drop();
    this.wait(reason);
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    this.attempt += 1;
    this.queue = [];
    this.unanswered.clear();
    this.coming.clear();
    for (const timer of ["retryTimer", "quietTimer", "sendTimer"] as const) this.clear(timer);
    if (this.state === "open") this.staleSince ??= this.network.now();
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  private wait(reason: string): void {
    const delay = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.failures) * (0.75 + this.network.random() / 2);
    this.failures += 1;
    this.retryAt = this.network.now() + delay;
    this.retryTimer = this.network.setTimer(() => {
      this.retryTimer = null;
      this.connect();
    }, delay);
    this.set("waiting", reason, this.retryAt);
  }

  private set(state: Status["state"], reason: string, retryAt: number | null = null): void {
    this.state = state;
    this.reason = reason;
    this.retryAt = retryAt;
    this.changed();
  }

  private changed(): void {
    this.events.status(this.status(0));
  }

  private clear(timer: "retryTimer" | "quietTimer" | "sendTimer"): void {
    const id = this[timer];
    if (id !== null) this.network.clearTimer(id);
    this[timer] = null;
  }
}
