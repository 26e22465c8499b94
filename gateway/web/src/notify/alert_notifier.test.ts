import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { AlertHandlers } from "../stream/client";
import type { Alert } from "../stream/types";
import { exclusionList } from "../scan/own_scans";
import { AlertNotifier } from "./alert_notifier";
import { alertWays, setWay } from "./alert_rules";
import { preferences } from "./rules";

const subscribers = new Set<AlertHandlers>();
const stream = {
  subscribeAlerts(handlers: AlertHandlers) {
    subscribers.add(handlers);
    return () => void subscribers.delete(handlers);
  },
};
let made: string[] = [];
const outputs = {
  sound: (tone: string) => void made.push(`tone ${tone}`),
  speak: (text: string) => void made.push(`say ${text}`),
  desktop: (title: string, body: string) => void made.push(`show ${title} (${body})`),
};
let sequence = 0;
const alert = (rule: string, symbol: string): Alert => ({
  epoch: 7, sequence: ++sequence, rule, symbol, time: "2026-03-10T13:31:00Z", text: "at 12.4", row: {},
}); // prettier-ignore
function send(...alerts: Alert[]): void {
  for (const each of alerts) for (const handlers of subscribers) handlers.alert(each);
}
let notifier: AlertNotifier;

beforeEach(() => {
  vi.useFakeTimers();
  made = [];
  alertWays.set({});
  exclusionList.set([]);
  notifier = new AlertNotifier(stream, outputs);
});
afterEach(() => {
  notifier.stop();
  vi.useRealTimers();
});

test("alerts are asked for only where a rule is announced, and by the window that leads", () => {
  notifier.lead(true);
  expect(subscribers.size).toBe(0);
  setWay("halt", "Trading halted", "sound", true);
  expect(subscribers.size).toBe(1);
  notifier.lead(false);
  expect(subscribers.size).toBe(0);
  notifier.lead(true);
  setWay("halt", "Trading halted", "sound", false);
  expect(subscribers.size).toBe(0);
});

test("a rule is announced in the ways that were chosen for it", () => {
  setWay("halt", "Trading halted", "sound", true);
  setWay("spike", "A spike", "speech", true);
  setWay("spike", "A spike", "desktop", true);
  notifier.lead(true);
  send(alert("spike", "AB"), alert("halt", "XY"), alert("other", "ZZ"));
  expect(made).toEqual([]);
  vi.advanceTimersByTime(300);
  expect(made.sort()).toEqual(["say A B, A spike", "show AB: A spike (at 12.4)", "tone halt"]);
});

test("many at once are a number", () => {
  setWay("spike", "A spike", "speech", true);
  setWay("spike", "A spike", "sound", true);
  notifier.lead(true);
  send(...["A", "B", "C", "D"].map((symbol) => alert("spike", symbol)));
  vi.advanceTimersByTime(300);
  expect(made).toEqual(["say 4 symbols: A spike", "tone alert"]);
});

test("excluded symbols and quiet hours are silent", () => {
  setWay("spike", "A spike", "speech", true);
  notifier.lead(true);
  exclusionList.set(["A"]);
  send(alert("spike", "A"));
  vi.advanceTimersByTime(300);
  expect(made).toEqual([]);
  const hour = new Date().getHours();
  const clock = (each: number): string => `${String(each % 24).padStart(2, "0")}:00`;
  preferences.update((all) => ({ ...all, quiet: { isOn: true, from: clock(hour), to: clock(hour + 1) } }));
  send(alert("spike", "B"));
  vi.advanceTimersByTime(300);
  expect(made).toEqual([]);
  preferences.update((all) => ({ ...all, quiet: { ...all.quiet, isOn: false } }));
  send(alert("spike", "B"));
  vi.advanceTimersByTime(300);
  expect(made).toEqual(["say B, A spike"]);
});
