/** Layouts: the current one of this window, those saved by name, and how they are shared as a file or a link. */

import type { SerializedDockview } from "dockview";
import { stored } from "../shared/stored";

/** What is kept and shared. `version` tells a later page how to read it. */
export interface Layout {
  version: 1;
  title: string;
  dock: SerializedDockview;
}

const CURRENT = "tradeul.layout";
const NARROW = "tradeul.layout.narrow";
const LONGEST_TITLE = 60;
const LONGEST_TEXT = 200_000;
const LINK = /^#layout=([\w-]+)$/;

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;

/**
 * Returns the layout, or null if `value` is none. What it contains may come from strangers: windows that it would open by
 * itself become floating groups.
 */
export function parseLayout(value: unknown): Layout | null {
  if (!isObject(value) || value["version"] !== 1 || !isObject(value["dock"])) return null;
  const dock = value["dock"];
  if (!isObject(dock["grid"]) || !isObject(dock["panels"])) return null;
  const panels = Object.entries(dock["panels"]).map(([id, panel]) => {
    if (!isObject(panel) || typeof panel["contentComponent"] !== "string") return null;
    const params = isObject(panel["params"]) ? panel["params"] : {};
    const { contentComponent, title } = panel;
    return [id, { id, contentComponent, title: typeof title === "string" ? title : "", params }] as const;
  });
  if (panels.some((panel) => panel === null)) return null;
  const floating = Array.isArray(dock["floatingGroups"]) ? dock["floatingGroups"] : [];
  const windows = Array.isArray(dock["popoutGroups"]) ? dock["popoutGroups"].filter(isObject) : [];
  const docked = windows.map(({ data }, index) => ({
    data,
    position: { left: 80 + 30 * index, top: 60 + 30 * index, width: 480, height: 360 },
  }));
  const title = typeof value["title"] === "string" ? value["title"].slice(0, LONGEST_TITLE) : "Layout";
  const { grid, activeGroup } = dock;
  const clean = {
    grid,
    panels: Object.fromEntries(panels as (readonly [string, unknown])[]),
    ...(typeof activeGroup === "string" && { activeGroup }),
    floatingGroups: [...floating, ...docked],
  };
  return { version: 1, title, dock: clean as unknown as SerializedDockview };
}

function parseText(text: string | null): Layout | null {
  if (!text || text.length > LONGEST_TEXT) return null;
  try {
    return parseLayout(JSON.parse(text));
  } catch {
    return null;
  }
}

function parseAll(value: unknown): Layout[] | null {
  return Array.isArray(value) ? value.map(parseLayout).filter((layout) => layout !== null) : null;
}

/** The layouts saved by name, sorted by it. */
export const layouts = stored<Layout[]>("tradeul.layouts", parseAll, []);

export function saveLayout(layout: Layout): void {
  layouts.update((all) =>
    [...all.filter(({ title }) => title !== layout.title), layout].sort((a, b) => a.title.localeCompare(b.title)),
  );
}

export function deleteLayout(title: string): void {
  layouts.update((all) => all.filter((layout) => layout.title !== title));
}

/** This window's layout: its own after a reload, in a new window that of the window changed last. */
export function currentLayout(isNarrow: boolean): Layout | null {
  const name = isNarrow ? NARROW : CURRENT;
  try {
    return parseText(sessionStorage.getItem(name) ?? localStorage.getItem(name));
  } catch {
    return null;
  }
}

export function keepCurrent(layout: Layout, isNarrow: boolean): void {
  const name = isNarrow ? NARROW : CURRENT;
  const text = JSON.stringify(layout);
  try {
    sessionStorage.setItem(name, text);
    localStorage.setItem(name, text);
  } catch {
    // Without room for it, it lasts as long as the window.
  }
}

/** Returns a link that opens the layout. It is in the fragment, which no server sees. */
export async function layoutLink(layout: Layout, page: string): Promise<string> {
  const url = new URL(page);
  url.hash = `layout=${encode(await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify(layout))))}`;
  return url.href;
}

/** Returns the layout of a link's fragment, or null if it has none that can be read. */
export async function linkedLayout(fragment: string): Promise<Layout | null> {
  const text = LINK.exec(fragment)?.[1];
  if (!text) return null;
  try {
    const bytes = await through(new DecompressionStream("deflate-raw"), decode(text), LONGEST_TEXT);
    return parseText(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/** Returns the layout of a file, or null if it is none. */
export async function layoutOfFile(file: Blob): Promise<Layout | null> {
  return file.size > LONGEST_TEXT ? null : parseText(await file.text());
}

async function through(
  stream: CompressionStream | DecompressionStream,
  bytes: Uint8Array<ArrayBuffer>,
  limit = Infinity,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.length;
    if (size > limit) throw new RangeError(`expected at most ${limit} bytes`);
    parts.push(next.value);
  }
  const all = new Uint8Array(size);
  let end = 0;
  for (const part of parts) {
    all.set(part, end);
    end += part.length;
  }
  return all;
}

function encode(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
}
