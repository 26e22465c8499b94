/** Symbols grouped for a heat map, and where each lies. */

import { hierarchy, treemap, treemapSquarify, type HierarchyRectangularNode } from "d3-hierarchy";

/** One symbol, as scans:query returns it. */
export interface Holding {
  symbol: string;
  company_name?: string;
  sector?: string;
  industry?: string;
  price?: number;
  market_cap?: number;
  dollar_volume?: number;
  change_percent?: number;
  is_etf?: boolean;
}

export type SizeBy = "market_cap" | "dollar_volume";

export interface Tile {
  kind: "group" | "symbol";
  name: string;
  x: number;
  y: number;
  width: number;
  height: number;
  /** Weighted by size, in percent. */
  change: number;
  size: number;
  /** Symbols in it. */
  count: number;
  holding?: Holding;
}

/** Funds have no sector of their own. */
const FUNDS = "Funds";
export const NO_SECTOR = "Other";
const GROUP_HEAD = 18;

interface Node {
  name: string;
  holding?: Holding;
  children?: Node[];
}

export function sizeOf(holding: Holding, sizeBy: SizeBy): number {
  return Math.max(0, holding[sizeBy] ?? 0);
}

export function sectorOf({ sector, is_etf }: Holding): string {
  return sector ?? (is_etf ? FUNDS : NO_SECTOR);
}

/** Returns the mean change of the holdings in percent, weighted by size. */
export function weightedChange(holdings: readonly Holding[], sizeBy: SizeBy): number {
  let sum = 0;
  let weights = 0;
  for (const holding of holdings) {
    const size = sizeOf(holding, sizeBy);
    sum += size * (holding.change_percent ?? 0);
    weights += size;
  }
  return weights > 0 ? sum / weights : 0;
}

/** Returns the holdings in groups: by sector, or the industries of one sector. */
export function groups(holdings: readonly Holding[], sector: string | null): Map<string, Holding[]> {
  const result = new Map<string, Holding[]>();
  for (const holding of holdings) {
    if (sector !== null && sectorOf(holding) !== sector) continue;
    const name = sector === null ? sectorOf(holding) : (holding.industry ?? sector);
    const group = result.get(name);
    if (group) group.push(holding);
    else result.set(name, [holding]);
  }
  return result;
}

/** Returns the tiles of a map of `width` x `height` pixels: groups, each followed by its symbols, by size. */
export function tiles(
  holdings: readonly Holding[],
  { sizeBy, sector, width, height }: { sizeBy: SizeBy; sector: string | null; width: number; height: number },
): Tile[] {
  if (!(width > 0 && height > 0)) return [];
  const children = [...groups(holdings, sector)].map(([name, members]) => ({
    name,
    children: members.map((holding): Node => ({ name: holding.symbol, holding })),
  }));
  const root = hierarchy<Node>({ name: "", children })
    .sum(({ holding }) => (holding ? sizeOf(holding, sizeBy) : 0))
    // Equal sizes keep one order, so that nothing jumps.
    .sort((a, b) => (b.value ?? 0) - (a.value ?? 0) || (a.data.name < b.data.name ? -1 : 1));
  if (!root.value) return [];
  const placed = treemap<Node>()
    .size([width, height])
    .tile(treemapSquarify.ratio(1.3))
    .paddingInner(1)
    .paddingOuter((node) => (node.depth === 1 ? 1 : 0))
    // A name needs its line; a group too small for it is only its tiles.
    .paddingTop((node) => (node.depth === 1 ? GROUP_HEAD : 0))
    .round(true)(root);
  const result: Tile[] = [];
  for (const group of placed.children ?? []) {
    const members = group.leaves();
    result.push(toTile(group, "group", members, sizeBy));
    for (const leaf of members)
      if (leaf.x1 > leaf.x0 && leaf.y1 > leaf.y0) result.push(toTile(leaf, "symbol", [leaf], sizeBy));
  }
  return result;
}

function toTile(
  node: HierarchyRectangularNode<Node>,
  kind: Tile["kind"],
  members: HierarchyRectangularNode<Node>[],
  sizeBy: SizeBy,
): Tile {
  const held = members.map(({ data }) => data.holding!);
  return {
    kind,
    name: node.data.name,
    x: node.x0,
    y: node.y0,
    width: node.x1 - node.x0,
    height: node.y1 - node.y0,
    change: weightedChange(held, sizeBy),
    size: node.value ?? 0,
    count: held.length,
    ...(kind === "symbol" ? { holding: held[0]! } : {}),
  };
}

/** Returns the tile under a point: a symbol before its group. */
export function tileAt(all: readonly Tile[], x: number, y: number): Tile | undefined {
  let found: Tile | undefined;
  for (const tile of all) {
    if (x < tile.x || y < tile.y || x >= tile.x + tile.width || y >= tile.y + tile.height) continue;
    found = tile;
  }
  return found;
}

export type Direction = "left" | "right" | "up" | "down";

/** Returns the nearest symbol's tile in a direction: the smallest distance, of which sideways counts twice. */
export function neighbour(all: readonly Tile[], from: Tile, direction: Direction): Tile {
  const center = ({ x, y, width, height }: Tile) => [x + width / 2, y + height / 2] as const;
  const [x0, y0] = center(from);
  let best = from;
  let bestDistance = Infinity;
  for (const tile of all) {
    if (tile.kind !== "symbol" || tile.name === from.name) continue;
    const [x, y] = center(tile);
    const [dx, dy] = [x - x0, y - y0];
    const ahead = { left: -dx, right: dx, up: -dy, down: dy }[direction];
    const beside = Math.abs(direction === "left" || direction === "right" ? dy : dx);
    if (ahead <= 0) continue;
    const distance = ahead + 2 * beside;
    if (distance < bestDistance) [best, bestDistance] = [tile, distance];
  }
  return best;
}
