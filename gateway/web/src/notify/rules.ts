/** What is announced of which list, and when not: kept by the browser. */

import { sourceOf, type Source } from "../scan/source";
import { stored } from "../shared/stored";
import { KINDS, type Kind } from "./detect";

export interface Rule {
  source: Source;
  /** The list's name as it is spoken. */
  title: string;
  kinds: Kind[];
  sound: boolean;
  speech: boolean;
  desktop: boolean;
  /** Seconds in which the same symbol is not announced again for the same. */
  cooldown: number;
}

/** Times of day of this computer, HH:MM; a range may pass midnight. */
export interface Quiet {
  isOn: boolean;
  from: string;
  to: string;
}

export interface Preferences {
  /** 0 to 1. */
  volume: number;
  quiet: Quiet;
}

export const GREATEST_COOLDOWN = 3600;
const COOLDOWN = 60;

export function newRule(source: Source, title: string): Rule {
  return { source, title, kinds: [], sound: true, speech: false, desktop: false, cooldown: COOLDOWN };
}

/** True if the rule announces anything. */
export function isActive({ kinds, sound, speech, desktop }: Rule): boolean {
  return kinds.length > 0 && (sound || speech || desktop);
}

function parseRule(value: unknown): Rule | null {
  if (typeof value !== "object" || value === null) return null;
  const { source, title, kinds, sound, speech, desktop, cooldown } = value as Record<string, unknown>;
  const known = typeof source === "object" && source !== null ? sourceOf(source as Record<string, unknown>) : null;
  if (!known || typeof title !== "string" || !Array.isArray(kinds)) return null;
  return {
    source: known,
    title,
    kinds: KINDS.filter((kind) => kinds.includes(kind)),
    sound: sound === true,
    speech: speech === true,
    desktop: desktop === true,
    cooldown: Math.min(GREATEST_COOLDOWN, Math.max(0, Number(cooldown) || 0)),
  };
}

function parseRules(value: unknown): Record<string, Rule> | null {
  if (typeof value !== "object" || value === null) return null;
  const rules: Record<string, Rule> = {};
  for (const [key, each] of Object.entries(value)) {
    const rule = parseRule(each);
    if (rule) rules[key] = rule;
  }
  return rules;
}

const TIME = /^([01]\d|2[0-3]):[0-5]\d$/;

function parsePreferences(value: unknown): Preferences | null {
  if (typeof value !== "object" || value === null) return null;
  const { volume, quiet } = value as { volume?: unknown; quiet?: Partial<Record<keyof Quiet, unknown>> };
  const time = (given: unknown, otherwise: string): string => (typeof given === "string" && TIME.test(given) ? given : otherwise);
  return {
    volume: typeof volume === "number" ? Math.min(1, Math.max(0, volume)) : NORMAL.volume,
    quiet: { isOn: quiet?.isOn === true, from: time(quiet?.from, NORMAL.quiet.from), to: time(quiet?.to, NORMAL.quiet.to) },
  };
}

const NORMAL: Preferences = { volume: 0.6, quiet: { isOn: false, from: "22:00", to: "07:00" } };

/** The rules by the keys of their sources. */
export const rules = stored<Record<string, Rule>>("tradeul.notify.rules", parseRules, {});
export const preferences = stored<Preferences>("tradeul.notify", parsePreferences, NORMAL);

/** True if `date` is in the quiet hours; `from` is included, `to` is not. */
export function isQuiet({ isOn, from, to }: Quiet, date: Date): boolean {
  if (!isOn || from === to) return false;
  const now = `${String(date.getHours()).padStart(2, "0")}:${String(date.getMinutes()).padStart(2, "0")}`;
  return from < to ? from <= now && now < to : now >= from || now < to;
}

/** Lets a symbol of a list through once in each cooldown, for each kind of notice. */
export class Cooldowns {
  private readonly last = new Map<string, number>();

  /** `now` and `cooldown` in milliseconds. */
  allows(list: string, symbol: string, kind: Kind, now: number, cooldown: number): boolean {
    const key = `${list}\n${symbol}\n${kind}`;
    const last = this.last.get(key);
    if (last !== undefined && now - last < cooldown) return false;
    this.last.set(key, now);
    // What is older than any cooldown is not needed.
    if (this.last.size > 10_000) for (const [old, time] of this.last) if (now - time > GREATEST_COOLDOWN * 1000) this.last.delete(old);
    return true;
  }
}
