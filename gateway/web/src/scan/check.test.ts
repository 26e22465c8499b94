import { expect, test } from "vitest";
import { ApiError } from "../shared/api";
import { check, type ScanCheck, type Send } from "./check";

const SCAN = { filter: 'symbol = "\u{1F680}" AND rvoll > 2', order_by: "price" };
const { signal } = new AbortController();
const answering = (answer: ScanCheck): Send => () => Promise.resolve(answer);
const mistaken = (reason: string, more: { position?: number; suggestion?: string } = {}): Send =>
  answering({ mistake: { reason, message: `unknown field 'rvoll' at position 17; did you mean "rvol"?`, ...more } });

test("the number of matches is asked for with both texts and nothing else", async () => {
  const bodies: object[] = [];
  const send: Send = (body) => {
    bodies.push(body);
    return Promise.resolve({ matches: 4800 });
  };
  expect(await check({ ...SCAN, ...{ title: "mine" } }, send, signal)).toEqual({ kind: "matches", count: 4800 });
  expect(bodies).toEqual([SCAN]);
});

test("a mistake has its place, and what was probably meant", async () => {
  expect(await check(SCAN, mistaken("INVALID_FILTER", { position: 17, suggestion: "rvol" }), signal)).toEqual({
    kind: "mistake",
    // The character before it takes two units of the string.
    mistake: { part: "filter", message: `unknown field 'rvoll'; did you mean "rvol"?`, index: 18, suggestion: "rvol" },
  });
  expect(await check(SCAN, mistaken("INVALID_ORDER", { position: 0 }), signal)).toMatchObject({
    mistake: { part: "order_by", index: 0, suggestion: "" },
  });
  expect(await check(SCAN, mistaken("SCAN_TOO_COSTLY"), signal)).toMatchObject({ mistake: { part: "scan", index: -1 } });
});

test("without an answer nothing is known; what is not the API's is not hidden", async () => {
  const refused: Send = () => Promise.reject(new ApiError(503, "NOT_READY", "not yet"));
  expect(await check(SCAN, refused, signal)).toEqual({ kind: "unknown", message: "not yet" });
  await expect(check(SCAN, () => Promise.reject(new DOMException("ended", "AbortError")), signal)).rejects.toThrow("ended");
});
