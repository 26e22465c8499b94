/** What a panel or a notification follows: a built-in list, an own scan, or the watch list. */

import type { Handlers, Stream } from "../stream/client";
import { fieldsFor } from "../table/columns";
import { parseScan, requestOf, streamIdOf, watchScan, type OwnScan } from "./own_scans";

export type Source = { list: string } | { scan: OwnScan } | { watch: true };

/** Returns the source that saved parameters name, or null. */
export function sourceOf(parameters: Record<string, unknown>): Source | null {
  if (parameters["watch"] === true) return { watch: true };
  const scan = parseScan(parameters["scan"]);
  if (scan) return { scan };
  const list = parameters["list"];
  return typeof list === "string" && /^[a-z][a-z0-9_]*$/.test(list) ? { list } : null;
}

/** Returns under which name the source's columns, notifications and log are kept. */
export function keyOf(source: Source): string {
  if ("list" in source) return source.list;
  return "scan" in source ? `scan:${source.scan.title}` : "watch";
}

/**
 * Follows the source; returns what ends that. `watched` are the symbols of the watch list. The rows have the fields
 * `needed`, and those of badges, alerts and the log.
 */
export function follow(
  stream: Stream, source: Source, watched: readonly string[], handlers: Handlers, needed: readonly string[] = [],
): () => void { // prettier-ignore
  if ("list" in source) return stream.subscribeList(source.list, handlers, fieldsFor(source.list, needed));
  if ("watch" in source && watched.length === 0) return () => {};
  const scan = "scan" in source ? source.scan : watchScan(watched);
  return stream.subscribeScan(streamIdOf(scan), requestOf(scan), handlers, fieldsFor("", needed));
}
