// @vitest-environment node
import { describe, expect, it } from "vitest";
import { balances, share, type Breadth } from "./breadth";
import { MarketClock, sessionTime } from "./market_clock";
import { sessionName, untilNext } from "./session_text";
import type { Session } from "../shared/session";

describe("the market's time", () => {
  it("continues at the wall clock's speed, for a while", () => {
    const clock = new MarketClock();
    expect(clock.now(5)).toBeNull();
    clock.observe(1_000, 50_000);
    expect(clock.now(50_400)).toBe(1_400);
    expect(clock.now(49_000)).toBe(1_000);
    expect(clock.now(990_000)).toBe(16_000);
  });

  it("continues at a replay's speed, and stands still with it", () => {
    const clock = new MarketClock();
    for (let second = 0; second <= 20; second += 10) clock.observe(second * 60_000, second * 1_000);
    expect(clock.now(21_000)).toBe(21 * 60_000);
    clock.observe(25 * 60_000, 30_000);
    clock.observe(25 * 60_000, 40_000);
    expect(clock.now(48_000)).toBe(25 * 60_000);
  });

  it("does not take a jump for a speed", () => {
    const clock = new MarketClock();
    clock.observe(0, 0);
    clock.observe(3_600_000, 10_000);
    expect(clock.now(12_000)).toBe(3_602_000);
  });

  it("is what the next session's beginning and the time until then say", () => {
    const day = {
      trading_date: "2025-11-24", market_open: "09:30:00", market_close: "16:00:00", post_market_end: "20:00:00",
    } as Session; // prettier-ignore
    const at = (next_session: string, seconds_until_next_session: number) =>
      sessionTime({ ...day, next_session, seconds_until_next_session });
    expect(at("MARKET_OPEN", 90.5)).toBe(Date.parse("2025-11-24T14:28:29.500Z"));
    expect(at("CLOSED", 60)).toBe(Date.parse("2025-11-25T00:59:00Z"));
    expect(at("PRE_MARKET", 60)).toBeNull();
    expect(sessionTime(day)).toBeNull();
  });
});

describe("the session", () => {
  const day = {
    trading_date: "2025-11-24", market_open: "09:30:00", market_close: "16:00:00", post_market_end: "20:00:00",
  } as Session; // prettier-ignore

  it("is counted down by the market's time", () => {
    const session = { ...day, next_session: "MARKET_OPEN", seconds_until_next_session: 90.5 } as Session;
    const view = { session, received: 1000, error: "" };
    const at = Date.parse("2025-11-24T14:29:00Z");
    expect(untilNext(view, at, 11_000)).toBe(60);
    expect(untilNext(view, at, 99_000)).toBe(60);
    expect(untilNext(view, at + 90_000, 99_000)).toBe(0);
  });

  it("is counted down from when it was received where the next one's day is not known", () => {
    const session = { ...day, next_session: "PRE_MARKET", seconds_until_next_session: 90.5 } as Session;
    expect(untilNext({ session, received: 1000, error: "" }, 5, 11_000)).toBe(80.5);
    expect(untilNext({ session, received: 1000, error: "" }, 5, 999_000)).toBe(0);
    expect(untilNext({ session, received: 1000, error: "" }, null, 11_000)).toBe(80.5);
    expect(untilNext({ session: null, received: 0, error: "" }, null, 1)).toBeNull();
  });

  it("has a trader's name", () => expect(sessionName("PRE_MARKET")).toBe("Premarket"));
});

describe("breadth", () => {
  it("compares both sides", () => {
    const breadth: Breadth = {
      stocks: 45, advancers: 30, decliners: 10, unchanged: 5, new_highs: 3, new_lows: 0, up_volume: 0, down_volume: 0,
    }; // prettier-ignore
    expect(balances(breadth).map(share)).toEqual([75, 100, 50]);
  });
});
