// @vitest-environment node
import { describe, expect, it } from "vitest";
import { duration, memberships, place, type ListChange } from "./memberships";

const OPEN = Date.parse("2025-11-24T14:30:00Z") / 1000;
const change = (minute: number, list: string, action: ListChange["action"]): ListChange => ({
  time: new Date((OPEN + 60 * minute) * 1000).toISOString(),
  list,
  symbol: "ABC",
  action,
});

describe("memberships", () => {
  const changes = [
    change(1, "gappers_up", "LEAVE"),
    change(2, "winners", "ENTER"),
    change(5, "winners", "LEAVE"),
    change(7, "winners", "ENTER"),
    change(9, "new_highs", "ENTER"),
    change(10, "new_highs", "LEAVE"),
  ].reverse();

  it("are stays, those that last first, then by newest change", () => {
    expect(memberships(changes)).toEqual([
      {
        list: "winners",
        stays: [
          { from: OPEN + 120, until: OPEN + 300 },
          { from: OPEN + 420, until: null },
        ],
        isMember: true,
        changed: OPEN + 420,
      },
      { list: "new_highs", stays: [{ from: OPEN + 540, until: OPEN + 600 }], isMember: false, changed: OPEN + 600 },
      { list: "gappers_up", stays: [{ from: null, until: OPEN + 60 }], isMember: false, changed: OPEN + 60 },
    ]);
    expect(memberships([])).toEqual([]);
  });

  it("last until now, and from where the log begins", () => {
    const [winners, , gappers] = memberships(changes);
    expect(duration(winners!, OPEN - 300, OPEN + 600)).toBe(180 + 180);
    expect(duration(gappers!, OPEN - 300, OPEN + 600)).toBe(360);
  });

  it("have a place in the day", () => {
    const day = [OPEN, OPEN + 1000] as const;
    expect(place({ from: OPEN + 100, until: OPEN + 300 }, OPEN, OPEN + 500, ...day)).toEqual({ left: 10, width: 20 });
    expect(place({ from: null, until: null }, OPEN - 500, OPEN + 2000, ...day)).toEqual({ left: 0, width: 100 });
  });
});
