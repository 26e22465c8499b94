"""Subscriptions to the market's messages: the vendor's WebSocket protocol without the sockets.

Each kind's messages are joined once for all who take them all; only for
subscribers of single symbols are they filtered.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import msgspec

from services.simulator.messages import Kind
from services.simulator.tape import Event

# A frame holds at most so many events.
FRAME_EVENTS: Final = 2_000
# Unsent bytes after which a client is too slow, as the vendor's.
MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
MAX_SUBSCRIPTIONS: Final = 50_000


def status(kind: str, message: str) -> str:
    """One status object."""
    return msgspec.json.encode({"ev": "status", "status": kind, "message": message}).decode()


class FeedClient:
    """One connection's state. `send(text)` queues a frame, `close(reason)` ends it.

    `unsent()` returns the number of queued bytes.
    """

    def __init__(
        self, send: Callable[[str], None], close: Callable[[str], None], unsent: Callable[[], int] = lambda: 0
    ) -> None:
        self.send = send
        self.close = close
        self.unsent = unsent
        self.key = ""
        self.everything: set[Kind] = set()
        self.symbols: dict[Kind, set[str]] = {}

    @property
    def wants_quotes(self) -> bool:
        return Kind.Q in self.everything or bool(self.symbols.get(Kind.Q))


class Feed:
    """All clients. The server calls `connected`, `received` and `gone`, the market `publish`.

    `channels`: those of the simulated plan; the others are refused as the vendor does.
    """

    def __init__(self, tickers: list[str], channels: Collection[str] = tuple(Kind.__members__)) -> None:
        self.clients: dict[str, FeedClient] = {}
        self.slow = 0
        self._tickers = tickers
        self._channels = frozenset(channels)

    @property
    def wants_quotes(self) -> bool:
        return any(client.wants_quotes for client in self.clients.values())

    @property
    def unsent(self) -> int:
        """Bytes that the slowest client has yet to read."""
        return max((client.unsent() for client in self.clients.values()), default=0)

    def connected(self, client: FeedClient) -> None:
        client.send(f"[{status('connected', 'Connected Successfully')}]")

    def gone(self, client: FeedClient) -> None:
        if self.clients.get(client.key) is client:
            del self.clients[client.key]

    def received(self, client: FeedClient, text: "str | bytes") -> None:
        """One message of a client's."""
        try:
            message: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = None
        action, params = (message.get("action"), message.get("params")) if isinstance(message, dict) else (None, None)
        if not isinstance(params, str):
            client.send(f"[{status('error', 'expected {action, params}')}]")
        elif action == "auth":
            self._log_in(client, params)
        elif not client.key:
            client.send(f"[{status('error', 'expected auth first')}]")
        elif action in ("subscribe", "unsubscribe"):
            answers = [self._change(client, name.strip(), action) for name in params.split(",") if name.strip()]
            client.send("[" + ",".join(answers or [status("error", "expected at least one subscription")]) + "]")
        else:
            client.send(f"[{status('error', f'expected auth, subscribe or unsubscribe, was {action}')}]")

    def publish(self, events: list[Event]) -> None:
        """Sends the events, which are in order."""
        clients = list(self.clients.values())
        if not clients or not events:
            return
        by_kind: dict[Kind, list[Event]] = {}
        for event in events:
            by_kind.setdefault(event.kind, []).append(event)
        for kind, of_kind in by_kind.items():
            frames: list[str] | None = None
            for client in clients:
                if kind in client.everything:
                    if frames is None:
                        frames = list(_frames(event.text for event in of_kind))
                    self._send(client, frames)
                elif wanted := client.symbols.get(kind):
                    tickers = self._tickers
                    self._send(client, _frames(event.text for event in of_kind if tickers[event.symbol] in wanted))

    def _send(self, client: FeedClient, frames: Iterable[str]) -> None:
        for frame in frames:
            if client.unsent() > MAX_UNSENT_BYTES:
                self.slow += 1
                self.gone(client)
                client.close("slow_consumer")
                return
            client.send(frame)

    def _log_in(self, client: FeedClient, key: str) -> None:
        if client.key:
            client.send(f"[{status('error', 'already authenticated')}]")
            return
        if not key.strip():
            client.send(f"[{status('auth_failed', 'authentication failed')}]")
            client.close("auth_failed")
            return
        older = self.clients.pop(key, None)
        client.key = key
        self.clients[key] = client
        if older is not None:
            older.send(f"[{status('max_connections', 'Maximum number of connections exceeded.')}]")
            older.close("max_connections")
        client.send(f"[{status('auth_success', 'authenticated')}]")

    def _change(self, client: FeedClient, name: str, action: str) -> str:
        channel, dot, symbol = name.partition(".")
        if not dot and channel in Kind.__members__:
            symbol = "*"
        if channel not in Kind.__members__ or not symbol:
            return status("error", f"expected T, A, AM, LULD or Q with a symbol or *, was {name}")
        if action == "subscribe" and channel not in self._channels:
            return status("error", f"not authorized to subscribe to {channel}.{symbol}")
        kind = Kind[channel]
        wanted = client.symbols.setdefault(kind, set())
        if action == "subscribe":
            if symbol == "*":
                client.everything.add(kind)
            elif len(wanted) >= MAX_SUBSCRIPTIONS:
                return status("error", f"expected at most {MAX_SUBSCRIPTIONS} symbols of {channel}")
            else:
                wanted.add(symbol)
            return status("success", f"subscribed to: {channel}.{symbol}")
        if symbol == "*":
            client.everything.discard(kind)
            wanted.clear()
        else:
            wanted.discard(symbol)
        return status("success", f"unsubscribed to: {channel}.{symbol}")


def _frames(texts: Iterable[str]) -> Iterable[str]:
    whole = list(texts)
    for first in range(0, len(whole), FRAME_EVENTS):
        yield "[" + ",".join(whole[first : first + FRAME_EVENTS]) + "]"
