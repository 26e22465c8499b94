import { expect, test } from "vitest";
import { nameOf } from "./name";

test("a title becomes a name that a rule can have", () => {
  expect(nameOf("Breaks 100!")).toBe("breaks_100");
  expect(nameOf("52-week high")).toBe("rule_52_week_high");
  expect(nameOf("Über dem Hoch")).toBe("uber_dem_hoch");
  expect(nameOf("!!!")).toBe("rule");
  expect(nameOf("x".repeat(200))).toHaveLength(60);
});
