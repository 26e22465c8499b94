// @vitest-environment node
import { describe, expect, it } from "vitest";
import { toWall } from "../shared/newyork";
import type { Bar } from "./bars";
import type { DayHours } from "./sessions";
import { curveOf, estimatedByMinute, shownUntil, todayByMinute, usualByMinute, type Slot } from "./volume_curve";

const START = Date.parse("2025-11-24T09:00:00Z") / 1000;
const HOURS: DayHours = {
  date: "2025-11-24",
  start: START,
  open: START + 330 * 60,
  close: START + 720 * 60,
  end: START + 960 * 60,
};
const bar = (minute: number, volume: number): Bar => ({
  time: START + minute * 60, open: 1, high: 1, low: 1, close: 1, volume,
}); // prettier-ignore

const usual = (...volumes: number[]): Slot[] => volumes.map((volume, slot) => ({ slot, usual: volume }));

describe("the usual volume", () => {
  it("is linear within a slot, from 0 at 04:00", () => {
    expect(usualByMinute(usual(100, 150), 10)).toEqual([0, 20, 40, 60, 80, 100, 110, 120, 130, 140, 150]);
  });

  it("is unknown without a mean, and level after the last slot", () => {
    expect(usualByMinute([{ slot: 0 }, { slot: 1 }], 2)).toEqual([null, null, null]);
    expect(usualByMinute([], 2)).toEqual([null, null, null]);
    expect(usualByMinute(usual(100), 7)).toEqual([0, 20, 40, 60, 80, 100, 100, 100]);
  });
});

describe("today's volume", () => {
  it("is at the ends of minutes, level where nothing trades, and ends at now", () => {
    const bars = [bar(1, 10), bar(3, 5)];
    expect(todayByMinute([], bars, undefined, HOURS, 6, START + 4 * 60)).toEqual([null, null, 10, 10, 15, null, null]);
  });

  it("has the minute in progress, and what the bars lack before them", () => {
    const bars = [bar(1, 10), bar(2, 5)];
    expect(todayByMinute([], bars, 115, HOURS, 4, START + 2 * 60 + 20)).toEqual([null, 100, 110, 115, null]);
  });

  it("is nothing before the first bar of a day that lacks none", () => {
    expect(todayByMinute([], [bar(2, 10)], 10, HOURS, 4, START + 4 * 60)).toEqual([0, 0, 0, 10, 10]);
  });

  it("is estimated before the first minute that is known, as the usual volume rises or evenly", () => {
    const today = [null, null, null, 60, 80];
    expect(estimatedByMinute(today, [0, 10, 20, 40, 50])).toEqual([0, 15, 30, 60, null]);
    expect(estimatedByMinute(today, [null, null, null, null, null])).toEqual([0, 20, 40, 60, null]);
    expect(estimatedByMinute([0, 5, null], [0, 1, 2])).toEqual([null, null, null]);
    expect(estimatedByMinute([null, null], [0, 1])).toEqual([null, null]);
  });

  it("is that of the slots where there are no bars", () => {
    const slots: Slot[] = [{ slot: 0, today: 70 }, { slot: 1 }];
    const at = (minute: number) => todayByMinute(slots, [bar(6, 30)], 120, HOURS, 10, START + 8 * 60)[minute];
    expect([4, 5, 6, 7, 8, 9].map(at)).toEqual([null, 70, 90, 120, 120, null]);
  });
});

it("a curve has every minute of the day, and is shown until an hour after now", () => {
  const slots = usual(...Array.from({ length: 192 }, (_, slot) => (slot + 1) * 1000));
  const curve = curveOf(slots, [bar(330, 5000)], 90_000, HOURS, START + 331 * 60);
  expect(curve.times).toHaveLength(961);
  expect([curve.times[0], curve.usual[330], curve.today[331]]).toEqual([toWall(START), 66_000, 90_000]);
  expect(shownUntil(curve, true)).toBe(toWall(HOURS.end));
  expect(shownUntil(curve, false)).toBe(toWall(START + 391 * 60));
});
