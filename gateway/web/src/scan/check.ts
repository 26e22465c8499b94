/** Counts what a scan matches while it is written, and places its mistake. */

import { ApiError } from "../shared/api";
import type { Row } from "../stream/types";
import { indexOfPosition } from "./language";
import { GREATEST_LIMIT, type OwnScan } from "./own_scans";

export interface Mistake {
  /** In which of the two texts it is, or "scan" for one of both. */
  part: "filter" | "order_by" | "scan";
  message: string;
  /** Where it begins in the text, or -1. */
  index: number;
  /** What was probably meant, or "". */
  suggestion: string;
}

export type Check = { kind: "matches"; count: number; isAtLeast: boolean } | { kind: "mistake"; mistake: Mistake } | { kind: "unknown"; message: string };

/** Sends scans:query; throws ApiError. */
export type Query = (body: object, signal: AbortSignal) => Promise<{ count?: number; rows?: Row[] }>;

const PARTS: Record<string, Mistake["part"]> = { INVALID_FILTER: "filter", INVALID_ORDER: "order_by" };

export async function check(scan: Pick<OwnScan, "filter" | "order_by">, query: Query, signal: AbortSignal): Promise<Check> {
  const { filter, order_by } = scan;
  try {
    // One field is enough to count rows.
    const answer = await query({ filter, order_by, limit: GREATEST_LIMIT, fields: "symbol" }, signal);
    const count = answer.count ?? answer.rows?.length ?? 0;
    return { kind: "matches", count, isAtLeast: count >= GREATEST_LIMIT };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const part = PARTS[error.reason];
    if (part) return { kind: "mistake", mistake: mistakeOf(part, part === "filter" ? filter : order_by, error) };
    if (error.status >= 400 && error.status < 500) return { kind: "mistake", mistake: { part: "scan", message: error.message, index: -1, suggestion: "" } };
    return { kind: "unknown", message: error.message };
  }
}

function mistakeOf(part: Mistake["part"], text: string, { message, metadata }: ApiError): Mistake {
  const position = Number(metadata["position"]);
  const index = Number.isInteger(position) ? indexOfPosition(text, position) : -1;
  // The position is shown by its underline.
  return { part, message: message.replace(/ at position \d+/, ""), index, suggestion: metadata["suggestion"] ?? "" };
}
