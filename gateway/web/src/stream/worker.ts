/** The worker that holds the connection: shared by all windows of the origin, or a window's own where it cannot be. */

import { browserNetwork, Hub, type Port } from "./hub";
import type { FromWindow } from "./types";

const hub = new Hub(browserNetwork(self.location.origin));

function serve(port: MessagePort | Port): void {
  hub.add(port as Port);
  (port as MessagePort).onmessage = ({ data }: MessageEvent<FromWindow>) => {
    if (data.type !== "lock") hub.take(port as Port, data);
    // A window that ends without a word, as by a crash, gives back its lock.
    else void navigator.locks.request(data.lock, () => hub.remove(port as Port));
  };
}

if ("onconnect" in self) {
  self.onconnect = (event: MessageEvent) => {
    for (const port of event.ports) serve(port);
  };
} else {
  serve(self as unknown as MessagePort);
}
