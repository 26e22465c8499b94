// @vitest-environment node
import { expect, test } from "vitest";
import type { Row } from "../stream/types";
import { badgesOf, isShortSaleRestricted } from "./badges";
import { columnOf, defaultFields, fieldsFor, loadChoice, parseChoice, presentedFields, saveChoice } from "./columns";
import * as formats from "./formats";

const plainSpaces = (text: string): string => text.replaceAll("\u202f", " ").replaceAll("\u2212", "-");

test.each([
  [0, "0"],
  [950, "950"],
  [999, "999"],
  [999.6, "1.0K"],
  [2_449, "2.4K"],
  [99_940, "99.9K"],
  [99_960, "100K"],
  [812_300, "812K"],
  [999_499, "999K"],
  [999_500, "1.0M"],
  [2_400_000, "2.4M"],
  [1_100_000_000, "1.1B"],
  [3_000_000_000_000, "3.0T"],
  [-2_400_000, "-2.4M"],
])("%d shares are %s", (value, text) => expect(plainSpaces(formats.compact(value))).toBe(text));

test.each([
  [0.5, "0.5000"],
  [0.00012, "0.0001"],
  [1, "1.00"],
  [12.345, "12.35"],
  [9_999.99, "9999.99"],
  [612_345.6, "612,346"],
])("%d USD are %s", (value, text) => expect(formats.price(value)).toBe(text));

test.each([
  [12.34, "+12.3 %"],
  [-12.36, "-12.4 %"],
  [0.04, "0.0 %"],
  [-0.04, "0.0 %"],
])("a change of %d is %s", (value, text) => expect(plainSpaces(formats.percent(1, true)(value, {} as Row))).toBe(text));

test("times are New York's, in summer and in winter", () => {
  expect(formats.timeOfDay("2026-01-05T14:31:05.123Z")).toBe("09:31:05");
  expect(formats.timeOfDay("2026-07-06T13:31:05Z")).toBe("09:31:05");
  expect(formats.timeOfDay(Date.UTC(2026, 0, 5, 14, 31, 5))).toBe("09:31:05");
  expect(formats.timeOfDay("soon")).toBe("");
});

test("an absent value is blank, never 0", () => {
  for (const field of presentedFields) expect(columnOf(field).format(undefined, { symbol: "A", rank: 1 } as Row)).toBe("");
});

test("a field that is new to the page is shown by what the API says of it", () => {
  const field = { name: "lit_volume", type: "number", unit: "shares", meaning: "shares on exchanges", values: [] };
  const column = columnOf("lit_volume", new Map([["lit_volume", field]]));
  expect([column.label, column.meaning, column.format(2_400_000, {} as Row)]).toEqual(["lit volume", "shares on exchanges", "2.4M"]);
});

test("rows have one of few sets of fields, each part of the next one, with what badges and alerts need", () => {
  const standard = fieldsFor("winners", defaultFields("winners"));
  expect(fieldsFor("winners", ["rank", "symbol", "price"])).toEqual(standard);
  expect(standard).toEqual(expect.arrayContaining(["price", "rvol", "halted", "low", "intraday_high"]));
  expect(standard).not.toContain("symbol");
  const wide = fieldsFor("winners", ["price", "gap_percent"]);
  expect(wide).toEqual(expect.arrayContaining([...(standard ?? []), "gap_percent", "company_name"]));
  expect(fieldsFor("losers", ["company_name"])).toEqual(wide);
  expect(fieldsFor("winners", ["price", "beta"])).toBeUndefined();
});

test("columns are remembered for each list, and what is stored wrongly is not used", () => {
  const stored = new Map<string, string>();
  const storage = {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
    removeItem: (key: string) => void stored.delete(key),
  };
  const choice = { fields: ["symbol", "price"], widths: { price: 90 } };
  expect(saveChoice("winners", choice, storage)).toBe(true);
  expect(loadChoice("winners", storage)).toEqual(choice);
  expect(loadChoice("losers", storage).fields).toEqual(defaultFields("losers"));
  stored.set("tradeul.columns.losers", "{");
  expect(loadChoice("losers", storage).fields).toEqual(defaultFields("losers"));
  expect(parseChoice({ fields: ["price", "price", "<b>", 3], widths: { price: 1e9, x: "wide" } })).toEqual({
    fields: ["symbol", "price"],
    widths: { price: 480 },
  });
  expect(saveChoice("winners", choice, { ...storage, setItem: () => { throw new DOMException("full", "QuotaExceededError"); } })).toBe(false); // prettier-ignore
});

test("badges name halts with their reason, restrictions, suspect prints and types", () => {
  const row = {
    symbol: "A",
    rank: 1,
    halted: true,
    halt_reason: "T1",
    resumes_at: "2026-01-05T14:45:00Z",
    low: 8.9,
    prev_close: 10,
    suspect_prints: 2,
    security_type: "WARRANT",
  } as unknown as Row;
  expect(badgesOf(row).map((badge) => badge.text)).toEqual(["T1", "SSR", "?2", "WT"]);
  expect(badgesOf(row)[0]?.meaning).toBe("Halted, T1: news pending; resumes 09:45:00");
  const after = { symbol: "A", rank: 1, halted: false, halts_today: 2, halted_at: "2026-01-05T14:31:00Z", security_type: "CS" } as unknown as Row;
  expect(badgesOf(after)).toMatchObject([{ text: "H2", meaning: "Halted 2 times today, last at 09:31:00" }]);
  expect(badgesOf({ symbol: "A", rank: 1, halted: true } as unknown as Row)[0]?.text).toBe("HALT");
});

test("a fall of 10 % from the previous close restricts short sales, less does not", () => {
  const row = (low: number, prevClose: number) => ({ symbol: "A", rank: 1, low, prev_close: prevClose }) as unknown as Row;
  expect(isShortSaleRestricted(row(9, 10))).toBe(true);
  expect(isShortSaleRestricted(row(9.01, 10))).toBe(false);
  expect(isShortSaleRestricted({ symbol: "A", rank: 1, low: 1 } as unknown as Row)).toBe(false);
});
