/** Short marks beside a symbol: what a trader must know before acting on the row. */

import type { Row } from "../stream/types";
import { haltReason, timeOfDay } from "./formats";

export interface Badge {
  readonly kind: "halt" | "halts" | "ssr" | "suspect" | "type";
  readonly text: string;
  /** The badge in words, for the tooltip and for screen readers. */
  readonly meaning: string;
}

/** The fields that badges depend on. */
export const BADGE_FIELDS = [
  "halted",
  "halt_reason",
  "halted_at",
  "resumes_at",
  "halts_today",
  "low",
  "prev_close",
  "suspect_prints",
  "security_type",
] as const;

/** The vendor's types but common stock, which needs no mark. */
const TYPES: Record<string, [string, string]> = {
  ETF: ["ETF", "exchange-traded fund"],
  ETN: ["ETN", "exchange-traded note"],
  ETV: ["ETV", "exchange-traded vehicle"],
  ETS: ["ETS", "single-security ETF"],
  FUND: ["FND", "fund"],
  ADRC: ["ADR", "American depositary receipt"],
  PFD: ["PFD", "preferred share"],
  WARRANT: ["WT", "warrant"],
  UNIT: ["UN", "unit"],
  RIGHT: ["RT", "right"],
  SP: ["SP", "structured product"],
};

/**
 * True if Rule 201 of Regulation SHO restricts short sales because of today's prices: the regular session's low is 10 %
 * or more below the previous close. A restriction that began yesterday is not known from a row.
 */
export function isShortSaleRestricted(row: Row): boolean {
  const low = row["low"];
  const prevClose = row["prev_close"];
  return typeof low === "number" && typeof prevClose === "number" && low <= 0.9 * prevClose;
}

export function badgesOf(row: Row): Badge[] {
  const badges: Badge[] = [];
  const reason = typeof row["halt_reason"] === "string" ? row["halt_reason"] : "";
  const halts = typeof row["halts_today"] === "number" ? row["halts_today"] : 0;
  if (row["halted"] === true) {
    const resumes = timeOfDay(row["resumes_at"]);
    badges.push({
      kind: "halt",
      text: reason || "HALT",
      meaning: `Halted${reason ? `, ${haltReason(reason)}` : ""}${resumes ? `; resumes ${resumes}` : ""}`,
    });
  } else if (halts > 0) {
    const last = timeOfDay(row["halted_at"]);
    badges.push({
      kind: "halts",
      text: `H${halts}`,
      meaning: `Halted ${halts === 1 ? "once" : `${halts} times`} today${last ? `, last at ${last}` : ""}${reason ? ` (${haltReason(reason)})` : ""}`,
    });
  }
  if (isShortSaleRestricted(row)) {
    badges.push({
      kind: "ssr",
      text: "SSR",
      meaning: "Short-sale restriction: today's low is 10 % or more below the previous close",
    });
  }
  const suspect = row["suspect_prints"];
  if (typeof suspect === "number" && suspect > 0) {
    badges.push({
      kind: "suspect",
      text: `?${suspect}`,
      meaning: `${suspect} suspect ${suspect === 1 ? "print" : "prints"} today: far off the market, held for confirmation`,
    });
  }
  const type = row["security_type"];
  if (typeof type === "string" && type !== "CS") {
    const [text, meaning] = TYPES[type] ?? [type.slice(0, 4), type];
    badges.push({ kind: "type", text, meaning });
  }
  return badges;
}
