// @vitest-environment node
import { describe, expect, it } from "vitest";
import { toWall } from "../shared/newyork";
import type { Session } from "../shared/session";
import { axisTimes, dayHours, sessionAt, shading } from "./sessions";

const SESSION: Session = {
  current_session: "MARKET_OPEN",
  trading_date: "2025-11-28",
  is_trading_day: true,
  is_holiday: false,
  is_early_close: true,
  pre_market_start: "04:00:00",
  market_open: "09:30:00",
  market_close: "13:00:00",
  post_market_end: "17:00:00",
};
const at = (timestamp: string) => Date.parse(timestamp) / 1000;

describe("a day's hours", () => {
  it("end early on an early close, and not on another day", () => {
    expect(dayHours(SESSION)).toEqual({
      date: "2025-11-28",
      start: at("2025-11-28T09:00:00Z"),
      open: at("2025-11-28T14:30:00Z"),
      close: at("2025-11-28T18:00:00Z"),
      end: at("2025-11-28T22:00:00Z"),
    });
    expect(dayHours(SESSION, "2025-11-26").close).toBe(at("2025-11-26T21:00:00Z"));
  });

  it.each(["2026-03-06", "2026-03-09", "2026-10-30", "2026-11-02"])("are the same on the axis on %s", (date) => {
    const spans = shading(dayHours({ ...SESSION, is_early_close: false }, date));
    const midnight = at(`${date}T00:00:00Z`);
    expect(spans.map(({ session, from, to }) => [session, (from - midnight) / 60, (to - midnight) / 60])).toEqual([
      ["pre", 240, 570],
      ["regular", 570, 960],
      ["post", 960, 1200],
    ]);
  });

  it("contain their beginnings and not their ends", () => {
    const hours = dayHours(SESSION);
    expect(sessionAt(hours, hours.start - 1)).toBeUndefined();
    expect(sessionAt(hours, hours.start)).toBe("pre");
    expect(sessionAt(hours, hours.open)).toBe("regular");
    expect(sessionAt(hours, hours.close)).toBe("post");
    expect(sessionAt(hours, hours.end)).toBeUndefined();
  });
});

it("an axis has every interval, also those without trades", () => {
  const first = at("2026-03-09T13:29:00Z");
  const times = axisTimes(first, first + 180, 60);
  expect(times.map((time) => (toWall(time) / 60) % 1440)).toEqual([569, 570, 571, 572]);
});
