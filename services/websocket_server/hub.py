"""All clients and all lists of this process, and who looks after them."""

import asyncio
from collections.abc import Sequence
from typing import Final

from services.kit.runtime.clock import wall_ns
from services.kit.runtime.logging import get_logger
from services.websocket_server import messages, metrics
from services.websocket_server.channel import ListChannel, OpenUpstream
from services.websocket_server.client import Client
from services.websocket_server.limits import Limits

log = get_logger(__name__)

CHECK_SECONDS: Final = 1.0
GOING_AWAY: Final = 1001
GOING_AWAY_NOTICE: Final = "the server is about to stop: connect again with your positions"
# A list may be without the scanner for so long before we say that we can't do our work.
TROUBLE_SECONDS: Final = 5.0


class ClientHub:
    """`lists`: the names that can be subscribed to. `open_upstream`: see ListChannel."""

    def __init__(
        self,
        lists: Sequence[str],
        limits: Limits,
        open_upstream: OpenUpstream,
    ) -> None:
        self.lists = tuple(lists)
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.clients: set[Client] = set()
        # Those whose closing handshake is under way.
        self.closing: set[Client] = set()
        self.is_closing = False
        self._channels = {name: ListChannel(name, limits, open_upstream) for name in lists}
        self._blocked: set[Client] = set()

    def channel(self, name: str) -> ListChannel:
        """Raises KeyError for no list."""
        return self._channels[name]

    @property
    def slow_clients(self) -> int:
        """Those whose buffers are full."""
        return len(self._blocked)

    @property
    def is_full(self) -> bool:
        return len(self.clients) >= self.limits.clients

    @property
    def problem(self) -> str:
        """Why a list that somebody watches has not been current for a while; "" when all are."""
        now = self.loop.time()
        for channel in self._channels.values():
            if channel.problem and now - channel.problem_since >= TROUBLE_SECONDS:
                return channel.problem
        return ""

    # --- aggregates

    @property
    def is_watched(self) -> bool:
        """Whether anybody is subscribed to anything."""
        return any(channel.subscribers for channel in self._channels.values())

    def is_listed(self, symbol: bytes) -> bool:
        """Whether a symbol (as JSON) is in a list that somebody watches."""
        return any(channel.subscribers and channel.feed.holds(symbol) for channel in self._channels.values())

    def show(self, aggregates: dict[bytes, bytes]) -> None:
        """Writes to each client, as one piece, the framed aggregates of the symbols in its lists.

        Who cannot take more now goes without: the next ones say more.
        """
        pieces: dict[frozenset[str], tuple[int, bytes]] = {}
        for client in list(self.clients):
            if client.is_blocked or not client.subscriptions:
                continue
            names = frozenset(client.subscriptions)
            if (piece := pieces.get(names)) is None:
                piece = pieces[names] = self._piece(names, aggregates)
            count, frames = piece
            if count:
                metrics.sent("aggregate", count, len(frames))
                client.write(frames)

    def _piece(self, names: frozenset[str], aggregates: dict[bytes, bytes]) -> tuple[int, bytes]:
        feeds = [self._channels[name].feed for name in names]
        frames = [frame for symbol, frame in aggregates.items() if any(feed.holds(symbol) for feed in feeds)]
        return len(frames), b"".join(frames)

    # --- what the clients report

    def joined(self, client: Client) -> None:
        self.clients.add(client)
        metrics.CLIENTS.inc()
        frames = messages.connected(client.connection_id, self.lists, wall_ns())
        metrics.sent("connected", 1, len(frames))
        client.write(frames)
        if self.is_closing:
            self._send_away(client)

    def left(self, client: Client) -> None:
        """It is closing or gone; may be said twice."""
        if client not in self.clients:
            return
        self.clients.discard(client)
        metrics.CLIENTS.dec()
        self.unblocked(client)
        for subscription in client.subscriptions.values():
            subscription.channel.unsubscribe(subscription)
        client.subscriptions.clear()

    def blocked(self, client: Client) -> None:
        self._blocked.add(client)
        metrics.SLOW.inc()
        metrics.SLOW_EVENTS.inc()

    def unblocked(self, client: Client) -> None:
        if client in self._blocked:
            self._blocked.discard(client)
            metrics.SLOW.dec()

    # --- what the service does

    async def look_after(self) -> None:
        """Closes clients that do not read and asks quiet ones for a sign of life; until cancelled."""
        while True:
            await asyncio.sleep(min(CHECK_SECONDS, self.limits.stall_seconds / 4, self.limits.ping_after_seconds / 4))
            now = self.loop.time()
            for client in list(self.clients):
                client.check(now)

    def go_away(self) -> None:
        """Tells every client that we stop, and closes its connection."""
        self.is_closing = True
        log.info("clients are sent away", clients=len(self.clients))
        for client in list(self.clients):
            self._send_away(client)

    def close(self) -> None:
        """Stops following lists."""
        for channel in self._channels.values():
            channel.close()

    def _send_away(self, client: Client) -> None:
        client.notify(messages.error(GOING_AWAY_NOTICE))
        client.close(GOING_AWAY, GOING_AWAY_NOTICE)
