"""polygon_ws without a network: subscriptions, batches, backpressure, back-off."""

import asyncio
import json
from collections.abc import Callable

import pytest
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.cursor import Timers
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError
from services.polygon_ws.core import Backpressure, FeedBuffer
from services.polygon_ws.servicer import MarketSubscription
from services.polygon_ws.vendor_answers import PER_MESSAGE, Subscriptions, parameters

EPOCH = 1_790_000_000


def feed(buffer: FeedBuffer, symbol: str, count: int = 1) -> None:
    trade = {"ev": "T", "sym": symbol, "p": 1.5, "s": 100, "t": 1_763_994_600_123}
    buffer.decode(json.dumps([trade] * count).encode())


def read(buffer: FeedBuffer, sequence: int) -> polygon_ws_pb2.MarketBatch:
    return polygon_ws_pb2.SubscribeMarketResponse.FromString(buffer.ring.get(sequence)).batch


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("not authorized to subscribe to T.*", ["T.*"]),
        ("You don't have access to T.*, LULD.* (and Q.*).", ["T.*", "LULD.*"]),
        ("subscribed to: A.BRK.B", ["A.BRK.B"]),
        ("no access to A.BRK.B.", ["A.BRK.B"]),
        ("AAT.* is nothing, nor is T.AAPL", []),
        ("", []),
    ],
)
def test_subscriptions_that_the_vendor_mentions(text: str, names: list[str]) -> None:
    assert Subscriptions(["T.*", "LULD.*", "A.*", "A.BRK.B"]).mentioned(text) == names


def test_subscriptions() -> None:
    wanted = Subscriptions(["T.*", "A.*", "T.*"])
    assert wanted.names == ("T.*", "A.*")
    assert wanted.update(["Q.AAPL", "T.*", "AM.BRK.B"], ["A.*", "LULD.*"]) == (["Q.AAPL", "AM.BRK.B"], ["A.*"])
    assert wanted.names == ("T.*", "Q.AAPL", "AM.BRK.B")
    assert wanted.update(["T.X"], ["T.X"]) == ([], [])


@pytest.mark.parametrize(
    "name", ["", "T", "T.", "*.T", "t.*", "T.**", "T.A,T.B", "FMV.*", "T.AAPL\n", "T.ABCDEFGHIJKLM"]
)
def test_wrong_subscriptions(name: str) -> None:
    wanted = Subscriptions(["T.*"])
    changes: tuple[tuple[list[str], list[str]], ...] = (([name], []), ([], [name]))
    for change in changes:
        with pytest.raises(ServiceError, match="expected KIND"):
            wanted.update(*change)
    assert wanted.names == ("T.*",)


def test_many_subscriptions_go_in_several_messages() -> None:
    names = [f"T.S{number}" for number in range(2 * PER_MESSAGE + 1)]
    messages = list(parameters(names))
    assert len(messages) == 3
    assert ",".join(messages).split(",") == names
    assert list(parameters([])) == []


def test_batches_and_acknowledgement() -> None:
    batches = []
    buffer = FeedBuffer(EPOCH, lambda: batches.append(buffer.position.sequence), max_rows=3)
    feed(buffer, "AAPL", 2)
    assert buffer.position == Position(EPOCH, 0)
    feed(buffer, "MSFT")
    # Full, so closed without a flush.
    assert buffer.position == Position(EPOCH, 1)
    buffer.flush()
    assert buffer.position == Position(EPOCH, 1)
    feed(buffer, "TSLA")
    buffer.flush()
    assert batches == [1, 2]
    first, second = read(buffer, 1), read(buffer, 2)
    assert (first.position.epoch, first.position.sequence) == (EPOCH, 1)
    assert (list(first.new_symbols), list(first.trades.symbol_id)) == (["AAPL", "MSFT"], [0, 0, 1])
    assert (second.first_symbol_id, list(second.new_symbols)) == (2, ["TSLA"])
    assert (buffer.held_batches, buffer.ring.oldest) == (2, 1)
    assert not buffer.acknowledge(Position(EPOCH + 1, 1))
    assert not buffer.acknowledge(Position(EPOCH, 3))
    assert buffer.acknowledge(Position(EPOCH, 1))
    assert (buffer.held_batches, buffer.ring.oldest) == (1, 2)
    # An old acknowledgement changes nothing.
    assert buffer.acknowledge(Position(EPOCH, 0))
    assert buffer.acknowledge(Position(EPOCH, 2))
    assert (buffer.held_batches, buffer.ring.held_bytes, buffer.ring.oldest) == (0, 0, 3)
    assert buffer.dropped_batches == 0


async def begin(buffer: FeedBuffer, position: Position | None) -> tuple[int, str | None]:
    """The sequence after which a subscriber goes on, and the reason of its reset."""
    subscription = MarketSubscription(buffer, position, Timers(10.0))
    subscription.go_away("the test is over")
    responses = [
        polygon_ws_pb2.SubscribeMarketResponse.FromString(message) async for message in subscription.messages()
    ]
    kinds = [response.WhichOneof("response") for response in responses]
    batches = [response.batch.position.sequence for response in responses if response.HasField("batch")]
    assert (kinds[0], kinds[-2:]) == ("opened", ["current", "going_away"])
    assert batches == list(range(buffer.position.sequence - len(batches) + 1, buffer.position.sequence + 1))
    reset = next((response.reset for response in responses if response.HasField("reset")), None)
    begun = buffer.position.sequence - len(batches)
    assert reset is None or (kinds[1], reset.position.sequence) == ("reset", begun)
    return begun, reset.reason if reset is not None else None


async def test_resuming() -> None:
    buffer = FeedBuffer(EPOCH, max_batches=3)
    assert await begin(buffer, None) == (0, None)
    assert await begin(buffer, Position(EPOCH, 0)) == (0, None)
    for number in range(5):
        feed(buffer, f"S{number}", 10)
        buffer.flush()
    assert (buffer.dropped_batches, buffer.dropped_events) == (2, 20)
    assert await begin(buffer, None) == (2, None)
    assert await begin(buffer, Position(EPOCH, 2)) == (2, None)
    assert await begin(buffer, Position(EPOCH, 5)) == (5, None)
    for position, why in (
        (Position(EPOCH, 1), "older than the oldest held, 3"),
        (Position(EPOCH, 6), "ahead of the newest, 5"),
        (Position(EPOCH - 1, 4), "another epoch"),
        (Position(EPOCH + 1, 4), "another epoch"),
    ):
        begun, reason = await begin(buffer, position)
        assert begun == 2
        assert reason is not None and why in reason


async def test_batches_are_numbered_anew_before_their_numbers_end() -> None:
    buffer = FeedBuffer(EPOCH, last_sequence=3)
    reader = MarketSubscription(buffer, None, Timers(10.0))
    messages = reader.messages()

    async def read() -> polygon_ws_pb2.SubscribeMarketResponse:
        return polygon_ws_pb2.SubscribeMarketResponse.FromString(await anext(messages))

    assert (await read()).HasField("opened") and (await read()).HasField("current")
    for number in range(1, 5):
        feed(buffer, f"S{number}")
        buffer.flush()
        # What is not acknowledged keeps its number.
        assert (await read()).batch.position.sequence == number
        if number < 3:
            buffer.acknowledge(Position(EPOCH, number))
    buffer.acknowledge(Position(EPOCH, 4))
    feed(buffer, "S5")
    buffer.flush()
    assert buffer.position == Position(EPOCH + 1, 1)
    reset, opened, batch = await read(), await read(), await read()
    assert (reset.reset.position.epoch, reset.reset.position.sequence) == (EPOCH + 1, 0)
    assert list(opened.opened.symbols) == ["S1", "S2", "S3", "S4", "S5"]
    assert (batch.batch.position.sequence, list(batch.batch.trades.symbol_id)) == (1, [4])
    await messages.aclose()


def test_memory_is_bounded_by_bytes() -> None:
    buffer = FeedBuffer(EPOCH, max_bytes=10_000)
    for _ in range(100):
        feed(buffer, "AAPL", 20)
        buffer.flush()
        assert buffer.ring.held_bytes <= 10_000
        assert buffer.ring.oldest + buffer.held_batches == buffer.position.sequence + 1
    assert buffer.held_batches + buffer.dropped_batches == 100
    assert buffer.dropped_events == 20 * buffer.dropped_batches


def test_backpressure() -> None:
    pressure = Backpressure(high=1000, patience=5.0)
    pressure.progress(100.0)
    assert not pressure.update(5000, has_reader=False, now=100.0)
    assert not pressure.update(1000, has_reader=True, now=100.0)
    assert pressure.update(1001, has_reader=True, now=101.0)
    assert pressure.update(600, has_reader=True, now=102.0)
    assert not pressure.update(499, has_reader=True, now=103.0)
    assert pressure.update(1001, has_reader=True, now=104.0)
    # No progress for longer than the patience lasts: the vendor must not wait for ever.
    assert not pressure.update(2000, has_reader=True, now=105.1)
    pressure.progress(106.0)
    assert pressure.update(2000, has_reader=True, now=106.0)
    assert not pressure.update(2000, has_reader=False, now=106.0)


def test_a_batch_is_closed_at_once_by_time_or_by_rows() -> None:
    now = 7.0
    timers: list[tuple[float, Callable[[], None]]] = []

    class Timer:
        def cancel(self) -> None:
            timers.clear()

    def call_later(seconds: float, function: Callable[[], None]) -> Timer:
        timers.append((seconds, function))
        return Timer()

    buffer = FeedBuffer(EPOCH, call_later=call_later, now=lambda: now, max_rows=3)
    feed(buffer, "AAPL")
    assert (buffer.position.sequence, timers) == (1, [])
    now += 0.001
    feed(buffer, "AAPL")
    feed(buffer, "MSFT")
    ((seconds, close),) = timers
    assert (buffer.position.sequence, seconds) == (1, pytest.approx(0.002))
    now += seconds
    close()
    assert (buffer.position.sequence, timers) == (2, [])
    # Full before its time: the timer of the first event closes nothing of the next batch.
    feed(buffer, "AAPL")
    feed(buffer, "MSFT", 2)
    assert (buffer.position.sequence, timers) == (3, [])
    now += 0.01
    feed(buffer, "TSLA")
    assert (buffer.position.sequence, timers) == (4, [])
    assert [len(read(buffer, sequence).trades.symbol_id) for sequence in (1, 2, 3, 4)] == [1, 2, 3, 1]


async def test_the_event_loop_closes_a_batch() -> None:
    buffer = FeedBuffer(EPOCH, call_later=asyncio.get_running_loop().call_later)
    feed(buffer, "AAPL")
    feed(buffer, "AAPL")
    async with asyncio.timeout(5):
        while buffer.position.sequence < 2:
            await asyncio.sleep(0.001)
