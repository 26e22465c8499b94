import { beforeEach, expect, test } from "vitest";
import { Pace, type Drawn } from "./pace";

let now: number;
let pending: ((now: number) => void)[];
let pace: Pace;

beforeEach(() => {
  now = 1_000;
  pending = [];
  pace = new Pace({ requestAnimationFrame: (run) => pending.push(run) });
});

/** A frame, `milliseconds` after the one before. */
function frame(milliseconds: number): void {
  now += milliseconds;
  for (const run of pending.splice(0)) run(now);
}

function made(count: number): { drawn: Drawn[]; noted: string[] } {
  const noted: string[] = [];
  const drawn = Array.from({ length: count }, (_, at) => ({ draw: (isSlow: boolean) => noted.push(`${at}${isSlow ? " slow" : ""}`) }));
  for (const each of drawn) pace.add(each);
  return { drawn, noted };
}

/** Frames in which all of them have changed. */
function busy(drawn: Drawn[], frames: number, milliseconds: number): void {
  for (let count = 0; count < frames; count += 1) {
    for (const each of drawn) pace.request(each);
    frame(milliseconds);
  }
}

test("everything that has changed is drawn once in the next frame, and no frame is asked for without need", () => {
  const { drawn, noted } = made(3);
  for (const at of [2, 0, 2]) pace.request(drawn[at] as Drawn);
  expect(pending).toHaveLength(1);
  frame(17);
  expect(noted).toEqual(["2", "0"]);
  // One frame more, which is measured.
  frame(17);
  expect([noted.length, pending.length]).toEqual([2, 0]);
  pace.request(drawn[1] as Drawn);
  pace.cancel(drawn[1] as Drawn);
  frame(17);
  expect(noted).toHaveLength(2);
});

test("slow frames are drawn in turns, neighbours together, and each one's turn comes", () => {
  const { drawn, noted } = made(8);
  busy(drawn, 40, 60);
  expect(pace.isSlow).toBe(true);
  while (pending.length > 0) frame(20);
  noted.length = 0;
  for (const each of drawn) pace.request(each);
  const turns: string[][] = [];
  while (pending.length > 0) {
    frame(20);
    turns.push(noted.splice(0));
  }
  const numbers = turns.map((turn) => turn.map((each) => Number.parseInt(each)));
  expect(numbers.map((turn) => turn.length)).toEqual([2, 2, 2, 2, 0]);
  expect(numbers.flat().sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  for (const [first = 0, second = 0] of numbers.slice(0, 4)) expect((first + 1) % 8).toBe(second);
  expect(turns.flat().every((each) => each.endsWith("slow"))).toBe(true);
});

test("one that changes always does not keep the others from their turn", () => {
  const { drawn, noted } = made(4);
  busy(drawn, 40, 60);
  noted.length = 0;
  pace.request(drawn[3] as Drawn);
  for (let count = 0; count < 6; count += 1) {
    pace.request(drawn[0] as Drawn);
    frame(20);
  }
  expect(noted).toContain("3 slow");
});

test("a browser is fast again after a minute of fast frames; pauses are no frames", () => {
  const { drawn } = made(4);
  busy(drawn, 40, 60);
  busy(drawn, 100, 17);
  expect(pace.isSlow).toBe(true);
  busy(drawn, 4_000, 17);
  expect(pace.isSlow).toBe(false);
  for (let count = 0; count < 100; count += 1) {
    pace.request(drawn[0] as Drawn);
    frame(5_000);
  }
  expect(pace.isSlow).toBe(false);
});

test("what is removed is not drawn", () => {
  const { drawn, noted } = made(2);
  for (const each of drawn) pace.request(each);
  pace.remove(drawn[0] as Drawn);
  frame(17);
  expect(noted).toEqual(["1"]);
});
