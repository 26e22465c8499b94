import { expect, test } from "vitest";
import { Stream, type Handlers } from "./client";
import type { FromWindow, FromWorker, ListDelta, ListSnapshot } from "./types";

const timestamp = "2026-03-10T13:31:00Z";
const snapshot = (sequence: number, fields?: string[]): FromWorker => {
  const content: ListSnapshot = { list: "winners", epoch: 7, sequence, rows: [{ symbol: "A", rank: 1 }], timestamp };
  return { type: "snapshot", snapshot: { ...content, ...(fields && { fields }) } };
};
const delta = (sequence: number): FromWorker => {
  const content: ListDelta = { list: "winners", sequence, deltas: [], timestamp };
  return { type: "delta", delta: content };
};

function opened(): { stream: Stream; sent: FromWindow[]; receive: (message: FromWorker) => void } {
  const sent: FromWindow[] = [];
  let receive: (message: FromWorker) => void = () => {};
  const stream = new Stream((take) => {
    receive = take;
    return { post: (message) => sent.push(message) };
  });
  sent.length = 0;
  return { stream, sent, receive: (message) => receive(message) };
}

function noting(): { handlers: Handlers; noted: (number | string)[] } {
  const noted: (number | string)[] = [];
  const handlers: Handlers = { snapshot: ({ sequence }) => noted.push(`snapshot ${sequence}`), delta: ({ sequence }) => noted.push(sequence) };
  return { handlers, noted };
}

test("the worker is asked for what all subscribers of a list need, and again only for more", () => {
  const { stream, sent } = opened();
  const ends = [["price"], ["price"], ["rvol"], undefined, ["high"]].map((fields) => stream.subscribeList("winners", noting().handlers, fields));
  expect(sent).toEqual([
    { type: "subscribe", list: "winners", fields: ["price"] },
    { type: "subscribe", list: "winners", fields: ["price", "rvol"] },
    { type: "subscribe", list: "winners" },
  ]);
  sent.length = 0;
  for (const end of ends) end();
  expect(sent).toEqual([{ type: "unsubscribe", list: "winners" }]);
  stream.subscribeList("winners", noting().handlers, ["high"]);
  expect(sent.at(-1)).toEqual({ type: "subscribe", list: "winners", fields: ["high"] });
});

test("a subscriber that needs more than is here begins with the snapshot that has it; others go on", () => {
  const { stream, receive } = opened();
  const narrow = noting();
  stream.subscribeList("winners", narrow.handlers, ["price"]);
  receive(snapshot(4, ["price"]));
  const wide = noting();
  stream.subscribeList("winners", wide.handlers, ["price", "halted"]);
  receive(delta(5));
  expect([narrow.noted, wide.noted]).toEqual([["snapshot 4", 5], []]);
  receive(snapshot(6, ["price", "halted"]));
  receive(delta(7));
  expect([narrow.noted, wide.noted]).toEqual([
    ["snapshot 4", 5, "snapshot 6", 7],
    ["snapshot 6", 7],
  ]);
  const late = noting();
  stream.subscribeList("winners", late.handlers, ["halted"]);
  expect(late.noted).toEqual(["snapshot 7"]);
});
