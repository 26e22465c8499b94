/** Announces the alerts of chosen rules, whether a panel shows them or not. */

import { get } from "svelte/store";
import { exclusionList } from "../scan/own_scans";
import { Gather } from "../shared/gather";
import type { Stream } from "../stream/client";
import type { Alert } from "../stream/types";
import { alertWays, type AlertWays } from "./alert_rules";
import { MOST_SINGLE, spelled, TOGETHER_MS, type Outputs, type Tone } from "./announce";
import { isQuiet, preferences } from "./rules";

const TONES: Record<string, Tone> = { halt: "halt", resume: "resume" };

export class AlertNotifier {
  private isLeading = false;
  private readonly gather = new Gather<Alert>(TOGETHER_MS, (alerts) => this.announce(alerts));
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
    this.gather.stop();
  }

  private take(alert: Alert): void {
    if (!get(alertWays)[alert.rule] || get(exclusionList).includes(alert.symbol)) return;
    this.gather.add(alert);
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
