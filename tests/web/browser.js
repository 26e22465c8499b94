// A browser's client, made from the published protos: what the page of tests/e2e/test_javascript_clients.py runs.
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { MarketSessionService } from "./gen/tradeul/v1/market_session_pb.js";
import { ListChange_Action as Action, ScannerService } from "./gen/tradeul/v1/scanner_pb.js";
import { Session } from "./gen/tradeul/v1/session_pb.js";

const client = (service, baseUrl) => createClient(service, createGrpcWebTransport({ baseUrl }));
const place = ({ epoch, sequence }) => `${epoch}/${sequence}`;
const shown = (row) => [row.rank, row.symbol, row.price, row.volumeToday];

export async function getList(baseUrl, list, limit) {
  const answer = await client(ScannerService, baseUrl).getList({ list, limit });
  return { list: answer.list, count: answer.count, rows: answer.rows.map(shown) };
}

export async function session(baseUrl) {
  const answer = await client(MarketSessionService, baseUrl).getCurrentSession({});
  return { session: Session[answer.currentSession], date: answer.tradingDate };
}

export async function refusal(baseUrl, list) {
  try {
    await client(ScannerService, baseUrl).getList({ list });
  } catch (error) {
    const refused = ConnectError.from(error);
    const [info] = refused.findDetails(ErrorInfoSchema);
    return { code: refused.code, reason: info?.reason, metadata: info?.metadata };
  }
}

// As docs/protocol.md says: snapshot, then every delta onto the sequence before it.
function apply(copy, response) {
  const { case: kind, value } = response;
  if (kind === "snapshot") {
    Object.assign(copy, { epoch: value.epoch, sequence: value.sequence });
    copy.rows = new Map(value.rows.map((row) => [row.symbol, row]));
  } else if (kind === "delta") {
    if (value.previousSequence !== copy.sequence) throw new Error(`a hole before ${value.sequence}`);
    for (const change of value.deltas) {
      if (change.action === Action.REMOVE) copy.rows.delete(change.symbol);
      else if (change.action === Action.RERANK) copy.rows.get(change.symbol).rank = change.newRank;
      else copy.rows.set(change.symbol, change.data);
    }
    copy.sequence = value.sequence;
  }
}

// Follows a list until the copy was equal to the list asked for at the same position so many times.
export async function follow(baseUrl, list, matches) {
  const scanner = client(ScannerService, baseUrl);
  const copy = { rows: new Map() };
  const kinds = [];
  const stop = new AbortController();
  let matched = 0;
  for await (const { response } of scanner.watchList({ list }, { signal: stop.signal })) {
    if (kinds.at(-1) !== response.case) kinds.push(response.case);
    apply(copy, response);
    if (response.case !== "delta") continue;
    const answer = await scanner.getList({ list });
    if (place(answer) !== place(copy)) continue;
    const mine = [...copy.rows.values()].sort((a, b) => a.rank - b.rank).map(shown);
    if (JSON.stringify(mine) !== JSON.stringify(answer.rows.map(shown))) throw new Error("the copy is not the list");
    if (++matched === matches) break;
  }
  stop.abort();
  return { kinds: kinds.slice(0, 4), matched, rows: copy.rows.size };
}

// Follows a list with an EventSource; what it has received so far is in window.received. `holes` are changes it missed.
export function keepFollowing(url) {
  const received = { kinds: [], ids: [], holes: [], errors: 0, sequence: null };
  window.received = received;
  const source = new EventSource(url);
  source.onmessage = ({ data, lastEventId }) => {
    const [[kind, message]] = Object.entries(JSON.parse(data));
    received.kinds.push(kind);
    if (kind !== "snapshot" && kind !== "delta") return;
    if (kind === "delta" && message.previous_sequence !== received.sequence) {
      received.holes.push([received.sequence, message.previous_sequence]);
    }
    received.sequence = message.sequence;
    received.ids.push(lastEventId === `${message.epoch}/${message.sequence}`);
  };
  source.onerror = () => {
    received.errors += 1;
    if (source.readyState === EventSource.CLOSED) received.kinds.push("given up");
  };
}

// The same list as server-sent events: the kinds of the first ones.
export function events(url, count) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(url);
    const kinds = [];
    source.onmessage = ({ data }) => {
      kinds.push(Object.keys(JSON.parse(data))[0]);
      if (kinds.length === count) {
        source.close();
        resolve(kinds);
      }
    };
    source.onerror = () => {
      source.close();
      reject(new Error("the stream was refused or broke"));
    };
  });
}
