// A native gRPC client in Node, with nothing but the published protos.
//   node node_client.js ADDRESS INCLUDE_DIRECTORY...
// Prints what it saw as one JSON object.
import path from "node:path";

import * as grpc from "@grpc/grpc-js";
import * as protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const [address, ...includeDirs] = process.argv.slice(2);
const options = { keepCase: true, enums: String, oneofs: true, longs: Number, includeDirs };
const { tradeul } = grpc.loadPackageDefinition(protoLoader.loadSync("tradeul/v1/scanner.proto", options));
const scanner = new tradeul.v1.ScannerService(address, grpc.credentials.createInsecure());

const errors = new protobuf.Root();
errors.resolvePath = (_, target) => {
  const known = protobuf.common.get(target);
  if (known) return target;
  return includeDirs.map((each) => path.join(each, target)).find((each) => protobuf.util.fs.existsSync(each)) ?? target;
};
errors.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);

const unary = (method, request) =>
  new Promise((resolve, reject) =>
    scanner[method](request, (error, answer) => (error ? reject(error) : resolve(answer))),
  );

async function refusal(request) {
  try {
    return await unary("GetList", request);
  } catch (error) {
    const [details] = error.metadata.get("grpc-status-details-bin");
    const status = errors.lookupType("google.rpc.Status").decode(details);
    const info = errors.lookupType("google.rpc.ErrorInfo").decode(status.details[0].value);
    return { code: error.code, status: status.code, reason: info.reason, domain: info.domain };
  }
}

// The messages of a stream up to the first delta; `onMessage` may write.
function firstMessages(stream, onMessage = () => {}) {
  return new Promise((resolve, reject) => {
    const kinds = [];
    stream.on("data", (message) => {
      kinds.push(message.response);
      onMessage(message);
      if (message.response === "delta") resolve(kinds);
    });
    // What comes after the first delta, like the end that a cancellation is, changes nothing.
    stream.on("error", reject);
    stream.on("end", () => reject(new Error(`ended after ${kinds}`)));
  });
}

async function watch() {
  const stream = scanner.WatchList({ list: "filtered", min_interval_ms: 10 });
  const kinds = await firstMessages(stream);
  stream.cancel();
  return kinds;
}

// open, an ack for every delta, cancel: the server ends the stream with OK.
async function subscribe() {
  const stream = scanner.SubscribeList();
  const ended = new Promise((resolve) => stream.on("status", resolve));
  stream.write({ open: { list: "filtered" } });
  const kinds = await firstMessages(stream, (message) => {
    // Deltas may come after the cancel; to write then would destroy the stream, which is never told its status.
    if (message.delta && !stream.writableEnded) {
      stream.write({ ack: { position: { epoch: message.delta.epoch, sequence: message.delta.sequence } } });
    }
  });
  stream.end({ cancel: {} });
  const { code } = await ended;
  return { kinds, code };
}

// A mistake in the grammar of streams ends it, saying which. The client's side is closed as well: when a stream ends
// before that, Envoy resets it after the status, and grpc-js then sometimes shows the reset (INTERNAL) instead.
async function repeatedOpen() {
  const stream = scanner.SubscribeList();
  const failed = new Promise((resolve) => stream.on("status", resolve));
  stream.on("error", () => {});
  stream.on("data", () => {});
  stream.write({ open: { list: "filtered" } });
  stream.end({ open: { list: "filtered" } });
  const { code, details } = await failed;
  return { code, details };
}

let stage = "list";
process.on("exit", () => stage && console.error(`ended while it waited for ${stage}`));
const at = (name, waited) => {
  stage = name;
  return waited();
};

const list = await unary("GetList", { list: "filtered", limit: 3 });
const seen = {
  list: { list: list.list, count: list.count, ranks: list.rows.map((row) => row.rank), sessions: list.rows.map((row) => row.session) },
  watch: await at("watch", watch),
  subscribe: await at("subscribe", subscribe),
  repeated_open: await at("repeated_open", repeatedOpen),
  refusal: await at("refusal", () => refusal({ list: "gapers_up" })),
};
stage = "";
scanner.close();
process.stdout.write(`${JSON.stringify(seen)}\n`);
