/** The market's pace, where it can be changed: the simulator's, or that of a replayed day (/api/v1/replay). */

import { get, writable, type Readable } from "svelte/store";
import { api } from "../shared/api";
import { newYorkClock, utcSeconds } from "../shared/newyork";
import { poll, type Poll } from "../shared/poll";
import { site } from "../shared/site";
import type { Action } from "../workspace/actions";

/** /api/v1/replay. */
export interface Replay {
  market: "VENDOR" | "SIMULATOR" | "REPLAY";
  date: string;
  now?: string;
  paused: boolean;
  /** Seconds of the market per second; 0 is as fast as the mesh can process. */
  speed: number;
  jumping_to?: string;
  from?: string;
  to?: string;
}

export interface Change {
  paused?: boolean;
  speed?: number;
  jump_to?: string;
}

export interface ReplayView {
  /** null for a live market, and before the first answer. */
  replay: Replay | null;
  /** When it was received, in milliseconds since 1970. */
  received: number;
  error: string;
}

export const SPEEDS = [0.25, 0.5, 1, 2, 5, 10, 30, 60, 0];
const POLL_MS = 2_000;
const JUMP_POLL_MS = 300;
const NOTHING: ReplayView = { replay: null, received: 0, error: "" };

let polling: Poll | undefined;
const view = writable<ReplayView>(NOTHING, () => {
  const end = site.subscribe(($site) => {
    if ($site?.clock === "feed" && !polling) polling = poll(POLL_MS, read, fail);
  });
  return () => {
    end();
    polling?.stop();
    polling = undefined;
  };
});

/** Read while anybody looks at it. */
export const replay: Readable<ReplayView> = view;

function show(found: Replay): number {
  const changeable = found.market !== "VENDOR";
  view.update(({ error }) => ({ replay: changeable ? found : null, received: Date.now(), error }));
  return found.jumping_to ? JUMP_POLL_MS : POLL_MS;
}

async function read(signal: AbortSignal): Promise<number> {
  return show(await api<Replay>("/api/v1/replay", { signal }));
}

function fail(error: string): void {
  view.update((found) => ({ ...found, error: found.replay ? error : "" }));
}

/** Requests a change; its refusal is the view's error until the next one. */
export async function change(body: Change): Promise<void> {
  view.update((found) => ({ ...found, error: "" }));
  try {
    show(await api<Replay>("/api/v1/replay", { method: "POST", body }));
    // The answer of an earlier request would show the state from before.
    polling?.again();
  } catch (error) {
    fail((error as Error).message);
  }
}

/** Returns the market's time in UTC seconds, continued since it was received; NaN before its first event. */
export function marketTime({ replay: found, received }: ReplayView, now: number): number {
  const time = utcSeconds(found?.now);
  if (!found || found.paused || found.jumping_to || found.speed === 0) return time;
  const passed = (Math.min(POLL_MS, Math.max(0, now - received)) / 1000) * found.speed;
  return Math.min(time + passed, Math.max(time, utcSeconds(found.to)));
}

/** Returns the speed before or after this one; 0, without a pace, is the fastest. */
export function nextSpeed(speed: number, step: 1 | -1): number {
  const rank = (value: number): number => (value === 0 ? Infinity : value);
  const [...others] = SPEEDS.filter((each) => (step > 0 ? rank(each) > rank(speed) : rank(each) < rank(speed)));
  return (step > 0 ? others[0] : others.at(-1)) ?? speed;
}

export function speedText(speed: number): string {
  return speed === 0 ? "max" : `${speed}×`;
}

/** Returns the time of day for `jump_to` of a slider's UTC seconds. */
export function jumpText(utc: number): string {
  return newYorkClock(utc, true);
}

export const JUMP_FIELD = "replay-jump";

/** The keys; none for a live market. */
export function replayActions(hasPace: boolean): Action[] {
  if (!hasPace) return [];
  const faster = (step: 1 | -1) => (): void => {
    const speed = get(view).replay?.speed;
    if (speed !== undefined) void change({ speed: nextSpeed(speed, step) });
  };
  return [
    { id: "replay-pause", group: "Market", title: "Replay: pause or continue", keys: ["Alt+p"],
      run: () => void change({ paused: !get(view).replay?.paused }) },
    { id: "replay-faster", group: "Market", title: "Replay: faster", keys: ["Alt+."], run: faster(1) },
    { id: "replay-slower", group: "Market", title: "Replay: slower", keys: ["Alt+,"], run: faster(-1) },
    { id: "replay-jump", group: "Market", title: "Replay: jump to a later time", keys: ["Alt+j"],
      run: () => document.getElementById(JUMP_FIELD)?.focus() },
  ]; // prettier-ignore
}
