import { expect, test } from "vitest";
import type { Alert } from "../stream/types";
import { merged } from "./log";

const alert = (epoch: number, sequence: number): Alert => ({
  epoch, sequence, rule: "halt", symbol: "A", time: "2026-03-10T13:31:00Z", text: "", row: {},
}); // prettier-ignore
const positions = (alerts: readonly Alert[]): string[] => alerts.map(({ epoch, sequence }) => `${epoch}/${sequence}`);

test("alerts of a page and of the stream are together, newest first, each once", () => {
  const page = [alert(7, 4), alert(7, 3)];
  expect(positions(merged([alert(7, 5), alert(7, 4)], page))).toEqual(["7/5", "7/4", "7/3"]);
  expect(positions(merged(page, [alert(7, 5)]))).toEqual(["7/5", "7/4", "7/3"]);
});

test("a later epoch is newer whatever its numbers are", () => {
  expect(positions(merged([alert(7, 900)], [alert(8, 1)]))).toEqual(["8/1", "7/900"]);
});

test("the newest stay", () => {
  expect(positions(merged([alert(7, 3), alert(7, 1)], [alert(7, 2)], 2))).toEqual(["7/3", "7/2"]);
});
