/** Prices that a trader watches, of a symbol's row. */

export interface Level {
  price: number;
  /** Short names; levels at the same price are one line. */
  title: string;
  kind: "close" | "premarket" | "open" | "day" | "band";
}

const LEVELS: [field: string, title: string, kind: Level["kind"]][] = [
  ["prev_close", "Prev close", "close"],
  ["open", "Open", "open"],
  ["premarket_high", "PM high", "premarket"],
  ["premarket_low", "PM low", "premarket"],
  ["intraday_high", "Day high", "day"],
  ["intraday_low", "Day low", "day"],
  ["luld_upper", "LULD up", "band"],
  ["luld_lower", "LULD down", "band"],
];

/** Returns the row's levels, highest first. Until the open, the day's high and low are those of the premarket. */
export function levelsOf(row: Record<string, unknown>): Level[] {
  const levels: Level[] = [];
  for (const [field, title, kind] of LEVELS) {
    const price = row[field];
    if (typeof price !== "number" || !(price > 0)) continue;
    const same = levels.find((level) => level.price === price);
    if (same === undefined) levels.push({ price, title, kind });
    else same.title += `, ${title}`;
  }
  return levels.sort((a, b) => b.price - a.price);
}
