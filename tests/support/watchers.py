"""Clients that watch one list for as long as a test lasts, come back by their position, and notice every hole."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import grpc.aio
import httpx
from google.protobuf import json_format
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc
from tradeul.v1.ticker_row_pb2 import TickerRow
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from services.kit.lists.kept_rows import ListHole
from services.kit.lists.list_client import ListCopy
from services.kit.runtime.clock import monotonic
from tests.support.ws_client import PATH, ListView, WsClient

AGAIN_SECONDS = 0.1
REDIS_BLOCK_MS = 500
LOST = (grpc.aio.AioRpcError, EOFError, OSError, httpx.HTTPError, WebSocketException, RedisError, TimeoutError)
# What no server may do: a change that does not follow the one before, or does not fit the rows.
BROKEN = (ListHole, AssertionError)

# As people read. Watchers that are one process with a test, and decode each row there, have to keep up.
INTERVAL_MS = 250


class ShownRow(NamedTuple):
    """Of a row that a watcher was sent, what only grows or widens in the course of a day; None where it has none."""

    symbol: str
    volume: float | None
    trades: float | None
    high: float | None
    low: float | None


class Watcher(ABC):
    """Watches `name` at the gateway `address` until cancelled.

    `kinds` counts the messages, `ends` why connections ended. `snapshots` above 1 are positions that were lost. With
    `on_broken`, which gets what it was, a watcher that was sent a hole or a repeat begins anew; without, run() raises.
    `on_rows` gets the rows of each message.
    """

    protocol: ClassVar[str]

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name
        self.on_broken: Callable[[str], None] | None = None
        self.on_rows: Callable[[Iterable[ShownRow]], None] | None = None
        # When the newest rows came, by the monotonic clock.
        self.rows_at = 0.0
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
            except BROKEN as error:
                if self.on_broken is None:
                    raise
                self.on_broken(f"{self.protocol} {self.name}: {error}")
                self.forget()
            await asyncio.sleep(AGAIN_SECONDS)

    def received(self, rows: Iterable[ShownRow]) -> None:
        """Takes note of the rows of a message."""
        self.rows_at = monotonic()
        if self.on_rows is not None:
            self.on_rows(rows)

    @abstractmethod
    async def watch(self) -> None:
        """One connection; raises one of LOST or BROKEN."""

    @abstractmethod
    def forget(self) -> None:
        """Drops the copy: the next connection begins with a snapshot."""

    @property
    @abstractmethod
    def position(self) -> tuple[int, int]:
        """Epoch and sequence of the copy."""

    @property
    @abstractmethod
    def symbols(self) -> Sequence[str]:
        """The copy, by rank."""

    @property
    @abstractmethod
    def rows(self) -> Sequence[Any]:
        """The copy's rows, by rank."""

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
        elif kind == "delta" and response.delta.epoch == self.copy.epoch:
            sequence = response.delta.sequence
            assert sequence > self.copy.sequence, f"a repeat: {sequence} after {self.copy.sequence}"
        self.copy.apply(response)
        if kind == "snapshot":
            self.received(map(_shown, response.snapshot.rows))
        elif kind == "delta":
            self.received(_shown(change.data) for change in response.delta.deltas if change.HasField("data"))
        return kind != "going_away"

    def forget(self) -> None:
        self.copy = ListCopy()

    @property
    def position(self) -> tuple[int, int]:
        return self.copy.epoch, self.copy.sequence

    @property
    def symbols(self) -> Sequence[str]:
        return [row.symbol for row in self.rows]

    @property
    def rows(self) -> Sequence[TickerRow]:
        return self.copy.rows()


def _shown(row: TickerRow) -> ShownRow:
    return ShownRow(
        row.symbol,
        row.volume_today if row.HasField("volume_today") else None,
        row.trades_today if row.HasField("trades_today") else None,
        row.intraday_high if row.HasField("intraday_high") else None,
        row.intraday_low if row.HasField("intraday_low") else None,
    )


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

    def forget(self) -> None:
        super().forget()
        self._last_id = ""


class _ViewWatcher(Watcher):
    """One that is sent the JSON of snapshots and deltas."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(address, name)
        self.view = ListView()

    def take(self, message: dict[str, Any]) -> None:
        """Notes a message that the view has."""
        self.kinds[message["type"]] += 1
        if message["type"] == "snapshot":
            self.received(map(_shown_json, message["rows"]))
        elif message["type"] == "delta":
            self.received(_shown_json(change["data"]) for change in message["deltas"] if "data" in change)

    def forget(self) -> None:
        self.view = ListView()

    @property
    def position(self) -> tuple[int, int]:
        return self.view.epoch, self.view.sequence

    @property
    def symbols(self) -> Sequence[str]:
        return [row["symbol"] for row in self.rows]

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        return self.view.ranked


def _shown_json(row: Mapping[str, Any]) -> ShownRow:
    get = row.get
    return ShownRow(row["symbol"], get("volume_today"), get("trades_today"), get("intraday_high"), get("intraday_low"))


class SocketWatcher(_ViewWatcher):
    protocol = "WebSocket"

    async def watch(self) -> None:
        view = self.view
        place = {"epoch": view.epoch, "sequence": view.sequence} if view.epoch else {}
        async with connect(f"ws://{self.address}{PATH}", max_size=None) as connection:
            client = WsClient(connection)
            client.lists[self.name] = view
            await client.expect("connected")
            await client.subscribe(self.name, **place)
            while True:
                self.take(await client.receive())


class RedisWatcher(_ViewWatcher):
    """A reader of a list's stream, at the Redis `address`: from its snapshot on, each entry from the last one's id."""

    protocol = "Redis"

    async def watch(self) -> None:
        stream, snapshot = f"stream:scanner:{self.name}", f"scanner:list:{self.name}:snapshot"
        # Lost connections are to show: another Redis may be there afterwards. Its types say bytes or text, it is text.
        redis: Any = Redis.from_url(self.address, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        try:
            is_first = True
            while True:
                epoch, sequence = self.position
                found = None
                if epoch:
                    found = await redis.xread({stream: f"{epoch}-{sequence}"}, block=REDIS_BLOCK_MS)
                elif (text := await redis.get(snapshot)) is not None:
                    self.take_message(json.loads(text))
                else:
                    await asyncio.sleep(AGAIN_SECONDS)
                for _, entries in found or ():
                    for _, entry in entries:
                        message = json.loads(entry["payload"])
                        if is_first and self._is_further(message):
                            # The stream no longer reaches back to where this one was when it lost the connection.
                            self.resets.append(f"at {self.position}")
                            self.forget()
                            break
                        is_first = False
                        self.take_message(message)
        finally:
            await redis.aclose()

    def _is_further(self, message: dict[str, Any]) -> bool:
        return message["type"] == "delta" and (message["epoch"], message["previous_sequence"]) != self.position

    def take_message(self, message: dict[str, Any]) -> None:
        """Applies a snapshot or delta."""
        assert message["type"] == "snapshot" or message["epoch"] == self.view.epoch, "a hole: another epoch"
        self.view.apply(message)
        self.take(message)


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
