"""SubscribeMarket's server: one subscriber, whom the next one takes the place of."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from tradeul.v1 import polygon_ws_pb2, stream_pb2

from services.kit.rpc import market_stream
from services.kit.rpc.cursor import Subscription, Timers
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.market_stream import CLAIM_SECONDS, MarketStream
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError

Request = polygon_ws_pb2.SubscribeMarketRequest


class Numbered(Subscription):
    """Opens, and then waits; remembers what was acknowledged."""

    def __init__(self, position: Position | None) -> None:
        super().__init__(Timers(10.0))
        self.requested_position = position
        self.acknowledged: list[Position] = []

    def acknowledge(self, position: Position) -> None:
        self.acknowledged.append(position)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        yield MARKET.opened(self.requested_position)
        while not self.is_over:
            if self.closing is not None:
                yield MARKET.going_away(self.requested_position, self.closing)
                return
            await self.wait()
        self.raise_error()


class Client:
    """Sends its requests, then waits; `written` are the kinds of what it gets."""

    def __init__(self, stream: MarketStream[Numbered], *requests: Request) -> None:
        self.written: list[str] = []
        self._requests = requests
        self.serving = asyncio.create_task(stream.serve(self._send(), self))  # type: ignore[arg-type]

    async def _send(self) -> AsyncIterator[Request]:
        for request in self._requests:
            yield request
        await asyncio.Event().wait()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, message: bytes) -> None:
        self.written.append(MARKET.read(message)[0])

    async def until_opened(self) -> None:
        async with asyncio.timeout(5):
            while not self.written:
                await asyncio.sleep(0)


def opening(
    position: Position | None = None, consumer: str = "", fencing_number: int = 0, is_leased: bool = False
) -> Request:
    opened = polygon_ws_pb2.SubscribeMarketOpen(consumer=consumer, fencing_number=fencing_number, is_leased=is_leased)
    request = Request(open=opened)
    if position is not None:
        request.open.position.CopyFrom(position.message())
    return request


def stream_of(changes: list[bool]) -> tuple[MarketStream[Numbered], Gauge]:
    gauge = Gauge("subscribed", "1 while somebody is.", registry=CollectorRegistry())
    stream: MarketStream[Numbered] = MarketStream(Numbered, gauge, lambda: changes.append(stream.has_subscriber))
    return stream, gauge


def value_of(gauge: Gauge) -> Any:
    return gauge._value.get()


async def test_a_newer_subscriber_takes_the_place_of_the_older_one() -> None:
    changes: list[bool] = []
    stream, gauge = stream_of(changes)
    older = Client(stream, opening())
    await older.until_opened()
    first = stream.subscription
    newer = Client(
        stream, opening(Position(7, 3)), Request(ack=stream_pb2.StreamAck(position=Position(7, 3).message()))
    )
    await newer.until_opened()
    with pytest.raises(ServiceError, match="took this one's place") as caught:
        await older.serving
    assert caught.value.reason.name == "SUPERSEDED"
    second = stream.subscription
    assert second is not None and second is not first
    assert second.requested_position == Position(7, 3)
    async with asyncio.timeout(5):
        while not second.acknowledged:
            await asyncio.sleep(0)
    # The end of the older one is not taken for that of the newer.
    assert (changes, value_of(gauge), stream.has_subscriber) == ([True, True], 1, True)
    newer.serving.cancel()
    await asyncio.gather(newer.serving, return_exceptions=True)
    assert (changes, value_of(gauge), stream.has_subscriber) == ([True, True, False], 0, False)


async def test_a_second_sequencer_is_refused_until_the_first_has_been_gone_for_a_while() -> None:
    """Both would lack what the other one acknowledges."""
    now = 100.0
    gauge = Gauge("claimed", "1 while somebody is.", registry=CollectorRegistry())
    stream: MarketStream[Numbered] = MarketStream(Numbered, gauge, now=lambda: now)
    first = Client(stream, opening(consumer="a", fencing_number=5))
    await first.until_opened()
    served = stream.subscription
    for refused, reason in ((("b", 9), "ANOTHER_CONSUMER"), (("", 0), "ANOTHER_CONSUMER"), (("a", 4), "SUPERSEDED")):
        with pytest.raises(ServiceError) as caught:
            await Client(stream, opening(None, *refused)).serving
        assert caught.value.reason.name == reason
    assert stream.subscription is served and not first.serving.done()
    first.serving.cancel()
    await asyncio.gather(first.serving, return_exceptions=True)
    now += CLAIM_SECONDS - 1
    with pytest.raises(ServiceError, match="expected the sequencer 'a', was 'b'"):
        await Client(stream, opening(None, "b", 9)).serving
    # The same one restarts at once, and its older process can no longer return.
    again = Client(stream, opening(None, "a", 6))
    await again.until_opened()
    with pytest.raises(ServiceError, match="fencing number"):
        await Client(stream, opening(None, "a", 5)).serving
    again.serving.cancel()
    await asyncio.gather(again.serving, return_exceptions=True)
    now += CLAIM_SECONDS
    other = Client(stream, opening(None, "b", 1))
    await other.until_opened()
    other.serving.cancel()
    await asyncio.gather(other.serving, return_exceptions=True)


async def test_acknowledgements_of_a_subscriber_whose_place_was_taken_count_no_more() -> None:
    requests: asyncio.Queue[Request] = asyncio.Queue()

    class Late(Numbered):
        def end(self, error: Exception | None = None) -> None:
            super().end(error)
            # On its way already.
            requests.put_nowait(Request(ack=stream_pb2.StreamAck(position=Position(7, 3).message())))

    class Queued(Client):
        async def _send(self) -> AsyncIterator[Request]:
            while True:
                yield await requests.get()

    gauge = Gauge("late", "1 while somebody is.", registry=CollectorRegistry())
    stream: MarketStream[Numbered] = MarketStream(Late, gauge)
    requests.put_nowait(opening(consumer="a", fencing_number=1))
    older = Queued(stream)
    await older.until_opened()
    first = stream.subscription
    newer = Client(stream, opening(Position(7, 1), "a", 2))
    await newer.until_opened()
    with pytest.raises(ServiceError, match="took this one's place"):
        await older.serving
    assert first is not None and stream.subscription is not None
    assert requests.empty() and (first.acknowledged, stream.subscription.acknowledged) == ([], [])
    newer.serving.cancel()
    await asyncio.gather(newer.serving, return_exceptions=True)


async def test_going_away_reaches_the_subscriber_and_those_that_come_later() -> None:
    stream, gauge = stream_of([])
    stream.wake()
    client = Client(stream, opening())
    await client.until_opened()
    stream.go_away("stopping")
    async with asyncio.timeout(5):
        await client.serving
    late = Client(stream, opening())
    async with asyncio.timeout(5):
        await late.serving
    assert (client.written, late.written) == (["opened", "going_away"], ["opened", "going_away"])
    assert value_of(gauge) == 0


async def test_a_client_that_does_not_open_takes_nobodys_place() -> None:
    changes: list[bool] = []
    stream, _ = stream_of(changes)
    client = Client(stream, opening())
    await client.until_opened()
    with pytest.raises(ServiceError, match="expected open"):
        await Client(stream, Request(cancel=stream_pb2.StreamCancel())).serving
    assert stream.has_subscriber and changes == [True]
    client.serving.cancel()
    await asyncio.gather(client.serving, return_exceptions=True)


async def test_who_led_earlier_is_refused_for_good_and_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(market_stream.log, "error", lambda text, **values: lines.append(text))
    stream, _ = stream_of([])
    older = Client(stream, opening(consumer="lease", fencing_number=7, is_leased=True))
    await older.until_opened()
    newer = Client(stream, opening(consumer="lease", fencing_number=8, is_leased=True))
    await newer.until_opened()
    with pytest.raises(ServiceError, match="a newer subscriber took this one's place"):
        await older.serving
    newer.serving.cancel()
    await asyncio.gather(newer.serving, return_exceptions=True)
    # However long nobody is there.
    monkeypatch.setattr(market_stream, "CLAIM_SECONDS", 0.0)
    for _ in range(3):
        again = Client(stream, opening(consumer="lease", fencing_number=7, is_leased=True))
        with pytest.raises(ServiceError, match="expected a fencing number of at least 8, was 7"):
            await again.serving
    assert lines == ["a sequencer that led earlier is refused"]
    await Client(stream, opening(consumer="lease", fencing_number=8, is_leased=True)).until_opened()
