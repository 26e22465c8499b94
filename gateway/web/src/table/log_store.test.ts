import { beforeEach, describe, expect, it } from "vitest";
import type { LogEntry } from "./log";
import { loadLog, saveLog } from "./log_store";

const entry = (time: string, symbol: string, rest: Partial<LogEntry> = {}): LogEntry => ({ time, symbol, entered: true, ...rest });

describe("a kept log", () => {
  beforeEach(() => localStorage.clear());

  it("is as it was", () => {
    const entries = [
      entry("2026-03-10T14:00:00.25Z", "AAPL", { rank: 3, price: 12.5, change: -1.5 }),
      entry("2026-03-10T14:00:01Z", "TSLA", { entered: false, rank: 1, halt: "LUDP" }),
      entry("2026-03-10T14:00:02Z", "IBM"),
    ];
    saveLog("gappers_up", entries, localStorage);
    expect(loadLog("gappers_up", "2026-03-10T14:00:02Z", localStorage)).toEqual(entries);
    expect(loadLog("gappers_down", "2026-03-10T14:00:02Z", localStorage)).toEqual([]);
  });

  it("is of one day in New York, and not ahead of it", () => {
    saveLog("a", [entry("2026-03-10T03:59:00Z", "OLD"), entry("2026-03-10T14:00:00Z", "A"), entry("2026-03-11T00:30:00Z", "LATE")], localStorage);
    const at = (now: string) => loadLog("a", now, localStorage).map(({ symbol }) => symbol);
    expect(at("2026-03-11T01:00:00Z")).toEqual(["A", "LATE"]);
    expect(at("2026-03-10T15:00:00Z")).toEqual(["A"]);
    expect(at("2026-03-11T15:00:00Z")).toEqual([]);
    // Another list's next day ends it.
    saveLog("b", [entry("2026-03-11T14:00:00Z", "B")], localStorage);
    expect(Object.keys(localStorage)).toEqual(["tradeul.log.b"]);
  });

  it("does without room and with what somebody else has written", () => {
    localStorage.setItem("tradeul.log.a", "nonsense");
    expect(loadLog("a", "2026-03-10T14:00:00Z", localStorage)).toEqual([]);
    saveLog("a", [], localStorage);
    expect(localStorage.getItem("tradeul.log.a")).toBe("nonsense");
  });
});
