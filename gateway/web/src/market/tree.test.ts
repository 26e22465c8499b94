// @vitest-environment node
import { describe, expect, it } from "vitest";
import { groups, neighbour, NO_SECTOR, tileAt, tiles, weightedChange, type Holding, type Tile } from "./tree";

const HOLDINGS: Holding[] = [
  { symbol: "AA", sector: "Technology", industry: "Chips", market_cap: 600, dollar_volume: 10, change_percent: 2 },
  { symbol: "BB", sector: "Technology", industry: "Software", market_cap: 200, dollar_volume: 30, change_percent: -2 },
  { symbol: "CC", sector: "Energy", industry: "Oil", market_cap: 200, dollar_volume: 40, change_percent: 1 },
  { symbol: "DD", market_cap: 100, dollar_volume: 20, change_percent: 0 },
];
const SIZE = { sizeBy: "market_cap", sector: null, width: 800, height: 600 } as const;
const named = (all: Tile[], name: string) => all.find((tile) => tile.name === name)!;

describe("a heat map", () => {
  it("has a group for each sector, its symbols inside of it, and nothing over anything else", () => {
    const all = tiles(HOLDINGS, SIZE);
    expect(all.filter(({ kind }) => kind === "group").map(({ name }) => name)).toEqual([
      "Technology",
      "Energy",
      NO_SECTOR,
    ]);
    const [technology, aa] = [named(all, "Technology"), named(all, "AA")];
    expect(aa.x).toBeGreaterThanOrEqual(technology.x);
    expect(aa.x + aa.width).toBeLessThanOrEqual(technology.x + technology.width);
    const symbols = all.filter(({ kind }) => kind === "symbol");
    for (const a of symbols) {
      for (const b of symbols) {
        const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
        expect(a === b || apart).toBe(true);
      }
    }
  });

  it("gives sizes by value, roughly", () => {
    const all = tiles(HOLDINGS, { ...SIZE, width: 2000, height: 2000 });
    const area = (name: string) => named(all, name).width * named(all, name).height;
    expect(area("AA") / area("BB")).toBeGreaterThan(2.7);
    expect(area("AA") / area("BB")).toBeLessThan(3.3);
  });

  it("changes its sizes with what they mean", () => {
    const all = tiles(HOLDINGS, { ...SIZE, sizeBy: "dollar_volume" });
    expect(all.filter(({ kind }) => kind === "group").map(({ name, size }) => [name, size])).toEqual([
      ["Energy", 40],
      ["Technology", 40],
      [NO_SECTOR, 20],
    ]);
  });

  it("shows the industries of a sector", () => {
    const all = tiles(HOLDINGS, { ...SIZE, sector: "Technology" });
    expect(all.map(({ name }) => name)).toEqual(["Chips", "AA", "Software", "BB"]);
    expect([...groups(HOLDINGS, "Technology").keys()]).toEqual(["Chips", "Software"]);
  });

  it("puts funds together, and what has no industry under its sector", () => {
    const fund: Holding = { symbol: "FF", is_etf: true, market_cap: 5, change_percent: 1 };
    expect([...groups([...HOLDINGS, fund], null).keys()]).toEqual(["Technology", "Energy", NO_SECTOR, "Funds"]);
    expect([...groups([fund], "Funds").keys()]).toEqual(["Funds"]);
  });

  it("is empty without room, without symbols and without sizes", () => {
    expect(tiles(HOLDINGS, { ...SIZE, width: 0 })).toEqual([]);
    expect(tiles([], SIZE)).toEqual([]);
    expect(tiles([{ symbol: "ZZ", market_cap: 0 }], SIZE)).toEqual([]);
  });

  it("weights a group's change by size", () => {
    expect(weightedChange(HOLDINGS.slice(0, 2), "market_cap")).toBe(1);
    expect(weightedChange([], "market_cap")).toBe(0);
    expect(named(tiles(HOLDINGS, SIZE), "Technology").change).toBe(1);
  });

  it("finds the tile under a point: the symbol, on a group's name the group", () => {
    const all = tiles(HOLDINGS, SIZE);
    for (const tile of all.filter(({ kind }) => kind === "symbol")) {
      expect(tileAt(all, tile.x + tile.width / 2, tile.y + tile.height / 2)).toBe(tile);
    }
    const group = named(all, "Technology");
    expect(tileAt(all, group.x + 5, group.y + 5)).toBe(group);
    expect(tileAt(all, -1, 5)).toBeUndefined();
  });

  it("goes to neighbours, and stays at the border", () => {
    const tile = (name: string, x: number, y: number): Tile => ({
      kind: "symbol", name, x, y, width: 10, height: 10, change: 0, size: 1, count: 1,
    }); // prettier-ignore
    const all = [tile("NW", 0, 0), tile("NE", 10, 0), tile("SW", 0, 10), tile("SE", 10, 10)];
    const go = (from: string, direction: "left" | "right" | "up" | "down") =>
      neighbour(all, named(all, from), direction).name;
    expect([go("NW", "right"), go("NW", "down"), go("SE", "left"), go("SE", "up")]).toEqual(["NE", "SW", "SW", "NE"]);
    expect([go("NW", "left"), go("SE", "down")]).toEqual(["NW", "SE"]);
  });
});
