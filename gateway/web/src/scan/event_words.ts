/** The words of an alert rule's event (docs/alerts.md), as they are offered while one is written. */

/** What stands between two commas of a word. */
export type Part = "condition" | "event" | "number" | "order" | "time" | "shares-or-time" | "list" | "times" | "rows";

interface Word {
  parts: readonly Part[];
  meaning: string;
}

export const EVENT_WORDS: Readonly<Record<string, Word>> = {
  rises: { parts: ["condition"], meaning: "becomes true" },
  falls: { parts: ["condition"], meaning: "becomes false" },
  crosses_above: { parts: ["number", "number"], meaning: "the first value comes above the second" },
  crosses_below: { parts: ["number", "number"], meaning: "the first value comes below the second" },
  grows: { parts: ["number"], meaning: "is greater than before" },
  shrinks: { parts: ["number"], meaning: "is less than before" },
  steps: { parts: ["number", "number", "number"], meaning: "reaches the next step: value, first step, distance" },
  held: { parts: ["condition", "shares-or-time"], meaning: "has been true for a time, or for a number of shares" },
  after: { parts: ["event", "event", "time"], meaning: "the second event within a time after the first" },
  count: { parts: ["event", "times", "time"], meaning: "so many events within a time" },
  enters: { parts: ["list", "rows"], meaning: "comes into a list, or its first rows" },
  leaves: { parts: ["list", "rows"], meaning: "leaves a list, or its first rows" },
};

/** In the place of a list. */
export const SCAN: Word = { parts: ["condition", "order", "rows"], meaning: "a list of your own: condition, order, rows" };

/** What can be written in a part that has no fields. */
export const PART_VALUES: Readonly<Partial<Record<Part, readonly string[]>>> = {
  time: ["30s", "1m", "5m", "10m", "1h"],
  "shares-or-time": ["30s", "1m", "5m", "10m"],
  times: ["2", "3", "5"],
  rows: ["10", "20", "50", "100"],
};
