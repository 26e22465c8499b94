// The peer: a minimal Node server with the npm package `ws` that sends each line
// of its standard input to everybody who has subscribed. Encoded once, as a Buffer.
import { createInterface } from "node:readline";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const subscribers = new Set();
let snapshot = null;

const server = createServer((request, response) => response.end("{}"));
const sockets = new WebSocketServer({ server, path: "/ws/scanner", perMessageDeflate: false, maxPayload: 4096 });
sockets.on("connection", (socket) => {
  socket.send('{"type":"connected","connection_id":"peer"}');
  socket.on("message", (data) => {
    const { action, list } = JSON.parse(data);
    if (action !== "subscribe_list") return;
    socket.send(JSON.stringify({ type: "subscribed_list", list }));
    socket.send(snapshot, { binary: false });
    subscribers.add(socket);
  });
  socket.on("close", () => subscribers.delete(socket));
});

createInterface({ input: process.stdin, crlfDelay: Infinity }).on("line", (line) => {
  const data = Buffer.from(line);
  if (line.startsWith('{"type":"snapshot"')) {
    snapshot = data;
    return;
  }
  for (const socket of subscribers) socket.send(data, { binary: false });
});

server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => console.log(server.address().port));
