/** Counts what a scan matches while it is written, and places its mistake. */

import { ApiError } from "../shared/api";
import { indexOfPosition } from "./language";
import type { OwnScan } from "./own_scans";

export interface Mistake {
  /** In which of the two texts it is, or "scan" for one of both. */
  part: "filter" | "order_by" | "scan";
  message: string;
  /** Where it begins in the text, or -1. */
  index: number;
  /** What was probably meant, or "". */
  suggestion: string;
}

export type Check = { kind: "matches"; count: number } | { kind: "mistake"; mistake: Mistake } | { kind: "unknown"; message: string };

/** The answer of scans:check (docs/rest.md). A mistake is no error there: the browser would log each one that is written. */
export interface ScanCheck {
  matches?: number;
  mistake?: { reason: string; message: string; position?: number; suggestion?: string };
}

/** Sends scans:check; throws ApiError. */
export type Send = (body: object, signal: AbortSignal) => Promise<ScanCheck>;

const PARTS: Record<string, Mistake["part"]> = { INVALID_FILTER: "filter", INVALID_ORDER: "order_by" };

export async function check({ filter, order_by }: Pick<OwnScan, "filter" | "order_by">, send: Send, signal: AbortSignal): Promise<Check> {
  try {
    const { matches = 0, mistake } = await send({ filter, order_by }, signal);
    if (!mistake) return { kind: "matches", count: matches };
    const { message, position = -1, suggestion = "" } = mistake;
    const part = PARTS[mistake.reason] ?? "scan";
    const index = position >= 0 && part !== "scan" ? indexOfPosition(part === "filter" ? filter : order_by, position) : -1;
    // The position is shown by its underline.
    return { kind: "mistake", mistake: { part, message: message.replace(/ at position \d+/, ""), index, suggestion } };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { kind: "unknown", message: error.message };
  }
}
