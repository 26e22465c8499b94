/** Sound, speech and desktop notifications of the browser, and what it permits. */

import { writable, type Readable } from "svelte/store";
import type { Outputs, Tone } from "./announce";

/** Tones as frequency in Hz, start and length in seconds: rising for good news, falling for leaving, low for a halt. */
const TONES: Record<Tone, [number, number, number][]> = {
  enter: [
    [660, 0, 0.09],
    [880, 0.09, 0.14],
  ],
  leave: [
    [660, 0, 0.09],
    [440, 0.09, 0.14],
  ],
  high: [[1320, 0, 0.12]],
  alert: [
    [990, 0, 0.09],
    [1320, 0.11, 0.16],
  ],
  halt: [
    [220, 0, 0.18],
    [220, 0.24, 0.18],
    [220, 0.48, 0.24],
  ],
  resume: [
    [440, 0, 0.1],
    [550, 0.1, 0.1],
    [660, 0.2, 0.2],
  ],
};
/** A voice that is behind by so many sentences is late: what it has not begun is dropped. */
const MOST_WAITING = 4;

let context: AudioContext | null = null;
let waiting = 0;

const { subscribe, set } = writable(false);
/** False until the page may make sounds: browsers wait for a click or a key in it. */
export const isSoundAllowed: Readable<boolean> = { subscribe };

function audio(): AudioContext | null {
  if (typeof AudioContext === "undefined") return null;
  if (!context) {
    context = new AudioContext();
    const opened = context;
    opened.onstatechange = () => set(opened.state === "running");
    set(opened.state === "running");
  }
  return context;
}

/** Makes sounds possible; has an effect within a click or a press of a key. */
export async function allowSound(): Promise<void> {
  await audio()?.resume();
}

/** Plays the kind's tones; returns false if the browser does not allow it yet. */
function play(kind: Tone, volume: number): boolean {
  const opened = audio();
  if (!opened || opened.state !== "running") return false;
  const master = opened.createGain();
  // Loudness is heard in powers.
  master.gain.value = volume ** 2 * 0.5;
  master.connect(opened.destination);
  const start = opened.currentTime + 0.01;
  for (const [frequency, at, length] of TONES[kind]) {
    const tone = opened.createOscillator();
    const shape = opened.createGain();
    tone.frequency.value = frequency;
    tone.type = kind === "halt" ? "square" : "sine";
    // Without an attack and a release there is a click.
    shape.gain.setValueAtTime(0, start + at);
    shape.gain.linearRampToValueAtTime(1, start + at + 0.01);
    shape.gain.exponentialRampToValueAtTime(0.001, start + at + length);
    tone.connect(shape).connect(master);
    tone.start(start + at);
    tone.stop(start + at + length + 0.02);
  }
  return true;
}

export function canSpeak(): boolean {
  return typeof speechSynthesis !== "undefined" && typeof SpeechSynthesisUtterance !== "undefined";
}

function speak(text: string, volume: number): void {
  if (!canSpeak()) return;
  if (waiting >= MOST_WAITING) {
    speechSynthesis.cancel();
    waiting = 0;
  }
  const utterance = new SpeechSynthesisUtterance(text);
  utterance.lang = "en-US";
  utterance.volume = volume;
  utterance.rate = 1.15;
  waiting += 1;
  utterance.onend = utterance.onerror = () => (waiting = Math.max(0, waiting - 1));
  speechSynthesis.speak(utterance);
}

export type Permission = "granted" | "denied" | "default" | "unsupported";

/** What the browser permits of desktop notifications. Pages that are not from this computer need HTTPS. */
export function desktopPermission(): Permission {
  return typeof Notification === "undefined" || !isSecureContext ? "unsupported" : Notification.permission;
}

/** Has the browser ask its user; only within a click. */
export async function requestDesktop(): Promise<Permission> {
  if (desktopPermission() === "default") await Notification.requestPermission();
  return desktopPermission();
}

/** Returns outputs; `onclick` gets the symbol of a clicked notification. */
export function browserOutputs(onclick: (symbol: string) => void): Outputs {
  return {
    sound: (kind, volume) => void play(kind, volume),
    speak,
    desktop(title, body, tag, symbol) {
      if (desktopPermission() !== "granted") return;
      try {
        const notification = new Notification(title, { body, tag, silent: true });
        notification.onclick = () => {
          window.focus();
          onclick(symbol);
          notification.close();
        };
      } catch {
        // Phones allow them to service workers only.
      }
    },
  };
}
