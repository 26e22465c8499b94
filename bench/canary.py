"""A client that watches a list while others attack: what it misses, and how late it is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

from services.kit.lists.list_client import ListCopy
from services.kit.runtime.clock import monotonic


class Canary:
    """Follows one list over gRPC by the gateway, as an exact copy.

    An update's lag is from the market's time of the list, by the seconds that it moved on since the first one, to its
    arrival: what pauses and queues on the way add to the quickest one.
    """

    def __init__(self, name: str, stub: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self.copy = ListCopy()
        self.updates = 0
        self.kinds: list[str] = []
        self._name = name
        self._stub = stub
        self._metadata = tuple(metadata)
        self._lags: list[float] = []

    async def run(self) -> None:
        """Follows until cancelled. Raises ValueError when a change was missed, AioRpcError when the stream ends."""
        request = scanner_pb2.WatchListRequest(list=self._name)
        async for message in self._stub.WatchList(request, metadata=self._metadata):
            self.copy.apply(message)
            kind = str(message.WhichOneof("response"))
            self.kinds.append(kind)
            if kind == "delta":
                self.updates += 1
                self._lags.append(monotonic() - message.delta.timestamp.ToNanoseconds() / 1e9)

    def take_lags(self) -> list[float]:
        """Returns and forgets the seconds from each update's market time to its arrival; their zero is arbitrary."""
        lags, self._lags = self._lags, []
        return lags

    async def check(self) -> None:
        """Raises AssertionError unless the copy becomes equal to the list as it is requested."""
        for _ in range(200):
            request = scanner_pb2.GetListRequest(list=self._name)
            expected = await self._stub.GetList(request, metadata=self._metadata)
            if (expected.epoch, expected.sequence) == (self.copy.epoch, self.copy.sequence):
                if list(expected.rows) != self.copy.rows():
                    raise AssertionError(f"list {self._name}: the canary's copy differs at {self.copy.sequence}")
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"list {self._name}: never at the position of the canary's copy")


@contextlib.asynccontextmanager
async def watching(
    address: str, name: str = "gappers_up", metadata: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[Canary]:
    """A canary that is current; what it raises while the context is open is raised at its end."""
    async with grpc.aio.insecure_channel(address) as channel:
        canary = Canary(name, scanner_pb2_grpc.ScannerServiceStub(channel), metadata)
        running = asyncio.create_task(canary.run())
        try:
            async with asyncio.timeout(60):
                while "current" not in canary.kinds:
                    await asyncio.wait({running}, timeout=0.02)
                    if running.done():
                        running.result()
            yield canary
            await canary.check()
            if running.done():
                running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
