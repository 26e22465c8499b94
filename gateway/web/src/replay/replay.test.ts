import { describe, expect, it } from "vitest";
import { jumpText, marketTime, nextSpeed, replayActions, speedText, type Replay, type ReplayView } from "./replay";

const REPLAY: Replay = {
  market: "SIMULATOR",
  date: "2025-11-24",
  now: "2025-11-24T14:31:00Z",
  paused: false,
  speed: 10,
  from: "2025-11-24T09:00:00Z",
  to: "2025-11-25T01:00:00Z",
};
const NOW = Date.parse("2025-11-24T14:31:00Z") / 1000;
const view = (changes: Partial<Replay>): ReplayView => ({ replay: { ...REPLAY, ...changes }, received: 1_000_000, error: "" });

describe("the market's time", () => {
  it("goes on at its speed, but not far from what was received", () => {
    expect(marketTime(view({}), 1_000_500)).toBe(NOW + 5);
    expect(marketTime(view({}), 1_090_000)).toBe(NOW + 20);
    expect(marketTime(view({}), 999_000)).toBe(NOW);
  });

  it("stands still while it is paused, jumps, has no pace or is over", () => {
    for (const changes of [{ paused: true }, { speed: 0 }, { jumping_to: REPLAY.to! }, { to: REPLAY.now! }])
      expect(marketTime(view(changes), 1_001_000)).toBe(NOW);
    const { now: _, ...before } = REPLAY;
    expect(marketTime({ replay: before, received: 0, error: "" }, 5)).toBeNaN();
  });
});

describe("speeds", () => {
  it("are one faster or slower, also from one that is not offered", () => {
    expect([nextSpeed(1, 1), nextSpeed(1, -1), nextSpeed(60, 1), nextSpeed(0, -1)]).toEqual([2, 0.5, 0, 60]);
    expect([nextSpeed(7, 1), nextSpeed(7, -1)]).toEqual([10, 5]);
  });

  it("end at both ends", () => {
    expect([nextSpeed(0, 1), nextSpeed(0.25, -1)]).toEqual([0, 0.25]);
  });

  it("have a text", () => {
    expect([speedText(0.5), speedText(60), speedText(0)]).toEqual(["0.5×", "60×", "max"]);
  });
});

describe("actions", () => {
  it("are there for a market that has a pace", () => {
    expect(replayActions(false)).toEqual([]);
    expect(replayActions(true).flatMap(({ keys }) => keys)).toEqual(["Alt+p", "Alt+.", "Alt+,", "Alt+j"]);
  });

  it("name a time of the day in New York", () => {
    expect(jumpText(NOW)).toBe("09:31:00");
  });
});
