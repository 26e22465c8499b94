"""One client's alerts: followed at the scanner from the client's position on, as fast as the client takes them.

The scanner compares alerts once for all subscriptions that select the same; each alert is encoded once for all clients.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

import grpc.aio
from tradeul.v1 import alerts_pb2, alerts_pb2_grpc

from services.kit.lists.alert_json import alert_json
from services.kit.rpc.channel import Connection, StreamEnded, error_info, reconnecting
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.ring import Position
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.websocket_server import client_messages, metrics

log = get_logger(__name__)

# The scanner sends a heartbeat at least every 10 s.
SILENCE_SECONDS: Final = 25.0
SUBSCRIBED: Final = client_messages.frame(b'{"type":"subscribed_alerts"}')


class AlertsWanted(NamedTuple):
    """A subscription to alerts; `position`: the one after which the client continues."""

    rules: str
    filter: str
    min_quality: float | None
    position: Position | None


class AlertReader(Protocol):
    """A client, as its alerts see it. `write` never waits; it may set `is_blocked`."""

    is_blocked: bool
    key: RequestKey | None
    write: Callable[[bytes], None]


class AlertFollower:
    """The alerts of one client until close(). `ended` is called when the scanner refuses them."""

    def __init__(
        self, channel: grpc.aio.Channel, reader: AlertReader, wanted: AlertsWanted, ended: Callable[[], object]
    ) -> None:
        self._watch = alerts_pb2_grpc.AlertsServiceStub(channel).WatchAlerts
        self._reader = reader
        self._wanted = wanted
        self._ended = ended
        # Of the last alert that was compared for the client.
        self._position = wanted.position
        self._is_subscribed = False
        self._backoff = Backoff()
        self._drained = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="websocket_server.alerts")

    def unblock(self) -> None:
        """Continues when the reader's buffer has drained."""
        self._drained.set()

    def close(self) -> None:
        """Writes nothing more."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await reconnecting(self._follow, self._note_end, self._backoff)
        except StreamEnded as refused:
            assert refused.error is not None, "it is one of the scanner"
            info = error_info(refused.error)
            message = refused.error.details() or ""
            self._send("error", client_messages.alerts_error(message, info.reason, dict(info.metadata)))
            self._ended()

    def _note_end(self, reason: str, pause: float) -> None:
        metrics.UPSTREAM_ENDS.labels("alerts").inc()
        log.info("stream of alerts ended", reason=reason, again_in=pause)

    async def _follow(self) -> str:
        """Follows one connection; returns why it ended. Raises StreamEnded when the scanner refuses the request."""
        wanted, position = self._wanted, self._position
        request = alerts_pb2.WatchAlertsRequest(
            rules=wanted.rules, filter=wanted.filter, min_quality=wanted.min_quality
        )
        if position is not None:
            request.epoch, request.sequence = position
        key = self._reader.key
        call = self._watch(request, metadata=key.forwarded.metadata if key is not None else ())
        try:
            with Connection[alerts_pb2.WatchAlertsResponse](call, SILENCE_SECONDS) as connection:
                while True:
                    response = await connection.read()
                    self._backoff.reset()
                    while self._reader.is_blocked:
                        # What follows waits at the scanner: nothing is left out.
                        self._drained.clear()
                        await self._drained.wait()
                    self._take(response)
        except StreamEnded as ended:
            if ended.is_refusal:
                raise
            return str(ended)

    def _take(self, response: alerts_pb2.WatchAlertsResponse) -> None:
        kind = response.WhichOneof("response")
        if not self._is_subscribed:
            self._is_subscribed = True
            self._send("subscribed", SUBSCRIBED)
        if kind == "opened":
            if self._position is None:
                self._position = Position.of(response.opened.position)
        elif kind == "alert":
            self._position = Position(response.alert.epoch, response.alert.sequence)
            self._send("alert", _alert_frame(response.alert.SerializeToString()))
        elif kind == "reset":
            self._position = Position.of(response.reset.position)
            self._send("alerts_reset", client_messages.alerts_reset(self._position, response.reset.reason))
        elif kind in ("current", "heartbeat"):
            position = Position.of(response.current.position if kind == "current" else response.heartbeat.position)
            if kind == "current" or position != self._position:
                self._send("alerts_current", client_messages.alerts_current(position))
            self._position = position

    def _send(self, kind: str, frames: bytes) -> None:
        metrics.sent(kind, 1, len(frames))
        self._reader.write(frames)


@lru_cache(1024)
def _alert_frame(encoded: bytes) -> bytes:
    return client_messages.frame(b'{"type":"alert",', alert_json(encoded)[1:])
