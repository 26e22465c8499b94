/** Of which alert rules an alert is announced, and how: kept by the browser. */

import { stored } from "../shared/stored";

export interface AlertWays {
  /** The rule's title as it is spoken. */
  title: string;
  sound: boolean;
  speech: boolean;
  desktop: boolean;
}

export type Way = "sound" | "speech" | "desktop";

export const WAYS: readonly { way: Way; title: string }[] = [
  { way: "sound", title: "Sound" },
  { way: "speech", title: "Speech" },
  { way: "desktop", title: "Notification" },
];

export function isAnnounced({ sound, speech, desktop }: AlertWays): boolean {
  return sound || speech || desktop;
}

function parse(value: unknown): Record<string, AlertWays> | null {
  if (typeof value !== "object" || value === null) return null;
  const all: Record<string, AlertWays> = {};
  for (const [rule, each] of Object.entries(value as Record<string, unknown>)) {
    if (typeof each !== "object" || each === null) continue;
    const { title, sound, speech, desktop } = each as Record<string, unknown>;
    const ways = { title: typeof title === "string" ? title : rule, sound: sound === true, speech: speech === true, desktop: desktop === true };
    if (isAnnounced(ways)) all[rule] = ways;
  }
  return all;
}

/** By the rule's name; a rule that is not announced is not there. */
export const alertWays = stored<Record<string, AlertWays>>("tradeul.notify.alerts", parse, {});

export function setWay(rule: string, title: string, way: Way, isOn: boolean): void {
  alertWays.update((all) => {
    const { [rule]: before, ...rest } = all;
    const ways = { title, sound: false, speech: false, desktop: false, ...before, [way]: isOn };
    return isAnnounced(ways) ? { ...rest, [rule]: ways } : rest;
  });
}
