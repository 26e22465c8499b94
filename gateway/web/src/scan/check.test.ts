import { expect, test } from "vitest";
import { ApiError } from "../shared/api";
import { check, type Query } from "./check";

const SCAN = { filter: 'symbol = "\u{1F680}" AND rvoll > 2', order_by: "price" };
const { signal } = new AbortController();
const refusal = (status: number, reason: string, metadata: Record<string, string> = {}): Query => () =>
  Promise.reject(new ApiError(status, reason, `unknown field 'rvoll' at position 17; did you mean "rvol"?`, metadata));

test("the number of matches is asked for with one field, and open-ended at the limit", async () => {
  const bodies: object[] = [];
  const answer = (count: number): Query => (body) => {
    bodies.push(body);
    return Promise.resolve({ count });
  };
  expect(await check(SCAN, answer(48), signal)).toEqual({ kind: "matches", count: 48, isAtLeast: false });
  expect(await check(SCAN, answer(500), signal)).toEqual({ kind: "matches", count: 500, isAtLeast: true });
  expect(bodies[0]).toEqual({ ...SCAN, limit: 500, fields: "symbol" });
});

test("a mistake has its place, and what was probably meant", async () => {
  expect(await check(SCAN, refusal(400, "INVALID_FILTER", { position: "17", suggestion: "rvol" }), signal)).toEqual({
    kind: "mistake",
    // The character before it takes two units of the string.
    mistake: { part: "filter", message: `unknown field 'rvoll'; did you mean "rvol"?`, index: 18, suggestion: "rvol" },
  });
  expect(await check(SCAN, refusal(400, "INVALID_ORDER", { position: "0" }), signal)).toMatchObject({
    mistake: { part: "order_by", index: 0, suggestion: "" },
  });
  expect(await check(SCAN, refusal(400, "SCAN_TOO_COSTLY"), signal)).toMatchObject({ mistake: { part: "scan", index: -1 } });
});

test("without an answer nothing is known; what is not the API's is not hidden", async () => {
  expect(await check(SCAN, refusal(503, "NOT_READY"), signal)).toMatchObject({ kind: "unknown" });
  await expect(check(SCAN, () => Promise.reject(new DOMException("ended", "AbortError")), signal)).rejects.toThrow("ended");
});
