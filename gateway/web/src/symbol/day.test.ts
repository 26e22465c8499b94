// @vitest-environment node
import { expect, it } from "vitest";
import type { Bar } from "./bars";
import { newestDay } from "./day";

const bar = (time: string): Bar => ({ time: Date.parse(time) / 1000, open: 1, high: 1, low: 1, close: 1, volume: 1 });

it("the newest day is New York's, through the evening", () => {
  const bars = [bar("2025-11-21T20:59:00Z"), bar("2025-11-24T14:30:00Z"), bar("2025-11-25T00:59:00Z")];
  expect(newestDay(bars, "2025-11-26")).toEqual({ date: "2025-11-24", bars: bars.slice(1) });
});

it("without bars, it is today", () => {
  expect(newestDay([], "2025-11-26")).toEqual({ date: "2025-11-26", bars: [] });
});
