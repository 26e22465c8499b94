/** Sets of fields that rows have: `rank` and `symbol` are in each; undefined is all fields. */

export type Fields = readonly string[] | undefined;

/** True if rows with the fields `has` have all of `needed`. */
export function covers(has: Fields, needed: Fields): boolean {
  return has === undefined || (needed !== undefined && needed.every((field) => has.includes(field)));
}

export function union(some: Fields, others: Fields): Fields {
  if (some === undefined || others === undefined) return undefined;
  return covers(some, others) ? some : [...some, ...others.filter((field) => !some.includes(field))];
}
