"""Follows one list at the scanner for all clients of this process, across broken connections."""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio
from tradeul.v1 import scanner_pb2, stream_pb2

from services.kit.lists.list_json import ListHole
from services.kit.rpc.wire import only_field
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.websocket_server import metrics
from services.websocket_server.channel import ListChannel

log = get_logger(__name__)

METHOD: Final = "/tradeul.v1.ScannerService/SubscribeList"
# The scanner sends a heartbeat at least every 10 s.
SILENCE_SECONDS: Final = 25.0
# The same request would fail again.
FINAL_CODES: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
)

OpenStream = Callable[[None], "grpc.aio.StreamStreamCall[bytes, bytes]"]

_FIELDS: Final = {field.name: field.number for field in scanner_pb2.WatchListResponse.DESCRIPTOR.fields}
OPENED: Final = _FIELDS["opened"]
SNAPSHOT: Final = _FIELDS["snapshot"]
DELTA: Final = _FIELDS["delta"]
CURRENT: Final = _FIELDS["current"]
HEARTBEAT: Final = _FIELDS["heartbeat"]
RESET: Final = _FIELDS["reset"]
GOING_AWAY: Final = _FIELDS["going_away"]


class ListUpstream:
    """One subscription of ScannerService.SubscribeList, whose messages feed a ListChannel."""

    def __init__(self, channel: grpc.aio.Channel, sink: ListChannel) -> None:
        # Requests and responses are bytes.
        self._open: OpenStream = channel.stream_stream(METHOD)  # type: ignore[call-arg]
        self._sink = sink
        # Whether the connection brought anything of use: then the pause starts small again.
        self._progressed = False

    async def run(self) -> None:
        """Follows until cancelled, or until the scanner says that it has no such list."""
        backoff = Backoff()
        sink = self._sink
        sink.set_problem("connecting to the scanner")
        while True:
            self._progressed = False
            try:
                why = await self._follow()
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
                if error.code() in FINAL_CODES:
                    log.error("the scanner refuses the list", list=sink.name, reason=why)
                    sink.refuse(f"the scanner refuses the list: {error.details()}")
                    return
            if self._progressed:
                backoff.reset()
            pause = backoff.next()
            sink.set_problem(f"list {sink.name} at the scanner: {why}")
            metrics.UPSTREAM_ENDS.labels(sink.name).inc()
            log.warning("stream of a list ended", list=sink.name, reason=why, again_in=pause)
            await asyncio.sleep(pause)

    async def _follow(self) -> str:
        """Follows one connection to its end; returns why it ended. Raises AioRpcError."""
        call = self._open(None)
        responses = aiter(call)
        try:
            await call.write(self._open_request())
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await anext(responses)
                if (end := self._take(message)) is not None:
                    return end
        except StopAsyncIteration:
            return "ended by the scanner"
        except TimeoutError:
            return f"nothing came for {SILENCE_SECONDS:g} s"
        except ListHole as hole:
            return str(hole)
        except ValueError as error:
            # Neither can what was there be trusted to go on.
            self._sink.feed.forget()
            metrics.rejected("invalid_upstream_message")
            return f"a message cannot be read: {error}"
        finally:
            call.cancel()

    def _take(self, message: bytes) -> str | None:
        """Handles one response; returns why to end the connection, None to go on. Raises ListHole, ValueError."""
        number, payload = only_field(message)
        sink = self._sink
        if number == DELTA:
            self._progressed = True
            sink.apply(payload)
        elif number == SNAPSHOT:
            self._progressed = True
            sink.load(payload)
        elif number == CURRENT:
            self._check_position(stream_pb2.StreamCurrent.FromString(bytes(payload)).position)
            sink.set_problem("")
        elif number == HEARTBEAT:
            self._check_position(stream_pb2.StreamHeartbeat.FromString(bytes(payload)).position)
        elif number == RESET:
            reset = stream_pb2.StreamReset.FromString(bytes(payload))
            log.info("the scanner reset the list", list=sink.name, reason=reset.reason)
        elif number == GOING_AWAY:
            return f"going away: {stream_pb2.StreamGoingAway.FromString(bytes(payload)).reason}"
        elif number != OPENED:
            raise ValueError(f"expected a response of field {OPENED}-{GOING_AWAY}, was field {number}")
        return None

    def _check_position(self, told: stream_pb2.StreamPosition) -> None:
        """Nothing is on its way: raises ListHole when the scanner has sent more than has come."""
        if (told.epoch, told.sequence) != self._sink.feed.position:
            position = self._sink.feed.position
            self._sink.feed.forget()
            raise ListHole(f"expected to be at {told.epoch}/{told.sequence}, which was all sent, was at {position}")

    def _open_request(self) -> bytes:
        request = scanner_pb2.WatchListRequest(list=self._sink.name)
        feed = self._sink.feed
        if feed.is_loaded:
            request.epoch, request.sequence = feed.position
        return scanner_pb2.SubscribeListRequest(open=request).SerializeToString()
