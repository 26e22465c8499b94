"""All clients and all lists of this process."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from services.kit.rpc.key_streams import KeyStreams, RequestKey
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.errors import INVALID_KEY, ServiceError
from services.kit.runtime.logging import get_logger
from services.websocket_server import client_messages, metrics
from services.websocket_server.alert_follower import AlertFollower, AlertsWanted
from services.websocket_server.client import Client
from services.websocket_server.client_messages import Request
from services.websocket_server.limits import Limits
from services.websocket_server.list_broadcast import FollowList, ListBroadcast
from services.websocket_server.sources import Source
from services.websocket_server.subscription import Broadcast

log = get_logger(__name__)

CHECK_SECONDS: Final = 1.0
GOING_AWAY: Final = 1001
# Registered at IANA as "unauthorized".
UNAUTHORIZED: Final = 3000
KEY_REVOKED: Final = "the key was revoked"
GOING_AWAY_NOTICE: Final = "the server is about to stop: connect again with your positions"
# A list may be without the scanner for so long before this service is unhealthy.
UNHEALTHY_AFTER_SECONDS: Final = 5.0


FollowAlerts = Callable[[Client, AlertsWanted, Callable[[], object]], AlertFollower]


class ClientHub:
    """`lists`: the names that can be subscribed to. `follow`: see ListBroadcast; `follow_alerts`: see AlertFollower.

    `key_streams` counts connections.
    """

    def __init__(
        self,
        lists: Sequence[str],
        limits: Limits,
        follow: FollowList,
        follow_alerts: FollowAlerts,
        key_streams: KeyStreams,
    ) -> None:
        self.lists: Sequence[str] = tuple(lists)
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.clients: set[Client] = set()
        # Clients whose closing handshake is under way.
        self.closing: set[Client] = set()
        self.is_closing = False
        self._follow = follow
        self._follow_alerts = follow_alerts
        self._alerts: dict[Client, AlertFollower] = {}
        self._key_streams = key_streams
        # The clients with keys, by the names of these, and what ends their being counted.
        self._of_key: dict[str, dict[Client, ExitStack]] = defaultdict(dict)
        plain = [Source(name, changed_fields_only=only) for name in lists for only in (False, True)]
        self._broadcasts = {source: self._make(source) for source in plain}
        self._plain = len(plain)
        self._blocked: set[Client] = set()

    def broadcast(self, name: str) -> ListBroadcast:
        """The broadcast of a list with complete rows; raises KeyError for no list."""
        return self._broadcasts[Source(name)]

    def broadcast_of(self, source: Source) -> ListBroadcast | None:
        """The broadcast of a list or scan, a new one when it is the first such; None when there are too many."""
        broadcast = self._broadcasts.get(source)
        if broadcast is None and self._has_room():
            broadcast = self._broadcasts[source] = self._make(source)
            metrics.CUSTOM_SOURCES.inc()
        return broadcast

    @property
    def custom_sources(self) -> int:
        """The number of custom scans and selections of fields."""
        return len(self._broadcasts) - self._plain

    def _has_room(self) -> bool:
        """Makes room for one more custom source if it can, by one that nobody watches any longer."""
        if self.custom_sources < self.limits.custom_sources:
            return True
        idle = next((each for each in self._broadcasts.values() if each.is_idle and not each.source.is_plain), None)
        if idle is not None:
            idle.close()
        return idle is not None

    def _make(self, source: Source) -> ListBroadcast:
        return ListBroadcast(source, self.limits, self._follow, self._closed)

    def _closed(self, source: Source) -> None:
        if not source.is_plain and self._broadcasts.pop(source, None) is not None:
            metrics.CUSTOM_SOURCES.dec()

    @property
    def slow_clients(self) -> int:
        """The number of clients with full buffers."""
        return len(self._blocked)

    @property
    def is_full(self) -> bool:
        return len(self.clients) >= self.limits.clients

    @property
    def unhealthy_reason(self) -> str | None:
        """The reason why a watched list has not been current for a while; None when all are."""
        now = self.loop.time()
        for broadcast in self._broadcasts.values():
            if broadcast.unhealthy_reason and now - broadcast.unhealthy_since >= UNHEALTHY_AFTER_SECONDS:
                return broadcast.unhealthy_reason
        return None

    # --- aggregates

    @property
    def is_watched(self) -> bool:
        """True while any list has a subscription."""
        return any(broadcast.subscribers for broadcast in self._broadcasts.values())

    def listed(self) -> set[bytes]:
        """The symbols (as JSON) that are in watched lists."""
        return set().union(*[each.feed.symbols for each in self._broadcasts.values() if each.subscribers])

    def show(self, aggregates: dict[bytes, bytes]) -> None:
        """Writes to each client, as one piece, the framed aggregates of the symbols in its lists.

        A client with a full buffer gets none: the next ones are newer.
        """
        pieces: dict[frozenset[Broadcast], tuple[int, bytes]] = {}
        for client in list(self.clients):
            if client.is_blocked or not client.subscriptions:
                continue
            lists = frozenset([each.broadcast for each in client.subscriptions.values() if each.wants_aggregates])
            if (piece := pieces.get(lists)) is None:
                piece = pieces[lists] = _piece(lists, aggregates)
            count, frames = piece
            if count:
                metrics.sent("aggregate", count, len(frames))
                client.write(frames)

    # --- the limits of keys

    def refusal(self, key: RequestKey) -> ServiceError | None:
        """Returns why no further connection of the key is accepted, and counts that; None when it is."""
        try:
            self._key_streams.check(key)
        except ServiceError as error:
            self._key_streams.count_refusal(key, error)
            return error
        return None

    def scan_refusal(self, client: Client) -> str:
        if (scans := _scans_of(client)) >= self.limits.scans:
            return f"limit reached: {scans} scans on one connection"
        key = client.key
        if key is not None and sum(map(_scans_of, self._of_key[key.name])) >= key.scans:
            return f"limit reached: {key.scans} open scans of the key {key.name!r}"
        return ""

    def _count(self, client: Client, key: RequestKey) -> bool:
        """Counts a connection of a key; False for one that came beside the last that may."""
        counted = ExitStack()
        try:
            counted.enter_context(self._key_streams.opened(key, lambda error: _close_unauthorized(client, error)))
        except ServiceError as error:
            client.close(UNAUTHORIZED, error.message)
            return False
        self._of_key[key.name][client] = counted
        return True

    def _uncount(self, client: Client, key: RequestKey) -> None:
        clients = self._of_key[key.name]
        if (counted := clients.pop(client, None)) is not None:
            counted.close()
        if not clients:
            del self._of_key[key.name]

    # --- alerts

    def follow_alerts(self, client: Client, request: Request | None) -> None:
        if (before := self._alerts.pop(client, None)) is not None:
            before.close()
        if request is not None:
            wanted = AlertsWanted(request.rules, request.filter, request.min_quality, request.position)
            self._alerts[client] = self._follow_alerts(client, wanted, lambda: self._alerts.pop(client, None))

    # --- what the clients report

    def joined(self, client: Client) -> None:
        self.clients.add(client)
        metrics.CLIENTS.inc()
        if client.key is not None and not self._count(client, client.key):
            return
        frames = client_messages.connected(client.connection_id, self.lists, wall_ns())
        metrics.sent("connected", 1, len(frames))
        client.write(frames)
        if self.is_closing:
            self._send_away(client)

    def left(self, client: Client) -> None:
        """Removes a client that is closing or gone; may be called twice."""
        if client not in self.clients:
            return
        self.clients.discard(client)
        metrics.CLIENTS.dec()
        self.unblocked(client)
        for subscription in client.subscriptions.values():
            subscription.broadcast.unsubscribe(subscription)
        client.subscriptions.clear()
        self.follow_alerts(client, None)
        if client.key is not None:
            self._uncount(client, client.key)

    def blocked(self, client: Client) -> None:
        self._blocked.add(client)
        metrics.SLOW.inc()
        metrics.SLOW_EVENTS.inc()

    def unblocked(self, client: Client) -> None:
        if client in self._blocked:
            self._blocked.discard(client)
            metrics.SLOW.dec()
        if (alerts := self._alerts.get(client)) is not None:
            alerts.unblock()

    # --- what the service does

    async def check_clients(self) -> None:
        """Closes clients that do not read and pings quiet ones, until cancelled."""
        while True:
            await asyncio.sleep(min(CHECK_SECONDS, self.limits.stall_seconds / 4, self.limits.ping_after_seconds / 4))
            now = self.loop.time()
            for client in list(self.clients):
                client.check(now)

    def go_away(self) -> None:
        """Closes every client's connection, with a notice."""
        self.is_closing = True
        log.info("clients are sent away", clients=len(self.clients))
        for client in list(self.clients):
            self._send_away(client)

    def close(self) -> None:
        """Stops following lists and alerts."""
        for client in list(self._alerts):
            self.follow_alerts(client, None)
        for broadcast in list(self._broadcasts.values()):
            broadcast.close()

    def _send_away(self, client: Client) -> None:
        client.notify(client_messages.error(GOING_AWAY_NOTICE))
        client.close(GOING_AWAY, GOING_AWAY_NOTICE)


def _close_unauthorized(client: Client, error: ServiceError) -> None:
    client.close(UNAUTHORIZED, KEY_REVOKED if error.reason is INVALID_KEY else error.message)


def _piece(lists: frozenset[Broadcast], aggregates: dict[bytes, bytes]) -> tuple[int, bytes]:
    """The framed aggregates of the symbols in these lists, and their number."""
    symbols: set[bytes] = set().union(*[each.feed.symbols for each in lists])
    frames = [frame for symbol, frame in aggregates.items() if symbol in symbols]
    return len(frames), b"".join(frames)


def _scans_of(client: Client) -> int:
    return sum(subscription.subject.is_scan for subscription in client.subscriptions.values())
