import { describe, expect, test } from "vitest";
import type { Field } from "../table/formats";
import { complete, completionsAt, errorSpan, indexOfPosition, type Mode } from "./language";

function field(name: string, type: string, values: string[] = [], meaning = ""): [string, Field] {
  return [name, { name, type, values, meaning, unit: type === "number" ? "USD" : "" }];
}

const FIELDS = new Map([
  field("symbol", "text"),
  field("sector", "text", ["Energy", "Real Estate", "Technology"]),
  field("price", "number", [], "price of the newest trade"),
  field("premarket_volume", "number"),
  field("rvol", "number", [], "relative volume"),
  field("gap_size", "enum", ["SMALL", "LARGE"]),
  field("halted", "boolean"),
  field("halted_at", "time"),
]);

const LISTS = new Map([
  ["winners", "Winners"],
  ["gappers_up", "Gappers up"],
]);

/** The bar is the caret. */
function labels(written: string, mode: Mode = "filter"): string[] {
  const caret = written.indexOf("|");
  const text = written.replace("|", "");
  return completionsAt(text, caret, FIELDS, mode, LISTS).options.map((option) => option.label);
}

describe("a filter is completed with", () => {
  test("fields at its start and after AND, OR, NOT and parentheses", () => {
    for (const text of ["|", "price > 1 AND |", "price > 1 OR (|", "NOT |"]) {
      expect(labels(text)).toEqual(expect.arrayContaining(["symbol", "price", "halted", "abs(", "has("]));
    }
  });

  test("the fields whose name begins so, then those that contain it, then those that mean it", () => {
    expect(labels("pr|")).toEqual(["price", "premarket_volume"]);
    expect(labels("vol|")).toEqual(["premarket_volume", "rvol"]);
    expect(labels("newest|")).toEqual(["price"]);
    expect(labels("zzz|")).toEqual([]);
  });

  test("the comparisons of the field's type", () => {
    expect(labels("price |")).toEqual(expect.arrayContaining([">", "BETWEEN", "+"]));
    expect(labels("sector |")).toEqual(["=", "!=", "IN", "NOT IN"]);
    expect(labels("halted |")).toEqual(["AND", "OR", "=", "!="]);
    expect(labels("gap_size |")).toContain(">=");
    expect(labels("gap_size |")).not.toContain("+");
    expect(labels("sector NOT |")).toEqual(["IN", "BETWEEN"]);
  });

  test("the values of the field on the left", () => {
    expect(labels("gap_size >= |")).toEqual(["SMALL", "LARGE"]);
    expect(labels("halted = |")).toEqual(["true", "false"]);
    expect(labels("sector = |")).toEqual(["Energy", "Real Estate", "Technology"]);
    expect(labels('sector = "Te|')[0]).toBe("Technology");
    expect(labels('sector IN ("Energy", |')).toEqual(["Energy", "Real Estate", "Technology"]);
    expect(labels("sector IN |")).toEqual(["("]);
    expect(labels("symbol = |")).toEqual([]);
  });

  test("numbers' fields after a comparison of numbers", () => {
    expect(labels("price > |")).toContain("rvol");
    expect(labels("price > |")).not.toContain("sector");
    expect(labels("price > |")).not.toContain("has(");
  });

  test("AND and OR after a comparison; BETWEEN has an AND of its own", () => {
    expect(labels("price > 1 |")).toEqual(["AND", "OR"]);
    expect(labels("price BETWEEN 1 |")).toEqual(["AND"]);
    expect(labels("price BETWEEN 1 AND |")).toContain("rvol");
    expect(labels("price BETWEEN 1 AND 5 |")).toEqual(["AND", "OR"]);
    expect(labels("(price > 1 |")).toEqual(["AND", "OR", ")"]);
    expect(labels("(price > 1) |")).toEqual(["AND", "OR"]);
    expect(labels("has(rvol) |")).toEqual(["AND", "OR"]);
    expect(labels("abs(price) |")).toContain(">");
    expect(labels('sector IN ("Energy") |')).toEqual(["AND", "OR"]);
    expect(labels('sector IN ("Energy" |')).toEqual([",", ")"]);
  });

  test("the same in lower case, and in the middle of a text", () => {
    expect(labels("price > 1 and |")).toContain("rvol");
    expect(labels("pri| > 1 AND rvol > 2")).toEqual(["price"]);
  });
});

test("an order is completed with what can be ordered, then its direction", () => {
  expect(labels("|", "order")).toContain("symbol");
  expect(labels("|", "order")).not.toContain("sector");
  expect(labels("rvol |", "order").slice(0, 3)).toEqual(["desc", "asc", ","]);
  expect(labels("rvol desc |", "order")).toEqual([","]);
  expect(labels("rvol desc, |", "order")).toContain("price");
});

describe("an event is completed with", () => {
  test("words, and what a condition begins with", () => {
    for (const text of ["|", "grows(rvol) AND |", "after(|", "after(grows(rvol), |", "count(|", "(|"]) {
      expect(labels(text, "event")).toEqual(expect.arrayContaining(["crosses_above(", "enters(", "price", "has(", "NOT"]));
    }
    expect(labels("cro|", "event")).toEqual(["crosses_above(", "crosses_below("]);
    expect(labels("price > |", "event")).not.toContain("grows(");
    expect(labels("|")).not.toContain("grows(");
  });

  test("no word in the condition of another one", () => {
    for (const text of ["rises(|", "held(|", "rises(price > 1 AND |", "enters(scan(|"]) {
      expect(labels(text, "event")).toContain("halted");
      expect(labels(text, "event")).not.toContain("grows(");
    }
  });

  test("numbers where a word compares them", () => {
    for (const text of ["crosses_above(|", "crosses_above(price, |", "steps(price, 1, |", "grows(abs(|"]) {
      expect(labels(text, "event")).toContain("rvol");
      expect(labels(text, "event")).not.toContain("sector");
      expect(labels(text, "event")).not.toContain("has(");
    }
    expect(labels("crosses_above(price |", "event")).toEqual([",", "+", "-", "*", "/"]);
    expect(labels("grows(price |", "event")).toEqual([")", "+", "-", "*", "/"]);
  });

  test("times, numbers of events and of rows", () => {
    expect(labels("after(grows(rvol), grows(price), |", "event")).toEqual(["30s", "1m", "5m", "10m", "1h"]);
    expect(labels("held(halted, |", "event")).toEqual(["30s", "1m", "5m", "10m", "volume"]);
    expect(labels("held(halted, 30s |", "event")).toContain(")");
    expect(labels("count(grows(price), |", "event")).toEqual(["2", "3", "5"]);
    expect(labels("count(grows(price), 3, 5m) |", "event")).toEqual(["AND", "OR"]);
  });

  test("lists, and scans in their place", () => {
    expect(labels("enters(|", "event")).toEqual(["winners", "gappers_up", "scan("]);
    expect(labels('enters("ga|', "event")).toEqual(["gappers_up"]);
    expect(labels('leaves("winners" |', "event")).toEqual([",", ")"]);
    expect(labels('leaves("winners", |', "event")).toEqual(["10", "20", "50", "100"]);
    expect(labels("enters(scan(price > 1 |", "event")).toEqual(["AND", "OR", ","]);
    expect(labels("enters(scan(price > 1, |", "event")).not.toContain("sector");
    expect(labels("enters(scan(price > 1, rvol |", "event").slice(0, 3)).toEqual(["desc", "asc", ","]);
    expect(labels("enters(scan(price > 1, rvol desc, |", "event")).toEqual(["10", "20", "50", "100"]);
    expect(labels("enters(scan(price > 1, rvol desc, 20) |", "event")).toEqual([",", ")"]);
    expect(labels("enters(scan(price > 1, rvol desc, 20), 10) |", "event")).toEqual(["AND", "OR"]);
  });
});

describe("a completion", () => {
  const apply = (written: string, label: string): string => {
    const caret = written.indexOf("|");
    const text = written.replace("|", "");
    const found = completionsAt(text, caret, FIELDS);
    const option = found.options.find((each) => each.label === label);
    if (!option) throw new Error(`expected ${label} among ${found.options.map((each) => each.label)}`);
    const result = complete(text, found, option);
    return `${result.text.slice(0, result.caret)}|${result.text.slice(result.caret)}`;
  };

  test.each([
    ["pr|", "price", "price |"],
    ["pri|ce > 1", "price", "price |> 1"],
    ['sector = "Re|', "Real Estate", 'sector = "Real Estate" |'],
    ["sector IN (|)", "Technology", 'sector IN ("Technology"|)'],
    ["|", "abs(", "abs(|"],
    ["has(rv|)", "rvol", "has(rvol|)"],
    ["price |", "NOT BETWEEN", "price NOT BETWEEN |"],
  ])("of %s with %s is %s", (written, label, result) => expect(apply(written, label)).toBe(result));
});

test("an error is marked at its token, also after characters outside of the basic plane", () => {
  expect(errorSpan("rvoll > 2", 0)).toEqual({ from: 0, to: 5 });
  expect(errorSpan("price > ", 8)).toEqual({ from: 8, to: 9 });
  expect(errorSpan("price ? 1", 6)).toEqual({ from: 6, to: 9 });
  const text = 'symbol = "\u{1F680}" AND rvoll';
  expect(text.slice(indexOfPosition(text, 17))).toBe("rvoll");
});
