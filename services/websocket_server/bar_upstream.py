"""Follows the sequencer's bars while somebody watches a list, and shows the newest of each symbol once a second."""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
import grpc.aio
from tradeul.v1 import bars_pb2, bars_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address
from services.websocket_server import metrics
from services.websocket_server.bar_book import BarBook
from services.websocket_server.limits import Limits

log = get_logger(__name__)

# A heartbeat comes at least every 10 s.
SILENCE_SECONDS: Final = 25.0


class BarUpstream:
    """`is_needed`: whether anybody watches anything; `show` is given framed aggregates by symbol as JSON."""

    def __init__(
        self,
        target: Address,
        book: BarBook,
        is_needed: Callable[[], bool],
        show: Callable[[dict[bytes, bytes]], None],
        limits: Limits,
    ) -> None:
        self._target = target
        self._book = book
        self._is_needed = is_needed
        self._show = show
        self._limits = limits

    async def run(self) -> None:
        """Shows what there is at every tick; until cancelled."""
        loop = asyncio.get_running_loop()
        following: asyncio.Task[None] | None = None
        needed_at = 0.0
        try:
            while True:
                await asyncio.sleep(self._limits.aggregate_seconds)
                if self._is_needed():
                    needed_at = loop.time()
                    if following is None:
                        following = asyncio.create_task(self._follow(), name="websocket_server.bars")
                elif following is not None and loop.time() - needed_at > self._limits.linger_seconds:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    following = None
                if following is not None and following.done():
                    # It never ends by itself: a defect.
                    await following
                if aggregates := self._book.drain():
                    self._show(aggregates)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        backoff = Backoff()
        async with open_channel(self._target) as channel:
            watch = bars_pb2_grpc.BarServiceStub(channel).WatchBars
            while True:
                self._book.forget()
                call = watch(bars_pb2.WatchBarsRequest(watcher=metrics.SERVICE))
                responses = aiter(call)
                try:
                    while True:
                        async with asyncio.timeout(SILENCE_SECONDS):
                            response = await anext(responses)
                        self._take(response)
                        backoff.reset()
                except StopAsyncIteration:
                    why = "ended by data_ingest"
                except TimeoutError:
                    why = f"nothing came for {SILENCE_SECONDS:g} s"
                except grpc.aio.AioRpcError as error:
                    why = f"{error.code().name}: {error.details()}"
                except ValueError as error:
                    metrics.rejected("invalid_bars")
                    why = str(error)
                finally:
                    call.cancel()
                pause = backoff.next()
                log.warning("stream of bars ended", reason=why, again_in=pause)
                await asyncio.sleep(pause)

    def _take(self, response: bars_pb2.WatchBarsResponse) -> None:
        """Raises ValueError."""
        kind = response.WhichOneof("response")
        if kind == "symbols":
            self._book.add_symbols(response.symbols)
        elif kind == "bars":
            self._book.take(response.bars)
        elif kind is None:
            raise ValueError("expected symbols, bars, heartbeat or going_away, was nothing")
