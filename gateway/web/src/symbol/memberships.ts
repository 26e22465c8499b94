/** When a symbol was in which list, from the log of the lists' changes. */

/** One change, as /api/v1/scanner/changes returns it. */
export interface ListChange {
  time: string;
  list: string;
  symbol: string;
  action: "ENTER" | "LEAVE";
  rank?: number;
  price?: number;
  change_percent?: number;
}

export interface Stay {
  /** UTC seconds; null if it began before the log did. */
  from: number | null;
  /** UTC seconds; null while it lasts. */
  until: number | null;
}

export interface Membership {
  list: string;
  /** Oldest first. */
  stays: Stay[];
  isMember: boolean;
  /** The newest change, UTC seconds. */
  changed: number;
}

/** Returns the lists of one symbol's changes, newest first as the API returns them: those that it is in now, then by newest change. */
export function memberships(changes: readonly ListChange[]): Membership[] {
  const lists = new Map<string, Membership>();
  for (const { list, action, time } of [...changes].reverse()) {
    const at = Date.parse(time) / 1000;
    let membership = lists.get(list);
    if (!membership) lists.set(list, (membership = { list, stays: [], isMember: false, changed: at }));
    const last = membership.stays.at(-1);
    if (action === "ENTER") membership.stays.push({ from: at, until: null });
    else if (last && last.until === null) last.until = at;
    else membership.stays.push({ from: null, until: at });
    membership.isMember = action === "ENTER";
    membership.changed = at;
  }
  return [...lists.values()].sort((a, b) => Number(b.isMember) - Number(a.isMember) || b.changed - a.changed);
}

/** Returns the seconds of all stays until `now`; what began before the log counts from `since`. */
export function duration({ stays }: Membership, since: number, now: number): number {
  return stays.reduce((sum, { from, until }) => sum + Math.max(0, (until ?? now) - (from ?? since)), 0);
}

/** Returns a stay's place between `start` and `end`, in percent of the width between them. */
export function place(
  stay: Stay,
  since: number,
  now: number,
  start: number,
  end: number,
): { left: number; width: number } {
  const share = (time: number) => Math.min(100, Math.max(0, (100 * (time - start)) / (end - start)));
  const left = share(stay.from ?? since);
  return { left, width: share(stay.until ?? now) - left };
}
