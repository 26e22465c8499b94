/** Dry runs: the alerts that a rule would have had on past days (docs/alerts.md). */

import { eventsOf } from "../shared/api";
import type { RuleDefinition } from "./api";

export interface DryRunDay {
  date: string;
  source: string;
  alerts: number;
  symbols: { symbol: string; alerts: number }[];
  /** Why the day could not be run, or "". */
  problem: string;
  lacks: string[];
}

interface Progress {
  date: string;
  step: string;
  percent: number;
}

interface Event {
  opened?: { days: string[] };
  progress?: Progress;
  day?: DryRunDay;
  ended?: object;
}

export interface DryRun {
  /** Days that are run, and those that have ended, by date. */
  wanted: number;
  days: DryRunDay[];
  /** Where it is, in words; "" once it has ended. */
  step: string;
}

const SOURCES: Record<string, string> = {
  RECORDING: "recorded stream",
  TRADES: "trades",
  MINUTE_BARS_FILE: "minute bars",
  STORED_MINUTE_BARS: "minute bars",
};

export function sourceText(source: string): string {
  return SOURCES[source] ?? "no data";
}

/** The run as it is after an event. */
export function after(run: DryRun, { opened, progress, day, ended }: Event): DryRun {
  if (opened) return { ...run, wanted: opened.days.length };
  if (progress) return { ...run, step: `${progress.date}: ${progress.step}, ${Math.round(progress.percent)} %` };
  if (day) return { ...run, days: [...run.days, day].sort((a, b) => a.date.localeCompare(b.date)) };
  return ended ? { ...run, step: "" } : run;
}

export const BEGUN: DryRun = { wanted: 0, days: [], step: "beginning" };

/** Runs a rule over the newest `days` with data; yields the run as it goes on. Throws ApiError. */
export async function* dryRun(rule: Partial<RuleDefinition>, days: number, signal: AbortSignal): AsyncGenerator<DryRun, void, undefined> {
  let run = BEGUN;
  // Alerts are counted by day and symbol, and not listed.
  const body = { rule, days, limit: 0 };
  for await (const event of eventsOf<Event>("/api/v1/alerts:dryRun", { method: "POST", body, signal })) {
    run = after(run, event);
    yield run;
  }
  if (run.step !== "") throw new Error("The dry run broke off before all its days were over.");
}
