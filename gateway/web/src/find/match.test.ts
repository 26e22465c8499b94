// @vitest-environment node
import { expect, it } from "vitest";
import { matchParts } from "./match";

const marked = (text: string, query: string) =>
  matchParts(text, query)
    .map(({ text, isMatch }) => (isMatch ? `[${text}]` : text))
    .join("");

it.each([
  ["AAPL", "aap", "[AAP]L"],
  ["BRK.B", "brkb", "BRK.B"],
  ["BRK.B", "brk.b", "[BRK].[B]"],
  ["Bank of America Corporation", "bank amer", "[Bank] of [Amer]ica Corporation"],
  ["Bank of America Corporation", "a am", "Bank of [Am]erica Corporation"],
  ["Embankment", "bank", "Embankment"],
  ["Apple Inc.", "", "Apple Inc."],
  ["", "a", ""],
])("of %s, %s marks %s", (text, query, expected) => expect(marked(text, query)).toBe(expected));
