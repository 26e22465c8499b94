/** Follows what is to be announced, lists and alerts, whether a panel shows it or not. Of all windows, one announces. */

import { get } from "svelte/store";
import { exclusionList, watchList } from "../scan/own_scans";
import { follow } from "../scan/source";
import { Gather } from "../shared/gather";
import type { Stream } from "../stream/client";
import { AlertNotifier } from "./alert_notifier";
import { Announcer, TOGETHER_MS, type Outputs } from "./announce";
import { Detector, type Notice } from "./detect";
import { isActive, preferences, rules, type Rule } from "./rules";
import { allowSound } from "./outputs";

const LOCK = "tradeul-notify";

class Followed {
  private readonly detector: Detector;
  private readonly gather: Gather<Notice>;
  private readonly end: () => void;

  constructor(
    readonly rule: Rule,
    watched: readonly string[],
    stream: Stream,
    announce: (notices: readonly Notice[]) => void,
  ) {
    this.detector = new Detector("list" in rule.source && rule.source.list === "halts");
    this.gather = new Gather(TOGETHER_MS, announce);
    this.end = follow(stream, rule.source, watched, {
      snapshot: (snapshot) => this.gather.add(...this.detector.snapshot(snapshot)),
      delta: (delta) => this.gather.add(...this.detector.delta(delta)),
    });
  }

  stop(): void {
    this.gather.stop();
    this.end();
  }
}

export class Notifier {
  private readonly followed = new Map<string, Followed>();
  private readonly announcer: Announcer;
  private readonly alerts: AlertNotifier;
  private isLeading = false;
  private readonly endings: (() => void)[];

  constructor(
    private readonly stream: Stream,
    outputs: Outputs,
    now: () => number = () => Date.now(),
  ) {
    this.announcer = new Announcer(outputs, now);
    this.alerts = new AlertNotifier(stream, outputs, now);
    this.endings = [rules.subscribe(() => this.update()), watchList.subscribe(() => this.update())];
  }

  /** Begins or ends announcing in this window. */
  lead(isLeading: boolean): void {
    this.isLeading = isLeading;
    this.alerts.lead(isLeading);
    this.update();
  }

  stop(): void {
    for (const end of this.endings) end();
    this.alerts.stop();
    this.lead(false);
  }

  private update(): void {
    const wanted = this.isLeading ? Object.entries(get(rules)).filter(([, rule]) => isActive(rule)) : [];
    const watched = get(watchList);
    const keyed = new Map(wanted.map(([key, rule]) => [`${key}\n${JSON.stringify("watch" in rule.source ? watched : rule.source)}`, [key, rule] as const]));
    for (const [id, followed] of this.followed) {
      if (keyed.has(id)) continue;
      followed.stop();
      this.followed.delete(id);
    }
    for (const [id, [key, rule]] of keyed) {
      if (this.followed.has(id)) continue;
      this.followed.set(id, new Followed(rule, watched, this.stream, (notices) => this.announce(key, notices)));
    }
  }

  private announce(key: string, notices: readonly Notice[]): void {
    const rule = get(rules)[key];
    if (rule) this.announcer.announce(key, rule, notices, new Set(get(exclusionList)), get(preferences));
  }
}

/** Starts announcing in one of the windows: the one that was last touched first, as only that may make sounds. */
export function startNotifier(stream: Stream, outputs: Outputs): Notifier {
  const notifier = new Notifier(stream, outputs);
  if (!("locks" in navigator)) {
    notifier.lead(true);
    window.addEventListener("pointerdown", () => void allowSound(), { once: true });
    return notifier;
  }
  let held = 0;
  const lead = (steal: boolean): void => {
    const hold = (): Promise<void> => {
      held += 1;
      notifier.lead(true);
      return new Promise(() => {});
    };
    navigator.locks.request(LOCK, steal ? { steal } : {}, hold).catch(() => {
      held -= 1;
      if (held > 0) return;
      // Another window has taken it over: this one waits until that one ends.
      notifier.lead(false);
      lead(false);
    });
  };
  lead(false);
  const touched = (): void => {
    window.removeEventListener("pointerdown", touched);
    window.removeEventListener("keydown", touched);
    void allowSound();
    lead(true);
  };
  window.addEventListener("pointerdown", touched);
  window.addEventListener("keydown", touched);
  return notifier;
}
