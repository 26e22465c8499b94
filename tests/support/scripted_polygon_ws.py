"""A polygon_ws that does what a test says: an in-process gRPC server speaking SubscribeMarket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from tradeul.v1 import market_data_pb2, polygon_ws_pb2, stream_pb2

from services.kit.rpc.server import SERVER_OPTIONS, add_servicer
from tests.support.mesh import free_ports
from tests.support.scripted_day import ms_at

Request = polygon_ws_pb2.SubscribeMarketRequest
Response = polygon_ws_pb2.SubscribeMarketResponse
EPOCH = 1_780_000_000
POLL_SECONDS = 0.005
MS = 1_000_000


class Subscriber:
    """A sequencer that connected: how it opened, what it acknowledged, what is on its way to it."""

    def __init__(self, opening: polygon_ws_pb2.SubscribeMarketOpen) -> None:
        self.acknowledged = 0
        self.outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        position = opening.position if opening.HasField("position") else None
        self.asked = None if position is None else (position.epoch, position.sequence)


class ScriptedPolygonWs:
    """`async with ScriptedPolygonWs()`: serves. It holds every batch from `oldest` on."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.epoch = EPOCH
        self.symbols: list[str] = []
        self.batches: dict[int, bytes] = {}
        self.oldest = 1
        self.subscribers: list[Subscriber] = []
        # Sequences that are held, but not sent when they come: a hole.
        self.withheld: set[int] = set()
        self._connected: list[Subscriber] = []
        self._server: grpc.aio.Server | None = None
        self._trade_key = 0

    async def __aenter__(self) -> "ScriptedPolygonWs":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def start(self) -> None:
        """Serves, on the port of before."""
        server = grpc.aio.server(options=SERVER_OPTIONS)
        add_servicer(server, polygon_ws_pb2.DESCRIPTOR.services_by_name["PolygonWsService"], self)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def die(self) -> None:
        """Cuts the sequencer off without a word."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def restart(self) -> None:
        """A new process: another numbering, nothing held."""
        self.epoch += 100
        self.symbols, self.batches, self.oldest = [], {}, 1

    @property
    def newest(self) -> int:
        return max(self.batches, default=self.oldest - 1)

    def trades(self, *trades: tuple[str, str, float], day_ms: int = 0) -> int:
        """A batch of trades (symbol, New York time of day, price), 100 shares each; `day_ms` moves the day on."""
        known = len(self.symbols)
        self.symbols += dict.fromkeys(symbol for symbol, _, _ in trades if symbol not in self.symbols)
        batch = market_data_pb2.TradeBatch()
        for symbol, clock, price in trades:
            self._trade_key += 1
            batch.symbol_id.append(self.symbols.index(symbol))
            batch.time_ns.append((ms_at(clock) + day_ms) * MS)
            batch.price.append(price)
            batch.size.append(100.0)
            batch.conditions.append(0)
            batch.trade_key.append(self._trade_key)
        return self.send(
            polygon_ws_pb2.MarketBatch(first_symbol_id=known, new_symbols=self.symbols[known:], trades=batch)
        )

    def send(self, batch: polygon_ws_pb2.MarketBatch) -> int:
        """The next batch; its sequence."""
        sequence = self.newest + 1
        batch.position.CopyFrom(stream_pb2.StreamPosition(epoch=self.epoch, sequence=sequence))
        self.batches[sequence] = Response(batch=batch).SerializeToString()
        if sequence not in self.withheld:
            self.say(self.batches[sequence])
        return sequence

    def say(self, response: Response | bytes) -> None:
        """Any response."""
        message = response if isinstance(response, bytes) else response.SerializeToString()
        for subscriber in self._connected:
            subscriber.outgoing.put_nowait(message)

    def go_away(self) -> None:
        position = stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.newest)
        self.say(Response(going_away=stream_pb2.StreamGoingAway(position=position, reason="stopping")))

    def line_was_away(self, from_ns: int, to_ns: int | None = None) -> None:
        """The vendor's line, since `from_ns`; it is back at `to_ns`."""
        position = stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.newest)
        gap = polygon_ws_pb2.FeedGap(position=position, from_ns=from_ns, to_ns=to_ns, reason="cut")
        self.say(Response(feed_gap=gap))

    def forget_before(self, sequence: int) -> None:
        """Batches below are no longer held."""
        self.oldest = sequence

    async def until_connections(self, count: int) -> Subscriber:
        """Waits until sequencers have connected so often; the newest."""
        async with asyncio.timeout(60):
            while len(self.subscribers) < count:
                await asyncio.sleep(POLL_SECONDS)
        return self.subscribers[-1]

    async def until_acknowledged(self, sequence: int) -> None:
        async with asyncio.timeout(60):
            while self.subscribers[-1].acknowledged < sequence:
                await asyncio.sleep(POLL_SECONDS)

    # --- PolygonWsService

    async def SubscribeMarket(self, requests: AsyncIterator[Request], _: Any) -> AsyncIterator[bytes]:
        first = await anext(aiter(requests))
        assert first.WhichOneof("request") == "open"
        subscriber = Subscriber(first.open)
        for missed in self._catch_up(subscriber.asked):
            subscriber.outgoing.put_nowait(missed)
        self.subscribers.append(subscriber)
        self._connected.append(subscriber)
        acks = asyncio.create_task(_read_acks(requests, subscriber))
        try:
            while (message := await subscriber.outgoing.get()) is not None:
                yield message
        finally:
            acks.cancel()
            self._connected.remove(subscriber)

    def _catch_up(self, asked: tuple[int, int] | None) -> list[bytes]:
        now = stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.newest)
        messages = [Response(opened=polygon_ws_pb2.MarketOpened(position=now, symbols=self.symbols))]
        first = self.oldest
        if asked is not None:
            if asked[0] == self.epoch and self.oldest <= asked[1] + 1 <= self.newest + 1:
                first = asked[1] + 1
            else:
                before = stream_pb2.StreamPosition(epoch=self.epoch, sequence=first - 1)
                messages.append(Response(reset=stream_pb2.StreamReset(position=before, reason="batches are gone")))
        held = [self.batches[sequence] for sequence in range(first, self.newest + 1)]
        current = Response(current=stream_pb2.StreamCurrent(position=now))
        return [*(each.SerializeToString() for each in messages), *held, current.SerializeToString()]

    async def UpdateSubscriptions(self, request: Any, context: Any) -> None:
        raise NotImplementedError

    async def GetFeedStatus(self, request: Any, context: Any) -> None:
        raise NotImplementedError


async def _read_acks(requests: AsyncIterator[Request], subscriber: Subscriber) -> None:
    async for request in requests:
        if request.WhichOneof("request") == "ack":
            subscriber.acknowledged = request.ack.position.sequence
