/** The user's own scans, watch list and exclusion list: kept by the browser, shared by link and by file. */

import { stored } from "../shared/stored";
import type { Scan } from "../stream/types";

export interface OwnScan {
  title: string;
  filter: string;
  order_by: string;
  limit: number;
}

export const DEFAULT_LIMIT = 100;
export const GREATEST_LIMIT = 500;
export const NEW_SCAN: OwnScan = { title: "New scan", filter: "", order_by: "change_percent desc", limit: DEFAULT_LIMIT };

const LONGEST_TITLE = 80;
const LONGEST_TEXT = 2000;
const MOST_SYMBOLS = 500;

/** Returns the scan, or null if `value` is none. */
export function parseScan(value: unknown): OwnScan | null {
  if (typeof value !== "object" || value === null) return null;
  const { title, filter, order_by, limit } = value as Record<string, unknown>;
  if (typeof filter !== "string" || filter.length > LONGEST_TEXT) return null;
  if (order_by !== undefined && (typeof order_by !== "string" || order_by.length > LONGEST_TEXT)) return null;
  const rows = Number(limit ?? DEFAULT_LIMIT);
  return {
    title: (typeof title === "string" && title.trim().slice(0, LONGEST_TITLE)) || "Scan",
    filter,
    order_by: order_by ?? "",
    limit: Number.isInteger(rows) ? Math.min(GREATEST_LIMIT, Math.max(1, rows)) : DEFAULT_LIMIT,
  };
}

function parseScans(value: unknown): OwnScan[] | null {
  if (!Array.isArray(value)) return null;
  return value.map(parseScan).filter((scan) => scan !== null);
}

/** The saved scans, by title. */
export const ownScans = stored<OwnScan[]>("tradeul.scans", parseScans, []);

/** Saves the scan; one of the same title is replaced. */
export function saveScan(scan: OwnScan): void {
  ownScans.update((scans) => byTitle([...scans.filter(({ title }) => title !== scan.title), scan]));
}

export function deleteScan(title: string): void {
  ownScans.update((scans) => scans.filter((scan) => scan.title !== title));
}

function byTitle(scans: OwnScan[]): OwnScan[] {
  return scans.sort((a, b) => a.title.localeCompare(b.title));
}

/** The scan as the stream and the API take it. */
export function requestOf({ filter, order_by, limit }: OwnScan): Scan {
  return { filter, order_by, limit };
}

/** Returns the stream's id of a scan: equal scans have the same, whichever window opened them. */
export function streamIdOf(scan: OwnScan): string {
  // FNV-1a with two offsets: 64 bits, so that two scans of one browser do not meet.
  let first = 0x811c9dc5;
  let second = 0xcbf29ce4;
  for (const character of JSON.stringify(requestOf(scan))) {
    const code = character.codePointAt(0) as number;
    first = Math.imul(first ^ code, 0x01000193);
    second = Math.imul(second ^ code, 0x01000193) ^ (first >>> 15);
  }
  const hex = (part: number): string => (part >>> 0).toString(16).padStart(8, "0");
  return `scan-${hex(first)}${hex(second)}`;
}

/** Returns the address of `page` that opens this scan. It is in the fragment, which no server sees. */
export function scanLink(scan: OwnScan, page: string): string {
  const url = new URL(page);
  const { title, filter, order_by, limit } = scan;
  url.hash = `scan?${new URLSearchParams({ title, filter, order_by, limit: String(limit) })}`;
  return url.href;
}

/** Returns the scan of a link's fragment, or null if it has none. */
export function scanOfFragment(fragment: string): OwnScan | null {
  const [, query] = /^#scan\?(.*)$/s.exec(fragment) ?? [];
  if (query === undefined) return null;
  return parseScan(Object.fromEntries(new URLSearchParams(query)));
}

/** What a file of scans contains. */
export function scansFile(scans: readonly OwnScan[]): string {
  return `${JSON.stringify({ tradeul_scans: scans }, null, 2)}\n`;
}

/** Returns the scans of a file; throws an error in words if it is none. */
export function scansOfFile(text: string): OwnScan[] {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error("expected a file of scans, was not JSON");
  }
  const scans = parseScans((content as { tradeul_scans?: unknown } | null)?.tradeul_scans);
  if (!scans) throw new Error('expected "tradeul_scans" in the file');
  return scans;
}

export function importScans(scans: readonly OwnScan[]): void {
  for (const scan of scans) saveScan(scan);
}

const SYMBOL = /^[A-Za-z][A-Za-z0-9.\-/]{0,11}$/;

function parseSymbols(value: unknown): string[] | null {
  if (!Array.isArray(value)) return null;
  return [...new Set(value.filter((each): each is string => typeof each === "string" && SYMBOL.test(each)))].slice(0, MOST_SYMBOLS);
}

/** Symbols that are starred in every list, and make a list of their own. */
export const watchList = stored<string[]>("tradeul.watch", parseSymbols, []);

/** Symbols that no list shows or announces. */
export const exclusionList = stored<string[]>("tradeul.exclude", parseSymbols, []);

/** Returns the symbols in a text that separates them by spaces, commas or line ends, in upper case unless written otherwise. */
export function symbolsOf(text: string): string[] {
  const found = text.split(/[\s,;]+/).filter((each) => SYMBOL.test(each));
  return [...new Set(found.map((each) => (each === each.toLowerCase() ? each.toUpperCase() : each)))];
}

/** The watch list as a scan, in alphabetical order. */
export function watchScan(symbols: readonly string[]): OwnScan {
  return { title: "Watch list", filter: `symbol IN (${symbols.map((symbol) => JSON.stringify(symbol)).join(", ")})`, order_by: "symbol", limit: GREATEST_LIMIT };
}
