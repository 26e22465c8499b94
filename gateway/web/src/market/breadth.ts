/** How many stocks rise and fall, as /api/v1/scanner/breadth returns it. */

export interface Breadth {
  stocks: number;
  advancers: number;
  decliners: number;
  unchanged: number;
  new_highs: number;
  new_lows: number;
  up_volume: number;
  down_volume: number;
}

export interface Balance {
  label: string;
  about: string;
  up: number;
  down: number;
  upLabel: string;
  downLabel: string;
}

/** Returns the pairs to compare. */
export function balances(breadth: Breadth): Balance[] {
  return [
    {
      label: "Advancers and decliners",
      about: "stocks above and below the previous close",
      up: breadth.advancers,
      down: breadth.decliners,
      upLabel: "up",
      downLabel: "down",
    },
    {
      label: "New highs and lows",
      about: "stocks within 0.1 % of the day's high and low",
      up: breadth.new_highs,
      down: breadth.new_lows,
      upLabel: "highs",
      downLabel: "lows",
    },
    {
      label: "Up and down volume",
      about: "shares traded today in advancers and in decliners",
      up: breadth.up_volume,
      down: breadth.down_volume,
      upLabel: "up",
      downLabel: "down",
    },
  ];
}

/** Returns the portion of `up` in percent of both, 50 without either. */
export function share({ up, down }: Pick<Balance, "up" | "down">): number {
  return up + down > 0 ? (100 * up) / (up + down) : 50;
}
