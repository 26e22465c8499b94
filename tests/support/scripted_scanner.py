"""A scanner by script: lists that change at will, streamed over gRPC by the grammar of stream.proto."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import json_format
from tradeul.v1 import scanner_pb2, session_pb2, stream_pb2, ticker_row_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.rpc.server import serialize
from tests.support.list_patches import nudged, patched_delta
from tests.support.mesh import free_ports

EPOCH = 1_763_900_000
OPENING_NS = 1_763_994_600_000_000_000
METHOD = "SubscribeList"

JsonRow = dict[str, Any]


def ticker_row(rng: random.Random, symbol: str) -> TickerRow:
    """A row of a busy moment; some values are absent."""
    row = TickerRow(symbol=symbol, company_name=f'{symbol} "Holdings" \\ Société', is_etf=rng.random() < 0.1)
    for field in TickerRow.DESCRIPTOR.fields:
        if field.type == field.TYPE_DOUBLE and rng.random() < 0.8:
            value = float(rng.randrange(10**7)) if "vol" in field.name else round(rng.uniform(-50, 500), 6)
            setattr(row, field.name, value)
    row.gap_size = ticker_row_pb2.LARGE
    row.session = session_pb2.MARKET_OPEN
    row.updated_at.FromNanoseconds(OPENING_NS + rng.randrange(10**9) * 1000)
    return row


class ScriptedList:
    """One list of the scanner, its changes, and how it looked at each sequence."""

    def __init__(self, name: str, epoch: int = EPOCH, sequence: int = 0) -> None:
        self.name = name
        self.epoch = epoch
        self.sequence = sequence
        self.rows: list[TickerRow] = []
        self._truth: dict[tuple[int, int], list[TickerRow]] = {}
        # Encoded ListDeltas by sequence, of this epoch; and those with changed fields only.
        self.held: dict[int, bytes] = {}
        self.patched: dict[int, scanner_pb2.ListDelta] = {}
        # Queues of encoded responses; None ends the stream.
        self.streams: set[asyncio.Queue[bytes | None]] = set()
        self.patch_streams: set[asyncio.Queue[bytes | None]] = set()
        self.opened = 0
        # The next so many streams that continue from a position end when they have begun, as of a scanner that stops.
        self.cut = 0
        self._remember()

    @property
    def json_rows(self) -> list[JsonRow]:
        return self.truth(self.epoch, self.sequence)

    def truth(self, epoch: int, sequence: int) -> list[JsonRow]:
        """The rows as they were at that position, as protobuf itself writes them."""
        rows = self._truth[epoch, sequence]
        return [json_format.MessageToDict(row, preserving_proto_field_name=True) for row in rows]

    def change_to(self, rows: Iterable[TickerRow]) -> None:
        """Publishes the step from the rows of now to `rows`."""
        delta = self.step(rows)
        self.held[self.sequence] = delta.SerializeToString()
        self.send(scanner_pb2.WatchListResponse(delta=delta))

    def jump_to(self, rows: Iterable[TickerRow], steps: int) -> None:
        """Publishes several steps as one, as a scanner does to one that is behind."""
        previous = self.sequence
        delta = self.step(rows)
        self.patched[previous + steps] = self.patched[self.sequence]
        self.sequence = delta.sequence = previous + steps
        self.held.clear()
        self._remember()
        self.send(scanner_pb2.WatchListResponse(delta=delta))

    def merge(self, steps: Sequence[Iterable[TickerRow]]) -> None:
        """Publishes several steps as one, and holds each of them for those who resume."""
        before, previous = self.rows, self.sequence
        for rows in steps:
            delta = self.step(rows)
            self.held[delta.sequence] = delta.SerializeToString()
        single, last = self.patched[self.sequence], self.rows
        self.rows, self.sequence = before, self.sequence - 1
        merged = self.step(last)
        merged.previous_sequence = self.patched[self.sequence].previous_sequence = previous
        self.send(scanner_pb2.WatchListResponse(delta=merged))
        self.patched[self.sequence] = single

    def skip_to(self, rows: Iterable[TickerRow]) -> None:
        """Changes and tells nobody: the next step has a hole before it."""
        self.held[self.sequence + 1] = self.step(rows).SerializeToString()

    def replace(self, rows: Iterable[TickerRow], epoch: int, sequence: int) -> None:
        """Another numbering, or another place in it: reset and a snapshot."""
        self.step(rows)
        self.epoch, self.sequence = epoch, sequence
        self.held.clear()
        self._remember()
        self.send(scanner_pb2.WatchListResponse(reset=stream_pb2.StreamReset(reason="replaced")))
        self.send(scanner_pb2.WatchListResponse(snapshot=self.snapshot()))

    def shuffle(self, rng: random.Random, size: int = 12) -> None:
        """A random step: rows come, go, change and move."""
        rows = {row.symbol: row for row in self.rows}
        for symbol in [symbol for symbol in rows if rng.random() < 0.1]:
            del rows[symbol]
        for symbol in [symbol for symbol in rows if rng.random() < 0.3]:
            new = ticker_row(rng, symbol)
            rows[symbol] = new if rng.random() < 0.5 else nudged(rng, rows[symbol], new)
        while len(rows) < size and rng.random() < 0.7:
            symbol = f"S{rng.randrange(2 * size)}"
            rows[symbol] = rows.get(symbol) or ticker_row(rng, symbol)
        order = list(rows.values())
        if rng.random() < 0.5:
            rng.shuffle(order)
        self.change_to(order)

    def step(self, rows: Iterable[TickerRow]) -> scanner_pb2.ListDelta:
        before = {row.symbol: row for row in self.rows}
        after = []
        for rank, row in enumerate(rows, 1):
            ranked = TickerRow()
            ranked.CopyFrom(row)
            ranked.rank = rank
            after.append(ranked)
        delta = scanner_pb2.ListDelta(
            list=self.name, epoch=self.epoch, previous_sequence=self.sequence, sequence=self.sequence + 1
        )
        change = scanner_pb2.ListChange
        for symbol in before.keys() - {row.symbol for row in after}:
            delta.deltas.add(action=change.REMOVE, symbol=symbol)
        for row in after:
            old = before.get(row.symbol)
            if old is None:
                delta.deltas.add(action=change.ADD, symbol=row.symbol, rank=row.rank, data=row)
            elif _unranked(old) != _unranked(row):
                delta.deltas.add(action=change.UPDATE, symbol=row.symbol, rank=row.rank, data=row)
            elif old.rank != row.rank:
                delta.deltas.add(action=change.RERANK, symbol=row.symbol, old_rank=old.rank, new_rank=row.rank)
        delta.change_count = len(delta.deltas)
        self.rows = after
        self.sequence += 1
        delta.timestamp.FromNanoseconds(self.time_ns)
        self.patched[self.sequence] = patched_delta(delta, before)
        self._remember()
        return delta

    def snapshot(self) -> scanner_pb2.RankedList:
        ranked = scanner_pb2.RankedList(
            list=self.name, epoch=self.epoch, sequence=self.sequence, rows=self.rows, count=len(self.rows)
        )
        ranked.timestamp.FromNanoseconds(self.time_ns)
        return ranked

    @property
    def time_ns(self) -> int:
        return OPENING_NS + self.sequence * 250_000_000

    @property
    def position(self) -> stream_pb2.StreamPosition:
        return stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.sequence)

    def send(self, response: scanner_pb2.WatchListResponse | bytes) -> None:
        """To all who follow the list."""
        for stream in self.streams:
            stream.put_nowait(serialize(response))
        if isinstance(response, scanner_pb2.WatchListResponse) and response.WhichOneof("response") == "delta":
            patched = self.patched[self.sequence]
            patched.sequence = response.delta.sequence
            response = scanner_pb2.WatchListResponse(delta=patched)
        for stream in self.patch_streams:
            stream.put_nowait(serialize(response))

    def _remember(self) -> None:
        self._truth[self.epoch, self.sequence] = self.rows


def _unranked(row: TickerRow) -> TickerRow:
    copy = TickerRow()
    copy.CopyFrom(row)
    copy.ClearField("rank")
    return copy


class ScriptedScanner:
    """ScannerService.SubscribeList over some lists."""

    def __init__(self, *names: str) -> None:
        self.lists = {name: ScriptedList(name) for name in names}
        (self.port,) = free_ports(1)
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """On the port of before."""
        server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(
            self._subscribe,
            request_deserializer=scanner_pb2.SubscribeListRequest.FromString,
            response_serializer=serialize,
        )
        name = scanner_pb2.DESCRIPTOR.services_by_name["ScannerService"].full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {METHOD: handler}),))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def end_streams(self) -> None:
        """Every stream ends without a word."""
        for each in self.lists.values():
            for stream in each.streams | each.patch_streams:
                stream.put_nowait(None)

    def go_away(self) -> None:
        for each in self.lists.values():
            going = stream_pb2.StreamGoingAway(position=each.position, reason="stopping")
            each.send(scanner_pb2.WatchListResponse(going_away=going))

    async def _subscribe(
        self, incoming: AsyncIterator[scanner_pb2.SubscribeListRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes | scanner_pb2.WatchListResponse]:
        opening = (await anext(aiter(incoming))).open
        each = self.lists.get(opening.list)
        if each is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no list {opening.list!r}")
            return
        each.opened += 1
        if opening.epoch and each.cut:
            each.cut -= 1
            return
        response = scanner_pb2.WatchListResponse
        # What is sent and what is missed are of one moment.
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        begin: list[scanner_pb2.WatchListResponse] = [
            response(opened=scanner_pb2.ListOpened(list=each.name, position=each.position))
        ]
        missed = range(opening.sequence + 1, each.sequence + 1)
        if opening.epoch == each.epoch and opening.sequence <= each.sequence and all(n in each.held for n in missed):
            only = opening.changed_fields_only
            begin += [
                response(delta=each.patched[n] if only else scanner_pb2.ListDelta.FromString(each.held[n]))
                for n in missed
            ]
        else:
            if opening.epoch:
                begin.append(response(reset=stream_pb2.StreamReset(reason="position is gone")))
            begin.append(response(snapshot=each.snapshot()))
        begin.append(response(current=stream_pb2.StreamCurrent(position=each.position)))
        streams = each.patch_streams if opening.changed_fields_only else each.streams
        streams.add(stream)
        try:
            for message in begin:
                yield message
            while (queued := await stream.get()) is not None:
                yield queued
        finally:
            streams.discard(stream)


@contextlib.asynccontextmanager
async def scripted_scanner(*names: str) -> AsyncIterator[ScriptedScanner]:
    scanner = ScriptedScanner(*names)
    await scanner.start()
    try:
        yield scanner
    finally:
        await scanner.stop()
