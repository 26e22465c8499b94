import { expect, test } from "vitest";
import { LagMeter } from "./lag";

const NOW = 1_900_000_000_000;

test("of a live market it is the time since the trade", () => {
  const meter = new LagMeter();
  for (const milliseconds of [80, 120, 900]) meter.add(NOW - milliseconds, NOW);
  expect(meter.lag(NOW)).toEqual({ milliseconds: 120, isAbsolute: true });
});

test("of a market with its own clock it is the time over the fastest message of the last minute", () => {
  const meter = new LagMeter();
  const year = 31_536_000_000;
  meter.add(NOW - year - 20_000 - 100, NOW - 20_000);
  for (const milliseconds of [140, 160, 150]) meter.add(NOW - year - milliseconds, NOW);
  expect(meter.lag(NOW)).toEqual({ milliseconds: 50, isAbsolute: false });
});

test("is unknown without messages, and forgets old ones", () => {
  const meter = new LagMeter();
  expect(meter.lag(NOW).milliseconds).toBeNull();
  meter.add(NOW - 100, NOW);
  expect(meter.lag(NOW + 10_000).milliseconds).toBeNull();
});
