/** Which list comes next, and what is shown of its leaders. */

import type { Row } from "../stream/types";

/** The list after (or before) `list`, around the end; the first one where `list` is unknown. */
export function nextList(lists: readonly string[], list: string, step: 1 | -1): string {
  const index = lists.indexOf(list);
  if (index < 0) return lists[0] ?? list;
  return lists[(index + step + lists.length) % lists.length] ?? list;
}

/** "gappers_up" is "Gappers up". */
export function titleOf(list: string): string {
  const text = list.replaceAll("_", " ");
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

/** What a leader's row is shown with. */
export const LEADER_FIELDS = ["company_name", "price", "change_percent", "volume_today"] as const;

export interface Facts {
  company: string;
  price: number | null;
  change: number | null;
  volume: number | null;
}

/** Fields that the row lacks are null, and no zeros. */
export function leaderFields(row: Row): Facts {
  const number = (name: string): number | null => (typeof row[name] === "number" ? row[name] : null);
  const company = row["company_name"];
  return {
    company: typeof company === "string" ? company : "",
    price: number("price"),
    change: number("change_percent"),
    volume: number("volume_today"),
  };
}
