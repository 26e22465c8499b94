/** Alerts and their rules in the REST API (docs/rest.md). */

import { api } from "../shared/api";
import type { Alert } from "../stream/types";

/** What a rule is made of, as docs/alerts.md explains it. */
export interface RuleDefinition {
  name: string;
  title: string;
  when: string;
  where: string;
  quality: string;
  min_quality?: number;
  once_a_day: boolean;
  cooldown_seconds: number;
  rearm: string;
  sessions: string[];
  text: string;
  owner: string;
  version: number;
}

export interface RuleState {
  rule: RuleDefinition;
  alerts_today: number;
  /** Why the scanner leaves it out, or "". */
  mistake: string;
  enabled: boolean;
}

export interface AlertPage {
  alerts: Alert[];
  next_page_token?: string;
}

export interface AlertQuery {
  /** Names; none for all. */
  rules: readonly string[];
  filter: string;
}

const PAGE = 100;
const RULES = "/api/v1/alerts/rules";

export function readAlerts({ rules, filter }: AlertQuery, signal: AbortSignal, pageToken?: string): Promise<AlertPage> {
  const query = {
    limit: PAGE,
    rules: rules.length > 0 ? rules.join(",") : undefined,
    filter: filter || undefined,
    page_token: pageToken,
  };
  return api<AlertPage>("/api/v1/alerts", { query, signal });
}

export async function readRules(signal: AbortSignal): Promise<RuleState[]> {
  return (await api<{ rules: RuleState[] }>(RULES, { signal })).rules;
}

const pathOf = (name: string): string => `${RULES}/${encodeURIComponent(name)}`;

export async function createRule(rule: Partial<RuleDefinition>): Promise<void> {
  await api(RULES, { method: "POST", body: { rule } });
}

/** Replaces the version of the rule that `rule` has; fails if somebody else has changed it. */
export async function changeRule(rule: Partial<RuleDefinition> & { name: string }): Promise<void> {
  await api(pathOf(rule.name), { method: "PATCH", body: { rule } });
}

export async function enableRule(name: string, enabled: boolean): Promise<void> {
  await api(pathOf(name), { method: "PATCH", body: { enabled } });
}

export async function deleteRule(name: string): Promise<void> {
  await api(pathOf(name), { method: "DELETE" });
}

/** Rules of one's own have a version; shipped ones have none. */
export function isOwn({ version }: RuleDefinition): boolean {
  return version > 0;
}
