// @vitest-environment node
import { describe, expect, it } from "vitest";
import type { Row } from "../stream/types";
import { aggregate, average, cumulativeVolume, DayBars, parseBar, vwapLine, type Bar } from "./bars";

const OPEN = Date.parse("2025-11-24T14:30:00Z") / 1000;

function bar(minute: number, values: Partial<Bar> = {}): Bar {
  return { time: OPEN + 60 * minute, open: 10, high: 12, low: 9, close: 11, volume: 100, vwap: 10.5, ...values };
}

function row(seconds: number, values: Record<string, number>): Row {
  return { symbol: "ABC", rank: 1, updated_at: new Date((OPEN + seconds) * 1000).toISOString(), ...values };
}

describe("the minutes of a day", () => {
  it("continue with what changes between rows", () => {
    const day = new DayBars();
    expect(day.apply(row(5, { price: 10, volume_today: 1000 }))).toBe(false);
    expect(day.apply(row(6, { price: 10.2, volume_today: 1300 }))).toBe(true);
    expect(day.apply(row(8, { price: 9.9, volume_today: 1400 }))).toBe(true);
    expect(day.apply(row(61, { price: 10.1, volume_today: 1450 }))).toBe(true);
    expect(day.all()).toEqual([
      { time: OPEN, open: 10.2, high: 10.2, low: 9.9, close: 9.9, volume: 400 },
      { time: OPEN + 60, open: 10.1, high: 10.1, low: 10.1, close: 10.1, volume: 50 },
    ]);
  });

  it("do not change with a row that says the same", () => {
    const day = new DayBars();
    day.apply(row(5, { price: 10, volume_today: 1000 }));
    expect(day.apply(row(65, { price: 10, volume_today: 1000 }))).toBe(false);
    expect(day.all()).toEqual([]);
  });

  it("reach highs that lay between two rows", () => {
    const day = new DayBars();
    day.apply(row(5, { price: 10, volume_today: 1000, intraday_high: 10.1, intraday_low: 9 }));
    day.apply(row(6, { price: 10.2, volume_today: 1300, intraday_high: 10.6, intraday_low: 9 }));
    expect(day.all()).toMatchObject([{ high: 10.6, low: 10.2 }]);
  });

  it("do not count the shares of a correction downwards", () => {
    const day = new DayBars();
    day.apply(row(5, { price: 10, volume_today: 1000 }));
    day.apply(row(6, { price: 10.2, volume_today: 900 }));
    expect(day.all()).toMatchObject([{ volume: 0, close: 10.2 }]);
  });

  it("are replaced by stored ones, except for the minute in progress", () => {
    const day = new DayBars();
    day.apply(row(1, { price: 10, volume_today: 0 }));
    day.apply(row(2, { price: 10.5, volume_today: 10 }));
    day.apply(row(62, { price: 11.5, volume_today: 30 }));
    day.merge([bar(0), bar(1, { open: 10.8, high: 11, low: 10.7, volume: 15 })], OPEN + 70);
    expect(day.all()).toEqual([
      bar(0),
      { time: OPEN + 60, open: 10.8, high: 11.5, low: 10.7, close: 11.5, volume: 20 },
    ]);
  });

  it("are read from JSON", () => {
    const json = { time: "2025-11-24T14:30:00Z", open: 1, high: 2, low: 0.5, close: 1.5, volume: 100 };
    expect(parseBar(json)).toEqual({ ...json, time: OPEN });
  });
});

describe("longer bars", () => {
  it("begin at multiples of their length and have all of their minutes", () => {
    const minutes = [
      bar(3, { open: 8, close: 9 }),
      bar(4, { low: 7, close: 9.5, volume: 300, vwap: 9 }),
      bar(5),
      bar(12),
    ];
    expect(aggregate(minutes, 300, OPEN)).toEqual([
      { ...bar(0), open: 8, low: 7, close: 9.5, volume: 400, vwap: (10.5 * 100 + 9 * 300) / 400 },
      bar(5),
      bar(10),
    ]);
    // Not changed themselves.
    expect(minutes[0]).toEqual(bar(3, { open: 8, close: 9 }));
  });

  it("keep volume and dollars", () => {
    const minutes = Array.from({ length: 60 }, (_, at) => bar(at, { volume: at + 1, vwap: 10 + (at % 7) / 10 }));
    const dollars = (bars: Bar[]) => bars.reduce((sum, each) => sum + each.volume * average(each), 0);
    const longer = aggregate(minutes, 300, OPEN);
    expect(longer).toHaveLength(12);
    expect(dollars(longer)).toBeCloseTo(dollars(minutes), 6);
  });
});

describe("the average price", () => {
  const minutes = [bar(0, { vwap: 10, volume: 100 }), bar(1, { vwap: 20, volume: 300 })];

  it("is that of the shares so far", () => {
    expect(vwapLine(minutes).map(({ value }) => value)).toEqual([10, 17.5]);
  });

  it("ends at the day's, whatever the bars lack", () => {
    const line = vwapLine(minutes, { volume: 1000, vwap: 12 });
    expect(line.at(-1)!.value).toBeCloseTo(12, 9);
    // 600 shares for 5,000 dollars before, then 100 for 1,000.
    expect(line[0]!.value).toBeCloseTo(6000 / 700, 9);
  });

  it("does not mind a total that is behind the bars", () => {
    expect(vwapLine(minutes, { volume: 350, vwap: 17 }).map(({ value }) => value)).toEqual([10, 17.5]);
  });

  it("has no value before the first share", () => {
    expect(vwapLine([bar(0, { volume: 0 }), bar(1)])).toEqual([{ time: OPEN + 60, value: 10.5 }]);
  });
});

describe("the volume since 04:00", () => {
  it("counts what the bars lack before them", () => {
    expect(cumulativeVolume([bar(0), bar(1)]).map(({ value }) => value)).toEqual([100, 200]);
    expect(cumulativeVolume([bar(0), bar(1)], 1000).map(({ value }) => value)).toEqual([900, 1000]);
    expect(cumulativeVolume([bar(0), bar(1)], 150).map(({ value }) => value)).toEqual([100, 200]);
  });
});
