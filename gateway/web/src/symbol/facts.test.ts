// @vitest-environment node
import { describe, expect, it } from "vitest";
import type { Row } from "../stream/types";
import { companyFacts, dayChange, distance, moveFacts, rangeFacts, volumeFacts } from "./facts";

const ROW: Row = {
  symbol: "ABC", rank: 1, price: 12, change: 2, change_percent: 20, gap_percent: 15.5, chg_1m: -0.25, price_vs_vwap: 0,
  intraday_high: 13, intraday_low: 10, atr: 1.5, volume_today: 3_000_000, float_shares: 2_000_000, rvol: 4.26,
  industry: "SEMICONDUCTORS & RELATED DEVICES", security_type: "CS", exchange: "XNAS", list_date: "2010-05-21",
}; // prettier-ignore
const text = (facts: { label: string; text: string }[]) =>
  Object.fromEntries(facts.map(({ label, text }) => [label, text]));

describe("facts", () => {
  it("are in the formats of the trade", () => {
    expect(text(moveFacts(ROW))).toEqual({ Gap: "+15.50\u202f%", "1 min": "−0.25\u202f%", "vs. VWAP": "0.00\u202f%" });
    expect(text(volumeFacts(ROW))).toEqual({ Volume: "3.0M", RVOL: "4.3×", "Of float": "1.5×" });
    expect(text(rangeFacts(ROW))).toEqual({ "Day range": "10.00 – 13.00", ATR: "1.50", "Range / ATR": "2.0×" });
    expect(text(companyFacts(ROW))).toEqual({
      Industry: "Semiconductors & related devices",
      Float: "2.0M",
      Type: "Common stock",
      Listed: "2010-05-21",
      Exchange: "Nasdaq",
    });
    expect(dayChange(ROW)).toEqual({ text: "+2.00  +20.00\u202f%", tone: "up" });
    expect(dayChange({ ...ROW, change: -0.26, change_percent: -2.1 })).toEqual({
      text: "−0.26  −2.10\u202f%",
      tone: "down",
    });
    expect(dayChange({ ...ROW, price: 0.4, change: 0.0123, change_percent: 3 }).text).toBe("+0.0123  +3.00\u202f%");
    expect(distance(9, ROW["price"])).toBe("−25.00\u202f%");
  });

  it("that cannot be known yet are left out", () => {
    const bare: Row = { symbol: "ABC", rank: 1 };
    expect([...moveFacts(bare), ...rangeFacts(bare), ...volumeFacts(bare), ...companyFacts(bare)]).toEqual([]);
    expect(dayChange(bare)).toEqual({ text: "", tone: "" });
    expect(distance(9, undefined)).toBe("");
  });
});
