/** Names of rules: a-z, 0-9 and _, a letter first (docs/alerts.md). */

const LONGEST = 60;

/** "Breaks 100!" as breaks_100. */
export function nameOf(title: string): string {
  const words = title.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().match(/[a-z0-9]+/g) ?? [];
  const name = words.join("_").replace(/^(?=[0-9])/, "rule_").slice(0, LONGEST);
  return name || "rule";
}
