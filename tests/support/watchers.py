"""Clients that watch one list for as long as a test lasts, come back by their position, and notice every hole."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import grpc.aio
import httpx
from google.protobuf import json_format
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from services.kit.lists.list_client import ListCopy
from tests.support.ws_client import PATH, ListView, WsClient

AGAIN_SECONDS = 0.1
LOST = (grpc.aio.AioRpcError, EOFError, OSError, httpx.HTTPError, WebSocketException, TimeoutError)

# As people read. Watchers that are one process with a test, and decode each row there, have to keep up.
INTERVAL_MS = 250


class Watcher(ABC):
    """Watches `name` at the gateway `address` until cancelled.

    `kinds` counts the messages, `ends` why connections ended. `snapshots` above 1 are positions that were lost.
    """

    protocol: ClassVar[str]

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name
        self.kinds: Counter[str] = Counter()
        # Why the copy began anew, and at which position.
        self.resets: list[str] = []
        self.ends: Counter[str] = Counter()

    async def run(self) -> None:
        while True:
            try:
                await self.watch()
                self.ends["orderly"] += 1
            except LOST as error:
                code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else ""
                self.ends[f"{type(error).__name__} {code}".rstrip()] += 1
            await asyncio.sleep(AGAIN_SECONDS)

    @abstractmethod
    async def watch(self) -> None:
        """One connection; raises one of LOST, AssertionError or ValueError for a hole."""

    @property
    @abstractmethod
    def position(self) -> tuple[int, int]:
        """Epoch and sequence of the copy."""

    @property
    @abstractmethod
    def symbols(self) -> Sequence[str]:
        """The copy, by rank."""

    @property
    def snapshots(self) -> int:
        return self.kinds["snapshot"]


class _CopyWatcher(Watcher):
    """One that is sent WatchListResponses."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(address, name)
        self.copy = ListCopy()

    def apply(self, response: scanner_pb2.WatchListResponse) -> bool:
        """Applies a message; False when the server is going away."""
        kind = str(response.WhichOneof("response"))
        self.kinds[kind] += 1
        if kind == "reset":
            self.resets.append(f"at {self.position}: {response.reset.reason}")
        self.copy.apply(response)
        return kind != "going_away"

    @property
    def position(self) -> tuple[int, int]:
        return self.copy.epoch, self.copy.sequence

    @property
    def symbols(self) -> Sequence[str]:
        return [row.symbol for row in self.copy.rows()]


class GrpcWatcher(_CopyWatcher):
    protocol = "gRPC"

    async def watch(self) -> None:
        epoch, sequence = self.position
        request = scanner_pb2.WatchListRequest(list=self.name, min_interval_ms=INTERVAL_MS)
        if epoch:
            request.epoch, request.sequence = epoch, sequence
        async with grpc.aio.insecure_channel(self.address) as channel:
            call = scanner_pb2_grpc.ScannerServiceStub(channel).WatchList(request)
            while isinstance(response := await call.read(), scanner_pb2.WatchListResponse):
                if not self.apply(response):
                    return
        raise EOFError


class EventWatcher(_CopyWatcher):
    """Server-sent events, as EventSource follows them."""

    protocol = "server-sent events"

    def __init__(self, address: str, name: str) -> None:
        super().__init__(address, name)
        self._last_id = ""

    async def watch(self) -> None:
        url = f"http://{self.address}/api/v1/scanner/lists/{self.name}:watch?min_interval_ms={INTERVAL_MS}"
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", url, headers=headers) as answer:
            answer.raise_for_status()
            event_id, data = "", ""
            async for line in answer.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    event_id = value
                elif field == "data":
                    data = value
                elif not line and data:
                    response = json_format.Parse(data, scanner_pb2.WatchListResponse())
                    is_staying = self.apply(response)
                    self._last_id, event_id, data = event_id or self._last_id, "", ""
                    if not is_staying:
                        return
        raise EOFError


class SocketWatcher(Watcher):
    protocol = "WebSocket"

    def __init__(self, address: str, name: str) -> None:
        super().__init__(address, name)
        self.view = ListView()

    async def watch(self) -> None:
        view = self.view
        place = {"epoch": view.epoch, "sequence": view.sequence} if view.epoch else {}
        async with connect(f"ws://{self.address}{PATH}", max_size=None) as connection:
            client = WsClient(connection)
            client.lists[self.name] = view
            await client.expect("connected")
            await client.subscribe(self.name, **place)
            while True:
                message: dict[str, Any] = await client.receive()
                self.kinds[message["type"]] += 1

    @property
    def position(self) -> tuple[int, int]:
        return self.view.epoch, self.view.sequence

    @property
    def symbols(self) -> Sequence[str]:
        return [row["symbol"] for row in self.view.ranked]


KINDS: tuple[type[Watcher], ...] = (GrpcWatcher, EventWatcher, SocketWatcher)


def shown(watchers: Sequence[Watcher]) -> str:
    """For a failed test."""
    return json.dumps(
        [
            {w.protocol: w.name, "position": w.position, "kinds": w.kinds, "resets": w.resets, "ends": w.ends}
            for w in watchers
        ],
        indent=1,
    )
