/** Decides which notices are announced, and puts them in words. */

import { haltReason, price } from "../table/formats";
import type { Kind, Notice } from "./detect";
import { Cooldowns, isQuiet, type Preferences, type Rule } from "./rules";

/** The sound of a list's notice, or of an alert. */
export type Tone = Kind | "alert";

export interface Outputs {
  sound(tone: Tone, volume: number): void;
  speak(text: string, volume: number): void;
  /** A later one with the same tag replaces the earlier. */
  desktop(title: string, body: string, tag: string, symbol: string): void;
}

/** The most urgent first: a halt is heard before an entry. */
const URGENCY: readonly Kind[] = ["halt", "resume", "high", "enter", "leave"];
/** What happens within this time in a list, or by alert rules, is announced together. */
export const TOGETHER_MS = 300;
/** More of one kind at once, of notices or of a rule's alerts, are announced as a number. */
export const MOST_SINGLE = 3;

const VERBS: Record<Kind, [string, string]> = {
  enter: ["enters", "enter"],
  leave: ["leaves", "leave"],
  high: ["makes a new high in", "make new highs in"],
  halt: ["is halted:", "are halted:"],
  resume: ["resumes trading:", "resume trading:"],
};

/** Letters one by one, as tickers are spoken. */
export function spelled(symbol: string): string {
  return [...symbol.toUpperCase()].map((letter) => (letter === "." ? "dot" : letter)).join(" ");
}

function spokenPercent(value: unknown): string {
  if (typeof value !== "number") return "";
  return `${value < 0 ? "down" : "up"} ${Math.abs(value).toFixed(Math.abs(value) < 10 ? 1 : 0)} percent`;
}

export function spokenText({ kind, symbol, row }: Notice, title: string): string {
  const reason = kind === "halt" && typeof row["halt_reason"] === "string" ? haltReason(row["halt_reason"]).replace(/^.*: /, "") : "";
  const what = kind === "halt" || kind === "resume" ? VERBS[kind][0].replace(":", "") : `${VERBS[kind][0]} ${title}`;
  return [`${spelled(symbol)} ${what}`, reason || spokenPercent(row["change_percent"])].filter(Boolean).join(", ");
}

export function desktopText({ kind, symbol, row }: Notice, title: string): { title: string; body: string } {
  const verbs = { enter: "entered", leave: "left", high: "new high", halt: "halted", resume: "resumed" };
  const parts = [title];
  if (typeof row["price"] === "number") parts.push(price(row["price"]));
  const change = row["change_percent"];
  if (typeof change === "number") parts.push(`${change > 0 ? "+" : ""}${change.toFixed(1)} %`);
  if (kind === "halt" && typeof row["halt_reason"] === "string") parts.push(haltReason(row["halt_reason"]));
  return { title: `${symbol} ${verbs[kind]}`, body: parts.join(" \u00b7 ") };
}

export class Announcer {
  private readonly cooldowns = new Cooldowns();

  constructor(
    private readonly outputs: Outputs,
    private readonly now: () => number,
  ) {}

  /** Announces what has happened in one list at the same time. `excluded` symbols are never announced. */
  announce(key: string, rule: Rule, notices: readonly Notice[], excluded: ReadonlySet<string>, { volume, quiet }: Preferences): void {
    const now = this.now();
    const isAllowed = ({ kind, symbol }: Notice): boolean =>
      rule.kinds.includes(kind) && !excluded.has(symbol) && this.cooldowns.allows(key, symbol, kind, now, rule.cooldown * 1000);
    // In quiet hours cooldowns run on: the end of the hours is no time for everything at once.
    const allowed = notices.filter(isAllowed);
    if (allowed.length === 0 || isQuiet(quiet, new Date(now))) return;
    for (const kind of URGENCY) {
      const same = allowed.filter((notice) => notice.kind === kind);
      if (same.length > 0) this.announceKind(key, rule, kind, same, volume);
    }
    const first = URGENCY.find((kind) => allowed.some((notice) => notice.kind === kind));
    if (rule.sound && first) this.outputs.sound(first, volume);
  }

  private announceKind(key: string, rule: Rule, kind: Kind, notices: readonly Notice[], volume: number): void {
    if (notices.length > MOST_SINGLE) {
      const text = `${notices.length} symbols ${VERBS[kind][1]} ${rule.title}`;
      if (rule.speech) this.outputs.speak(text, volume);
      const symbols = notices.map(({ symbol }) => symbol);
      if (rule.desktop) this.outputs.desktop(text, symbols.join(", "), `${key} ${kind}`, symbols[0] as string);
      return;
    }
    for (const notice of notices) {
      if (rule.speech) this.outputs.speak(spokenText(notice, rule.title), volume);
      const { title, body } = desktopText(notice, rule.title);
      if (rule.desktop) this.outputs.desktop(title, body, `${key} ${notice.symbol}`, notice.symbol);
    }
  }
}

