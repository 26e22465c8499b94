// @vitest-environment node
import { describe, expect, it } from "vitest";
import { marketTime } from "./clock";
import { sessionName, untilNext } from "./session_text";
import type { Session } from "../shared/session";

describe("the market's time", () => {
  it("continues from the newest message, for a while", () => {
    expect(marketTime({ time: 1000, received: 50_000 }, 50_400)).toBe(1400);
    // A replay that stands still does not run away.
    expect(marketTime({ time: 1000, received: 50_000 }, 90_000)).toBe(4000);
    expect(marketTime({ time: 1000, received: 50_000 }, 49_000)).toBe(1000);
    expect(marketTime({ time: null, received: null }, 1)).toBeNull();
  });
});

describe("the session", () => {
  it("is counted down from when it was received", () => {
    const session = { seconds_until_next_session: 90.5 } as Session;
    expect(untilNext({ session, received: 1000, error: "" }, 11_000)).toBe(80.5);
    expect(untilNext({ session, received: 1000, error: "" }, 999_000)).toBe(0);
    expect(untilNext({ session: null, received: 0, error: "" }, 1)).toBeNull();
  });

  it("has a trader's name", () => expect(sessionName("PRE_MARKET")).toBe("Premarket"));
});
