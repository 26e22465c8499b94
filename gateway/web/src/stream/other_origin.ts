/**
 * On a page of another origin than the gateway's: a connection of the page's own, because a browser starts no worker of
 * another origin. To be imported before anything opens the stream.
 */

import { Stream, useStream } from "./client";
import { browserNetwork, Hub, type Port } from "./hub";
import type { FromWindow } from "./types";

const gateway = new URL(import.meta.url).origin;

if (gateway !== location.origin) {
  const connected = new Stream((take) => {
    const hub = new Hub(browserNetwork(gateway));
    const port: Port = { postMessage: take };
    hub.add(port);
    // Nobody shares this connection, so that no lock has to tell when the window ends.
    return { post: (message: FromWindow) => void (message.type !== "lock" && hub.take(port, message)) };
  });
  useStream(connected);
}
