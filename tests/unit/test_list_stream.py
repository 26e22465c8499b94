"""Resuming, pacing and falling behind, on a real event loop and without gRPC."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.field_selection import FieldSelection, SelectedMessages
from services.kit.lists.list_client import ListCopy
from services.kit.rpc.envelope import LIST
from services.kit.rpc.pacing import GROUP, ON_TIME
from services.kit.rpc.ring import Position
from services.scanner import list_stream
from services.scanner.conflation import ListStep
from services.scanner.list_stream import ListStream, ListSubscription
from services.scanner.turns import Turns
from tests.support.list_messages import EPOCH, ListModel, response, rows_of
from tests.support.list_patches import records
from tests.support.scripted_scanner import ScriptedList


class Publisher:
    """A list and its stream."""

    def __init__(self, **options: Any) -> None:
        self.model = ListModel()
        self.slow: list[bool] = []
        self.stream = ListStream(self.model.name, Position(EPOCH, 0), self.model.snapshot, self.slow.append, **options)

    def publish(self, *rows: tuple[str, float]) -> None:
        sequence = self.model.sequence
        self.stream.publish(sequence, sequence + 1, LIST.wrap("delta", self.model.change_to(rows)))


class Reader:
    """A subscriber that keeps a copy and remembers what kinds of messages came."""

    def __init__(self, subscription: ListSubscription) -> None:
        self.subscription = subscription
        self.messages: AsyncIterator[bytes] = subscription.messages()
        self.copy = ListCopy()
        self.kinds: list[str] = []

    async def read(self) -> str:
        async with asyncio.timeout(10):
            message = response(await anext(self.messages))
        self.copy.apply(message)
        self.kinds.append(message.WhichOneof("response") or "")
        return self.kinds[-1]

    async def read_until(self, kind: str) -> None:
        while await self.read() != kind:
            pass


async def test_a_new_subscriber_gets_opened_snapshot_current_then_deltas() -> None:
    publisher = Publisher()
    publisher.publish(("A", 1.0))
    reader = Reader(ListSubscription(publisher.stream))
    await reader.read_until("current")
    publisher.publish(("B", 2.0), ("A", 1.0))
    await reader.read()
    assert reader.kinds == ["opened", "snapshot", "current", "delta"]
    assert rows_of(reader.copy) == [("B", 2.0), ("A", 1.0)]


async def test_a_returning_subscriber_gets_exactly_what_it_missed() -> None:
    publisher = Publisher()
    publisher.publish(("A", 1.0))
    first = Reader(ListSubscription(publisher.stream))
    await first.read_until("current")
    for price in (2.0, 3.0, 4.0):
        publisher.publish(("A", price))
    again = Reader(ListSubscription(publisher.stream, Position(EPOCH, first.copy.sequence)))
    again.copy = first.copy
    await again.read_until("current")
    assert again.kinds == ["opened", "delta", "delta", "delta", "current"]
    assert rows_of(again.copy) == [("A", 4.0)]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Position(EPOCH - 1, 3), "of another epoch"),
        (Position(EPOCH, 1), "older than the oldest held, 4"),
    ],
)
async def test_a_position_that_is_gone_is_reset_with_the_reason(asked: Position, why: str) -> None:
    publisher = Publisher(max_held=2)
    for price in range(1, 6):
        publisher.publish(("A", float(price)))
    messages = ListSubscription(publisher.stream, asked).messages()
    kinds = [response(await anext(messages)) for _ in range(4)]
    assert [message.WhichOneof("response") for message in kinds] == ["opened", "reset", "snapshot", "current"]
    assert why in kinds[1].reset.reason


async def test_a_position_ahead_waits_for_this_replica_to_get_there() -> None:
    publisher = Publisher()
    publisher.publish(("A", 1.0))
    reader = Reader(ListSubscription(publisher.stream, Position(EPOCH, 2)))
    opening = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    publisher.publish(("A", 2.0))
    assert await opening == "opened"
    assert await reader.read() == "current"


@pytest.mark.parametrize(("changes", "reset"), [(10, False), (9, True), (1000, True)])
async def test_a_position_ahead_waits_while_this_replica_comes_nearer(
    monkeypatch: pytest.MonkeyPatch, changes: int, reset: bool
) -> None:
    monkeypatch.setattr(list_stream, "AHEAD_SECONDS", 0.05)
    monkeypatch.setattr(list_stream, "AHEAD_TIMES", 10 if changes < 1000 else 3)
    publisher, loop = Publisher(), asyncio.get_running_loop()
    timers = [
        loop.call_later(0.02 * number, publisher.publish, ("A", float(number))) for number in range(1, changes + 1)
    ]
    reader = Reader(ListSubscription(publisher.stream, Position(EPOCH, 10 if changes < 1000 else 1000)))
    await reader.read_until("current")
    for timer in timers:
        timer.cancel()
    assert ("reset" in reader.kinds) == reset
    if changes < 1000:
        assert publisher.stream.position == (EPOCH, changes)


async def test_a_subscriber_that_is_behind_by_many_gets_them_as_one() -> None:
    publisher = Publisher()
    reader = Reader(ListSubscription(publisher.stream))
    await reader.read_until("current")
    for price in range(1, 200):
        publisher.publish(("A", float(price)))
    await reader.read()
    assert reader.kinds[-1] == "delta"
    assert reader.copy.deltas == 1
    assert rows_of(reader.copy) == publisher.model.rows
    assert (publisher.slow, publisher.stream.slow) == ([True], 1)
    waiting = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (publisher.slow, publisher.stream.slow) == ([True, False], 0)
    waiting.cancel()


async def test_a_subscriber_beyond_what_is_held_gets_a_snapshot_and_counts_as_slow_until_it_has_caught_up() -> None:
    publisher = Publisher(max_held=40)
    reader = Reader(ListSubscription(publisher.stream))
    await reader.read_until("current")
    for price in range(1, 200):
        publisher.publish(("A", float(price)))
    assert [await reader.read(), await reader.read()] == ["reset", "snapshot"]
    assert (publisher.slow, publisher.stream.slow) == ([True], 1)
    waiting = asyncio.create_task(reader.read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (publisher.slow, publisher.stream.slow) == ([True, False], 0)
    publisher.publish(("A", 0.5))
    assert await waiting == "delta"
    assert rows_of(reader.copy) == [("A", 0.5)]


async def waiting_for(turns: Turns, count: int) -> None:
    """Waits until so many wait for their turn."""
    async with asyncio.timeout(10):
        while len(turns._turn._waiters or ()) < count:
            await asyncio.sleep(0.001)


async def paced_readers(publisher: Publisher, count: int, interval: float) -> list[Reader]:
    """So many that are current and want updates at that interval."""
    readers = [Reader(ListSubscription(publisher.stream, None, interval)) for _ in range(count)]
    for reader in readers:
        await reader.read_until("current")
    return readers


async def test_many_changes_become_one_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once for all who are there, of the changes of then; a list that was replaced meanwhile begins anew."""
    monkeypatch.setattr("services.scanner.list_stream.MAX_AT_ONCE_BYTES", 0)
    turns = Turns()
    publisher = Publisher(turns=turns)
    readers = await paced_readers(publisher, 2, 0.001)
    async with turns._turn:
        for price in range(1, 5):
            publisher.publish(("A", float(price)))
        reading = [asyncio.create_task(reader.read()) for reader in readers]
        # Both, with what is made for one of them.
        await waiting_for(turns, 1)
        await asyncio.sleep(0.05)
        assert len(turns._turn._waiters or ()) == 1
        assert not any(task.done() for task in reading)
        publisher.publish(("B", 9.0))
    assert await asyncio.gather(*reading) == ["delta", "delta"]
    assert [rows_of(reader.copy) for reader in readers] == [[("A", 4.0)]] * 2
    for reader in readers:
        await reader.read_until("delta")
        assert rows_of(reader.copy) == [("B", 9.0)]

    async with turns._turn:
        publisher.publish(("A", 1.0))
        publisher.publish(("A", 2.0))
        reading = [asyncio.create_task(readers[0].read())]
        await waiting_for(turns, 1)
        publisher.model.sequence = 0
        publisher.stream.restart(Position(EPOCH + 1, 0), "another market")
    assert await reading[0] == "delta"
    assert rows_of(readers[0].copy) == [("A", 2.0)]
    assert await readers[0].read() == "reset"
    assert publisher.stream._conflated == {}


async def test_what_many_wait_for_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of thousands of paced subscribers took the changes of an interval for each of them: gigabytes."""
    monkeypatch.setattr("services.scanner.list_stream.MAX_AT_ONCE_BYTES", 0)
    publisher = Publisher()
    taken: list[int] = []
    step = publisher.stream._step

    def counted_step(sequence: int) -> ListStep:
        taken.append(sequence)
        return step(sequence)

    monkeypatch.setattr(publisher.stream, "_step", counted_step)
    readers = await paced_readers(publisher, GROUP, 0.05)
    reading = [asyncio.create_task(reader.read_until("delta")) for reader in readers]
    await asyncio.sleep(0)
    for price in range(1, 5):
        publisher.publish(("A", float(price)))
    await asyncio.gather(*reading)
    assert [rows_of(reader.copy) for reader in readers] == [[("A", 4.0)]] * GROUP
    assert taken == [1, 2, 3, 4]
    assert publisher.stream._conflating == {}


async def test_one_that_leaves_takes_nothing_from_those_who_wait_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scanner.list_stream.MAX_AT_ONCE_BYTES", 0)
    turns = Turns()
    publisher = Publisher(turns=turns)
    readers = await paced_readers(publisher, 2, 0.001)
    async with turns._turn:
        publisher.publish(("A", 1.0))
        publisher.publish(("A", 2.0))
        first, second = [asyncio.create_task(reader.read()) for reader in readers]
        await waiting_for(turns, 1)
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.wait({first})
    assert await second == "delta"
    assert rows_of(readers[1].copy) == [("A", 2.0)]


async def test_a_least_interval_merges_what_comes_between() -> None:
    publisher = Publisher()
    reader = Reader(ListSubscription(publisher.stream, None, 0.05))
    await reader.read_until("current")
    for price in range(1, 11):
        publisher.publish(("A", float(price)))
        await asyncio.sleep(0)
    await reader.read_until("delta")
    assert reader.copy.deltas == 1
    assert reader.copy.sequence == 10


async def test_in_a_crowd_changes_are_merged_for_who_asked_for_each() -> None:
    publisher = Publisher()
    internal = Reader(ListSubscription(publisher.stream, is_internal=True))
    await internal.read_until("current")
    reader = Reader(ListSubscription(publisher.stream))
    await reader.read_until("current")
    publisher.publish(("A", 1.0))
    await reader.read()
    publisher.stream.least_interval = 0.05
    publisher.publish(("A", 2.0))
    await reader.read()
    for price in (3.0, 4.0, 5.0):
        publisher.publish(("A", price))
    await reader.read()
    assert reader.kinds[-3:] == ["delta"] * 3
    assert (reader.copy.sequence, rows_of(reader.copy)) == (5, [("A", 5.0)])
    publisher.stream.least_interval = 0.0
    for price in (6.0, 7.0):
        publisher.publish(("A", price))
        await reader.read()
    assert reader.copy.sequence == 7
    # A service of the mesh gets each of them.
    for _ in range(7):
        await internal.read()
    assert (internal.kinds.count("delta"), internal.copy.sequence) == (7, 7)
    assert publisher.slow == []


async def test_a_stream_is_paced_only_if_it_changes_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher()
    readers = [Reader(ListSubscription(publisher.stream, None, interval)) for interval in (0.0, 0.0, 500.0)]
    for reader in readers:
        await reader.read_until("current")
    internal = Reader(ListSubscription(publisher.stream, is_internal=True))
    await internal.read_until("current")
    stream, began = publisher.stream, publisher.stream.timers.loop.time()
    for price in range(20):
        publisher.publish(("A", float(price + 1)))
    # Half of what is new: a change in 100 seconds, of which two readers want each and one every 500 seconds.
    # What the test itself takes does not count beside that.
    assert sorted(stream.demands(began + 1000.0)) == [(0.002, 1), (pytest.approx(0.01, rel=0.1), 2)]
    stream.pace(10.0)
    assert stream.least_interval == 0.0
    stream.pace(1000.0)
    assert stream.least_interval == 1000.0
    for reader in (*readers, internal):
        await reader.messages.aclose()  # type: ignore[attr-defined]
    assert (list(stream.demands(began + 2000.0)), stream.subscribers) == ([], 0)


async def test_quiet_streams_send_heartbeats() -> None:
    publisher = Publisher(heartbeat_seconds=0.01)
    reader = Reader(ListSubscription(publisher.stream))
    await reader.read_until("heartbeat")
    assert reader.kinds == ["opened", "snapshot", "current", "heartbeat"]


async def test_a_restart_resets_everybody_and_going_away_comes_last() -> None:
    publisher = Publisher()
    reader = Reader(ListSubscription(publisher.stream))
    await reader.read_until("current")
    publisher.model.sequence = 41
    publisher.model.rows = [("Z", 9.0)]
    publisher.stream.restart(Position(EPOCH, 41), "taken anew")
    await reader.read_until("snapshot")
    assert rows_of(reader.copy) == [("Z", 9.0)]
    publisher.stream.close("stopping")
    assert await reader.read() == "going_away"
    with pytest.raises(StopAsyncIteration):
        await anext(reader.messages)
    assert publisher.stream.subscribers == 0


async def test_a_delta_that_does_not_follow_is_refused() -> None:
    publisher = Publisher()
    with pytest.raises(ValueError, match="expected the delta 0 to 1, was 1 to 2"):
        publisher.stream.publish(1, 2, b"")


async def test_who_comes_late_in_a_round_misses_none() -> None:
    """As at the end of a crowd: an update that was due comes a while after its time, the next one at its own."""
    interval = 1.0
    publisher = Publisher()
    reader = Reader(ListSubscription(publisher.stream, None, interval))
    await reader.read_until("current")
    publisher.publish(("A", 1.0))
    reading = asyncio.create_task(reader.read())
    while not publisher.stream.pausing:
        await asyncio.sleep(0)
    due = reader.subscription._may_send_at
    asyncio.get_running_loop().call_at(due, time.sleep, 1.5 * (1 - ON_TIME) * interval)
    assert await reading == "delta"
    assert reader.subscription._may_send_at == pytest.approx(due + interval)


async def test_conflated_changes_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher()
    for price in range(1, 31):
        publisher.publish(("A", float(price)))
    stream = publisher.stream
    each = len(await stream.conflated(1, 2))
    monkeypatch.setattr(list_stream, "MAX_CONFLATED_BYTES", 3 * each + each // 2)
    for last in range(3, 31):
        message = await stream.conflated(1, last)
        assert LIST.read(message)[0] == "delta"
        assert sum(map(len, stream._conflated.values())) <= 3 * each + each // 2
    assert stream._conflated[1, 30, False] == message
    # One that is alone above the bound is sent, but not kept.
    monkeypatch.setattr(list_stream, "MAX_CONFLATED_BYTES", each - 1)
    assert LIST.read(await stream.conflated(2, 30))[0] == "delta"
    assert not stream._conflated


class RandomList:
    """A list with all kinds of values that changes at random, its stream, and how it looked at each sequence."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.rng = random.Random(seed)
        self.list = ScriptedList("winners", EPOCH)
        self.rows: dict[int, list[TickerRow]] = {0: []}
        self.stream = ListStream(
            "winners",
            Position(EPOCH, 0),
            lambda: self.list.snapshot().SerializeToString(),
            lambda _: None,
            **options,
        )

    def publish(self) -> None:
        before, previous = {row.symbol: row for row in self.list.rows}, self.list.sequence
        self.list.shuffle(self.rng, size=6)
        delta = self.list.held[self.list.sequence]
        changed = records(scanner_pb2.ListDelta.FromString(delta), before)
        self.stream.publish(previous, self.list.sequence, LIST.wrap("delta", delta), changed)
        self.rows[self.list.sequence] = list(self.list.rows)


class ChangedFieldsReader:
    """Reads with a random pace and comes back by its position; its copy is compared after every message."""

    def __init__(self, source: RandomList, rng: random.Random, selected: SelectedMessages) -> None:
        self.copy = ListCopy()
        self.largest_step = 0
        self._source = source
        self._rng = rng
        self._selected = selected
        names = rng.choice((None, frozenset({"price", "halted", "updated_at"}), frozenset({"symbol"})))
        self._selection = None if names is None else FieldSelection(names)

    async def read(self, count: int) -> None:
        position = Position(self.copy.epoch, self.copy.sequence) if self.copy.can_resume else None
        interval = self._rng.choice((0.0, 0.0, 0.004))
        subscription = ListSubscription(self._source.stream, position, interval, changed_fields_only=True)
        messages = self._selected.messages(subscription.messages(), self._selection)
        async with asyncio.timeout(10):
            while count:
                message = response(await anext(messages))
                if message.WhichOneof("response") == "delta":
                    self.largest_step = max(self.largest_step, message.delta.sequence - message.delta.previous_sequence)
                if self.copy.apply(message):
                    self._check()
                    count -= 1
                if self._rng.random() < 0.3:
                    await asyncio.sleep(self._rng.choice((0, 0.003)))
        await messages.aclose()

    def _check(self) -> None:
        rows = self._source.rows[self.copy.sequence]
        if (selection := self._selection) is not None:
            rows = [TickerRow.FromString(selection.row(row.SerializeToString())) for row in rows]
        assert self.copy.rows() == rows


@pytest.mark.parametrize("seed", range(4))
async def test_copies_kept_from_changed_fields_equal_the_list_at_every_sequence(seed: int) -> None:
    rng = random.Random(seed)
    source, selected = RandomList(seed, max_held=rng.choice((50, 4096))), SelectedMessages()
    readers = [ChangedFieldsReader(source, random.Random(rng.random()), selected) for _ in range(8)]

    async def follow(reader: ChangedFieldsReader) -> None:
        while True:
            await reader.read(rng.randint(1, 30))

    source.publish()
    tasks = [asyncio.create_task(follow(reader)) for reader in readers]
    for _ in range(600):
        source.publish()
        await asyncio.sleep(rng.choice((0, 0, 0, 0.001)))
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError | TimeoutError):
            raise AssertionError(result)
    assert all(reader.copy.deltas > 20 for reader in readers)
    assert max(reader.largest_step for reader in readers) > 3


async def test_a_change_with_changed_fields_only_is_made_once_for_all() -> None:
    source = RandomList(5)
    source.publish()
    subscriptions = [ListSubscription(source.stream, changed_fields_only=True).messages() for _ in range(2)]
    for messages in subscriptions:
        while response(await anext(messages)).WhichOneof("response") != "current":
            pass
    sizes = []
    for _ in range(10):
        source.publish()
        first, second = [await anext(messages) for messages in subscriptions]
        assert first is second
        sizes.append((len(first), len(source.stream.ring.get(source.stream.position.sequence))))
    assert sum(size for size, _ in sizes) < sum(size for _, size in sizes)
    for messages in subscriptions:
        await messages.aclose()
