"""Follows one list at the scanner for all clients of this process, across broken connections."""

import functools
from typing import TYPE_CHECKING, Final

import grpc.aio
from tradeul.v1 import stream_pb2

from services.kit.lists.kept_rows import ListHole
from services.kit.rpc.channel import Connection, StreamEnded, error_info, reconnecting
from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.websocket_server import metrics
from services.websocket_server.list_broadcast import ListBroadcast
from services.websocket_server.list_traces import ListTraces
from services.websocket_server.past_changes import OpenStream, fetch_past
from services.websocket_server.subscription import Refusal

if TYPE_CHECKING:
    from services.kit.runtime.spans import Traces

log = get_logger(__name__)

METHOD: Final = "/tradeul.v1.ScannerService/SubscribeList"
# The scanner sends a heartbeat at least every 10 s.
SILENCE_SECONDS: Final = 25.0


class ListFollower:
    """One subscription of ScannerService.SubscribeList, whose messages feed a ListBroadcast."""

    def __init__(self, channel: grpc.aio.Channel, sink: ListBroadcast, traces: "Traces | None" = None) -> None:
        # Requests and responses are bytes.
        method: OpenStream = channel.stream_stream(METHOD)  # type: ignore[call-arg]
        self._open = functools.partial(method, metadata=sink.source.metadata)
        self._sink = sink
        self._is_scan = sink.source.scan is not None
        self._backoff = Backoff()
        if not self._is_scan:
            sink.past.fetch = functools.partial(fetch_past, self._open, sink.source)
        self._traces: ListTraces | None = None
        if traces is not None and not self._is_scan:
            self._traces = ListTraces(traces, sink.name, lambda: sink.subscribers)
            sink.on_flush = self._traces.flushed

    async def run(self) -> None:
        """Follows until cancelled, or until the scanner refuses the list."""
        self._sink.set_unhealthy_reason("connecting to the scanner")
        try:
            await reconnecting(self._follow, self._ended, self._backoff)
        except StreamEnded as refused:
            self._refused(refused)

    def _refused(self, refused: StreamEnded) -> None:
        """Hands on why; a custom scan is refused for a mistake of its client, or because there are too many."""
        assert refused.error is not None, "it is one of the scanner"
        details, info = refused.error.details() or "", error_info(refused.error)
        if self._is_scan:
            self._sink.refuse(Refusal(details, info.reason, dict(info.metadata)))
        else:
            log.error("the scanner refuses the list", list=self._sink.name, reason=reason_of(refused))
            self._sink.refuse(Refusal(f"the scanner refuses the list: {details}", info.reason, dict(info.metadata)))

    def _ended(self, reason: str, pause: float) -> None:
        name = self._sink.name
        self._sink.set_unhealthy_reason(f"list {name} at the scanner: {reason}")
        self._sink.reset(reason)
        metrics.UPSTREAM_ENDS.labels(name).inc()
        log.warning("stream of a list ended", list=name, reason=reason, again_in=pause)

    async def _follow(self) -> str:
        """Follows one connection; returns why it ended. Raises StreamEnded when the scanner refuses the list."""
        try:
            with Connection[bytes](self._open(None), SILENCE_SECONDS) as connection:
                await connection.write(self._open_request())
                while (end := self._take(await connection.read())) is None:
                    pass
                return end
        except StreamEnded as ended:
            if ended.is_refusal or (self._is_scan and _is_limit(ended)):
                raise
            return str(ended)
        except ListHole as hole:
            return str(hole)
        except ValueError as error:
            # What was there can no longer be trusted either.
            self._sink.feed.forget()
            metrics.rejected("invalid_upstream_message")
            return f"a message cannot be read: {error}"

    def _take(self, message: bytes) -> str | None:
        """Handles one response; returns why to end the connection, None to continue. Raises ListHole, ValueError."""
        kind, payload = LIST.read(message)
        sink = self._sink
        if kind == "delta":
            self._backoff.reset()
            if self._traces is not None:
                self._traces.received(payload)
            sink.apply(payload)
        elif kind == "snapshot":
            self._backoff.reset()
            sink.load(payload)
        elif kind == "current":
            self._check_position(message_of(stream_pb2.StreamCurrent, payload).position)
            sink.set_unhealthy_reason("")
        elif kind == "heartbeat":
            self._check_position(message_of(stream_pb2.StreamHeartbeat, payload).position)
        elif kind == "opened":
            self._begin_numbering()
        elif kind == "reset":
            self._begin_numbering()
            reset = message_of(stream_pb2.StreamReset, payload)
            sink.reset(reset.reason)
            log.info("the scanner reset the list", list=sink.name, reason=reset.reason)
        elif kind == "going_away":
            return f"going away: {message_of(stream_pb2.StreamGoingAway, payload).reason}"
        return None

    def _check_position(self, message: stream_pb2.StreamPosition) -> None:
        """Checks that nothing is missing; raises ListHole when the scanner has sent more than was received."""
        sent, position = Position.of(message), self._sink.feed.position
        if sent != position:
            self._sink.feed.forget()
            raise ListHole(f"expected to be at {sent}, which was all sent, was at {position}")

    def _begin_numbering(self) -> None:
        """Forgets a scan's rows: each of the scanner's processes numbers its changes from 1, so that the same position
        may be other rows.
        """
        if self._is_scan:
            self._sink.feed.forget()

    def _open_request(self) -> bytes:
        feed = self._sink.feed
        position = feed.position if feed.is_loaded else None
        return self._sink.source.open_request(position).SerializeToString()


def _is_limit(ended: StreamEnded) -> bool:
    return ended.error is not None and ended.error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
