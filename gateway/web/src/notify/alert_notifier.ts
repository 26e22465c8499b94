/** Announces the alerts of chosen rules, whether a panel shows them or not. */

import { get } from "svelte/store";
import { exclusionList } from "../scan/own_scans";
import type { Stream } from "../stream/client";
import type { Alert } from "../stream/types";
import { alertWays, type AlertWays } from "./alert_rules";
import { spelled, type Outputs } from "./announce";
import { isQuiet, preferences } from "./rules";
import type { Tone } from "./tones";

/** What happens within this time is announced together. */
const TOGETHER_MS = 300;
/** More alerts of one rule at once are announced as a number. */
const MOST_SINGLE = 3;

const TONES: Record<string, Tone> = { halt: "halt", resume: "resume" };

export class AlertNotifier {
  private isLeading = false;
  private waiting: Alert[] = [];
  private timer = 0;
  private end: (() => void) | null = null;
  private readonly endWatching: () => void;

  constructor(
    private readonly stream: Pick<Stream, "subscribeAlerts">,
    private readonly outputs: Outputs,
    private readonly now: () => number = () => Date.now(),
  ) {
    this.endWatching = alertWays.subscribe(() => this.update());
  }

  /** Begins or ends announcing in this window. */
  lead(isLeading: boolean): void {
    this.isLeading = isLeading;
    this.update();
  }

  stop(): void {
    this.endWatching();
    this.lead(false);
  }

  private update(): void {
    const isWanted = this.isLeading && Object.keys(get(alertWays)).length > 0;
    if (isWanted) {
      this.end ??= this.stream.subscribeAlerts({ alert: (alert) => this.take(alert) });
      return;
    }
    this.end?.();
    this.end = null;
    clearTimeout(this.timer);
    this.timer = 0;
    this.waiting = [];
  }

  private take(alert: Alert): void {
    if (!get(alertWays)[alert.rule] || get(exclusionList).includes(alert.symbol)) return;
    this.waiting.push(alert);
    if (this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      const together = this.waiting;
      this.waiting = [];
      this.announce(together);
    }, TOGETHER_MS) as unknown as number;
  }

  private announce(alerts: readonly Alert[]): void {
    const { quiet, volume } = get(preferences);
    if (isQuiet(quiet, new Date(this.now()))) return;
    const tones = new Set<Tone>();
    for (const [rule, ways] of Object.entries(get(alertWays))) {
      const same = alerts.filter((alert) => alert.rule === rule);
      if (same.length === 0) continue;
      if (ways.sound) tones.add(TONES[rule] ?? "alert");
      this.announceRule(rule, ways, same, volume);
    }
    // One tone, and a halt's before any other.
    const tone = (["halt", "resume", "alert"] as const).find((each) => tones.has(each));
    if (tone) this.outputs.sound(tone, volume);
  }

  private announceRule(rule: string, { title, speech, desktop }: AlertWays, alerts: readonly Alert[], volume: number): void {
    if (alerts.length > MOST_SINGLE) {
      const symbols = alerts.map(({ symbol }) => symbol);
      if (speech) this.outputs.speak(`${alerts.length} symbols: ${title}`, volume);
      if (desktop) this.outputs.desktop(`${alerts.length} symbols: ${title}`, symbols.join(", "), `alert ${rule}`, symbols[0] as string);
      return;
    }
    for (const { symbol, text } of alerts) {
      if (speech) this.outputs.speak(`${spelled(symbol)}, ${title}`, volume);
      if (desktop) this.outputs.desktop(`${symbol}: ${title}`, text, `alert ${rule} ${symbol}`, symbol);
    }
  }
}
