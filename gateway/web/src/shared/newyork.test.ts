// @vitest-environment node
import { describe, expect, it } from "vitest";
import {
  countdown,
  fromWall,
  newYorkClock,
  newYorkDate,
  newYorkTime,
  offsetSeconds,
  toWall,
  utcSeconds,
} from "./newyork";

const at = (timestamp: string) => Date.parse(timestamp) / 1000;

describe("New York times", () => {
  it("are five hours behind UTC in winter and four in summer", () => {
    expect(offsetSeconds(at("2026-01-15T15:00:00Z"))).toBe(-5 * 3600);
    expect(offsetSeconds(at("2026-07-15T15:00:00Z"))).toBe(-4 * 3600);
  });

  it("change at 02:00 on the days of the change, to the second", () => {
    // 2026-03-08: 01:59:59 EST is followed by 03:00:00 EDT.
    expect(newYorkClock(at("2026-03-08T06:59:59Z"), true)).toBe("01:59:59");
    expect(newYorkClock(at("2026-03-08T07:00:00Z"), true)).toBe("03:00:00");
    // 2026-11-01: 01:59:59 EDT is followed by 01:00:00 EST.
    expect(newYorkClock(at("2026-11-01T05:59:59Z"), true)).toBe("01:59:59");
    expect(newYorkClock(at("2026-11-01T06:00:00Z"), true)).toBe("01:00:00");
  });

  it("give the open of the days before and after a change", () => {
    expect(newYorkTime("2026-03-06", "09:30")).toBe(at("2026-03-06T14:30:00Z"));
    expect(newYorkTime("2026-03-09", "09:30:00")).toBe(at("2026-03-09T13:30:00Z"));
    expect(newYorkTime("2026-10-30", "09:30")).toBe(at("2026-10-30T13:30:00Z"));
    expect(newYorkTime("2026-11-02", "09:30")).toBe(at("2026-11-02T14:30:00Z"));
  });

  it("come back from the wall clock at every hour of a year", () => {
    for (let time = at("2026-01-01T00:30:00Z"); time < at("2027-01-01T00:00:00Z"); time += 3600) {
      const back = fromWall(toWall(time));
      // The repeated hour of autumn is its first one.
      if (back !== time) expect([time - back, newYorkDate(time)]).toEqual([3600, "2026-11-01"]);
    }
  });

  it("have the date of New York, also after 19:00 when UTC has the next", () => {
    expect(newYorkDate(at("2026-01-16T00:59:00Z"))).toBe("2026-01-15");
    expect(newYorkClock(at("2026-01-16T00:59:00Z"))).toBe("19:59");
  });

  it("read timestamps with nanoseconds, and nothing else", () => {
    expect(utcSeconds("2025-11-24T14:27:50.186123456Z")).toBeCloseTo(at("2025-11-24T14:27:50Z") + 0.186, 3);
    expect(utcSeconds(undefined)).toBeNaN();
    expect(utcSeconds("yesterday")).toBeNaN();
  });
});

describe("a countdown", () => {
  it.each([
    [0, "0:00"],
    [-5, "0:00"],
    [0.2, "0:01"],
    [59.5, "1:00"],
    [245, "4:05"],
    [3845, "1:04:05"],
    [2 * 86400 + 11045, "2 d 03:04:05"],
  ])("of %d seconds is %s", (seconds, text) => expect(countdown(seconds)).toBe(text));
});
