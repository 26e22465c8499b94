import { beforeEach, describe, expect, test, vi } from "vitest";
import { exclusionList, watchList } from "../scan/own_scans";
import type { Handlers, Stream } from "../stream/client";
import type { Change, Row } from "../stream/types";
import { Announcer, desktopText, spelled, spokenText, type Outputs } from "./announce";
import { Detector, type Notice } from "./detect";
import { Notifier } from "./notifier";
import { Cooldowns, isQuiet, newRule, preferences, rules, type Preferences, type Rule } from "./rules";

const row = (symbol: string, more: Partial<Row> = {}): Row => ({ symbol, rank: 1, price: 12.5, change_percent: 12.34, ...more }) as Row;
const snapshot = (...rows: Row[]) => ({ list: "winners", epoch: 1, sequence: 1, timestamp: "", rows });
const delta = (...deltas: Change[]) => ({ list: "winners", sequence: 2, timestamp: "", deltas });
const add = (data: Row): Change => ({ action: "add", rank: 1, symbol: data.symbol, data });
const update = (data: Row): Change => ({ action: "update", rank: 1, symbol: data.symbol, data });
const remove = (symbol: string): Change => ({ action: "remove", symbol });
const words = (notices: Notice[]) => notices.map(({ kind, symbol }) => `${symbol} ${kind}`);
const LOUD: Preferences = { volume: 0.5, quiet: { isOn: false, from: "22:00", to: "07:00" } };

describe("a list's notices", () => {
  test("are entries, leaves, new highs, halts and resumptions", () => {
    const detector = new Detector(false);
    expect(detector.snapshot(snapshot(row("A", { intraday_high: 10, halted: false }), row("B")))).toEqual([]);
    expect(words(detector.delta(delta(add(row("C")), remove("B"))))).toEqual(["C enter", "B leave"]);
    expect(words(detector.delta(delta(update(row("A", { intraday_high: 10.1, halted: false })))))).toEqual(["A high"]);
    expect(words(detector.delta(delta(update(row("A", { intraday_high: 10.1, halted: true })))))).toEqual(["A halt"]);
    expect(words(detector.delta(delta(update(row("A", { intraday_high: 10.1, halted: false })))))).toEqual(["A resume"]);
    expect(words(detector.delta(delta({ action: "rerank", symbol: "A", old_rank: 1, new_rank: 2 })))).toEqual([]);
  });

  test("go on after a lost connection with what has changed", () => {
    const detector = new Detector(false);
    detector.snapshot(snapshot(row("A", { intraday_high: 10 }), row("B")));
    expect(words(detector.snapshot(snapshot(row("A", { intraday_high: 11 }), row("C"))))).toEqual(["B leave", "A high", "C enter"]);
  });

  test("of the list of halts are halts and resumptions, too", () => {
    const detector = new Detector(true);
    detector.snapshot(snapshot());
    expect(words(detector.delta(delta(add(row("A", { halted: true })))))).toEqual(["A enter", "A halt"]);
    expect(words(detector.delta(delta(remove("A"))))).toEqual(["A leave", "A resume"]);
  });
});

test("quiet hours may pass midnight", () => {
  const at = (hours: number, minutes: number) => new Date(2026, 2, 10, hours, minutes);
  const night = { isOn: true, from: "22:00", to: "07:00" };
  expect([at(21, 59), at(22, 0), at(0, 0), at(6, 59), at(7, 0)].map((date) => isQuiet(night, date))).toEqual([false, true, true, true, false]);
  expect(isQuiet({ isOn: true, from: "12:00", to: "13:00" }, at(12, 30))).toBe(true);
  expect(isQuiet({ isOn: true, from: "12:00", to: "13:00" }, at(13, 0))).toBe(false);
  expect(isQuiet({ ...night, isOn: false }, at(23, 0))).toBe(false);
});

test("a cooldown is a list's, a symbol's and a kind's own", () => {
  const cooldowns = new Cooldowns();
  expect(cooldowns.allows("winners", "A", "enter", 0, 1000)).toBe(true);
  expect(cooldowns.allows("winners", "A", "enter", 999, 1000)).toBe(false);
  expect(cooldowns.allows("winners", "A", "halt", 999, 1000)).toBe(true);
  expect(cooldowns.allows("losers", "A", "enter", 999, 1000)).toBe(true);
  expect(cooldowns.allows("winners", "B", "enter", 999, 1000)).toBe(true);
  expect(cooldowns.allows("winners", "A", "enter", 1000, 1000)).toBe(true);
});

describe("an announcement", () => {
  let made: string[];
  let now: number;
  let announcer: Announcer;
  const rule: Rule = { ...newRule({ list: "winners" }, "Winners"), kinds: ["enter", "halt"], speech: true, desktop: true, cooldown: 60 };
  const enter = (symbol: string): Notice => ({ kind: "enter", symbol, row: row(symbol) });

  beforeEach(() => {
    made = [];
    now = new Date(2026, 2, 10, 9, 31).getTime();
    const outputs: Outputs = {
      sound: (kind, volume) => made.push(`sound ${kind} ${volume}`),
      speak: (text) => made.push(`speak ${text}`),
      desktop: (title, body, tag) => made.push(`desktop ${title} / ${body} / ${tag}`),
    };
    announcer = new Announcer(outputs, () => now);
  });

  const announce = (notices: Notice[], more: Partial<Rule> = {}, how = LOUD, excluded = new Set<string>()) => {
    announcer.announce("winners", { ...rule, ...more }, notices, excluded, how);
    return made.splice(0);
  };

  test("is one sound, a sentence and a notification", () => {
    expect(announce([enter("ABC")])).toEqual([
      "speak A B C enters Winners, up 12 percent",
      "desktop ABC entered / Winners \u00b7 12.50 \u00b7 +12.3 % / winners ABC",
      "sound enter 0.5",
    ]);
  });

  test("is left out for what the rule, the cooldown, the exclusion list or quiet hours do not want", () => {
    expect(announce([{ kind: "leave", symbol: "A", row: row("A") }])).toEqual([]);
    expect(announce([enter("A")], { speech: false, desktop: false, sound: false })).toEqual([]);
    expect(announce([enter("B")])).toHaveLength(3);
    now += 59_000;
    expect(announce([enter("B")])).toEqual([]);
    now += 1_000;
    expect(announce([enter("B")])).toHaveLength(3);
    expect(announce([enter("C")], {}, LOUD, new Set(["C"]))).toEqual([]);
    expect(announce([enter("D")], {}, { ...LOUD, quiet: { isOn: true, from: "09:00", to: "10:00" } })).toEqual([]);
  });

  test("of many is a number, and the most urgent one is heard", () => {
    const halt: Notice = { kind: "halt", symbol: "H", row: row("H", { halt_reason: "LUDP" }) };
    expect(announce([..."ABCD"].map(enter).concat(halt))).toEqual([
      "speak H is halted, volatility pause",
      "desktop H halted / Winners \u00b7 12.50 \u00b7 +12.3 % \u00b7 LUDP: volatility pause / winners H",
      "speak 4 symbols enter Winners",
      "desktop 4 symbols enter Winners / A, B, C, D / winners enter",
      "sound halt 0.5",
    ]);
  });

  test("spells tickers", () => {
    expect(spelled("BRK.B")).toBe("B R K dot B");
    expect(spokenText({ kind: "high", symbol: "A", row: row("A", { change_percent: -1.25 }) }, "New highs")).toBe("A makes a new high in New highs, down 1.3 percent");
    expect(desktopText({ kind: "leave", symbol: "A", row: { symbol: "A", rank: 1 } as Row }, "Winners")).toEqual({ title: "A left", body: "Winners" });
  });
});

describe("the notifier", () => {
  const handlers = new Map<string, Handlers>();
  const stream = {
    subscribeList: (list: string, given: Handlers) => {
      handlers.set(list, given);
      return () => handlers.delete(list);
    },
    subscribeScan: (_id: string, scan: { filter: string }, given: Handlers) => {
      handlers.set(scan.filter, given);
      return () => handlers.delete(scan.filter);
    },
  } as unknown as Stream;
  let spoken: string[];
  let notifier: Notifier;

  beforeEach(() => {
    handlers.clear();
    spoken = [];
    rules.set({});
    watchList.set([]);
    exclusionList.set([]);
    preferences.set(LOUD);
    notifier = new Notifier(stream, { sound: () => {}, speak: (text) => spoken.push(text), desktop: () => {} });
    return () => notifier.stop();
  });

  test("follows lists that have a rule, while this window is the one that announces", () => {
    rules.set({ winners: { ...newRule({ list: "winners" }, "Winners"), kinds: ["enter"] }, losers: newRule({ list: "losers" }, "Losers") });
    expect([...handlers.keys()]).toEqual([]);
    notifier.lead(true);
    expect([...handlers.keys()]).toEqual(["winners"]);
    rules.set({});
    expect([...handlers.keys()]).toEqual([]);
  });

  test("follows the watch list as it changes", () => {
    rules.set({ watch: { ...newRule({ watch: true }, "Watch list"), kinds: ["high"] } });
    notifier.lead(true);
    expect([...handlers.keys()]).toEqual([]);
    watchList.set(["AAPL"]);
    expect([...handlers.keys()]).toEqual(['symbol IN ("AAPL")']);
    watchList.set(["AAPL", "TSLA"]);
    expect([...handlers.keys()]).toEqual(['symbol IN ("AAPL", "TSLA")']);
  });

  test("announces together what happens together", () => {
    vi.useFakeTimers();
    try {
      rules.set({ winners: { ...newRule({ list: "winners" }, "Winners"), kinds: ["enter"], speech: true } });
      notifier.lead(true);
      exclusionList.set(["E"]);
      handlers.get("winners")?.snapshot(snapshot());
      for (const symbol of "ABCDE") handlers.get("winners")?.delta(delta(add(row(symbol))));
      expect(spoken).toEqual([]);
      vi.advanceTimersByTime(300);
      expect(spoken).toEqual(["4 symbols enter Winners"]);
    } finally {
      vi.useRealTimers();
    }
  });
});

test("stored rules of another version are read as far as they can be", () => {
  localStorage.setItem("tradeul.notify.rules", JSON.stringify({ winners: { source: { list: "winners" }, title: "W", kinds: ["enter", "x"], cooldown: 1e9 }, x: 3, y: { source: {}, title: "", kinds: [] } }));
  window.dispatchEvent(new StorageEvent("storage", { key: "tradeul.notify.rules" }));
  let seen: unknown;
  rules.subscribe((value) => (seen = value))();
  expect(seen).toEqual({ winners: { source: { list: "winners" }, title: "W", kinds: ["enter"], sound: false, speech: false, desktop: false, cooldown: 3600 } });
});
