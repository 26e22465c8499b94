"""WebSocket clients that want updates at intervals: several changes as one, the same for all who get it."""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from services.kit.runtime.clock import monotonic
from services.websocket_server.client_messages import Subject
from services.websocket_server.limits import Limits
from services.websocket_server.list_broadcast import ListBroadcast
from services.websocket_server.paced_groups import groups_of, least_interval
from services.websocket_server.service import WebSocketServer
from services.websocket_server.sources import Source
from services.websocket_server.subscription import Refusal, Subscription
from tests.support import websocket_fixtures
from tests.support.scripted_scanner import EPOCH, ScriptedList, ScriptedScanner
from tests.support.ws_client import ListView, WsClient, eventually, texts_of, ws_client

scanner = websocket_fixtures.scanner
server = websocket_fixtures.server
rng = websocket_fixtures.rng


@pytest.fixture
def winners(scanner: ScriptedScanner) -> ScriptedList:
    return scanner.lists["winners"]


async def deltas_until(client: WsClient, sequence: int) -> list[tuple[int, int]]:
    """From which sequence to which each delta led, until the list is there."""
    found = list[tuple[int, int]]()
    while not found or found[-1][1] < sequence:
        message = await client.expect("delta")
        found.append((message.get("previous_sequence", message["sequence"] - 1), message["sequence"]))
    return found


@pytest.mark.parametrize("changed_fields_only", [False, True])
async def test_changes_within_an_interval_come_as_one(
    server: WebSocketServer, winners: ScriptedList, rng: random.Random, changed_fields_only: bool
) -> None:
    interval = 0.2
    async with ws_client(server.port) as paced, ws_client(server.port) as other:
        await paced.subscribe("winners", min_interval_ms=200, changed_fields_only=changed_fields_only)
        await paced.expect("snapshot")
        await other.subscribe("winners")
        await other.expect("snapshot")
        began = monotonic()
        for _ in range(40):
            winners.shuffle(rng)
            await asyncio.sleep(0.02)
        steps = await deltas_until(paced, 40)
        passed = monotonic() - began
        # Each follows the one before, and none comes within half an interval.
        assert steps[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(steps))
        assert len(steps) <= passed / (interval / 2) + 1
        assert paced.lists["winners"].ranked == winners.json_rows
        # Whoever has not asked for it gets each change.
        assert await deltas_until(other, 40) == [(sequence, sequence + 1) for sequence in range(40)]


async def test_one_that_comes_between_two_updates_is_in_step_with_the_next(
    server: WebSocketServer, winners: ScriptedList, rng: random.Random
) -> None:
    async with ws_client(server.port) as first, ws_client(server.port) as second:
        for client in (first, second):
            for _ in range(3):
                winners.shuffle(rng)
            await client.subscribe("winners", min_interval_ms=300)
            await client.expect("snapshot")
        for _ in range(3):
            winners.shuffle(rng)
        for client in (first, second):
            view = await client.until("winners", (EPOCH, winners.sequence))
            assert view.ranked == winners.json_rows
        winners.shuffle(rng)
        winners.shuffle(rng)
        newest = winners.sequence
        steps = await deltas_until(first, newest)
        assert steps == await deltas_until(second, newest)
        assert (steps[0][0], steps[-1][1]) == (newest - 2, newest)


async def test_the_interval_may_be_another_one_in_each_subscription(
    server: WebSocketServer, winners: ScriptedList, rng: random.Random
) -> None:
    async with ws_client(server.port) as client:
        await client.subscribe("winners", min_interval_ms=60_000)
        await client.expect("snapshot")
        winners.shuffle(rng)
        await client.send(action="subscribe_list", list="winners", epoch=EPOCH, sequence=0)
        # Before that interval is over.
        await client.expect("subscribed_list")
        assert await deltas_until(client, 1) == [(0, 1)]
        winners.shuffle(rng)
        assert await deltas_until(client, 2) == [(1, 2)]
        assert client.lists["winners"].snapshots == 1


async def test_several_changes_as_one_of_the_scanner_do_not_end_it(
    server: WebSocketServer, winners: ScriptedList, rng: random.Random
) -> None:
    async with ws_client(server.port) as client:
        await client.subscribe("winners", min_interval_ms=10)
        await client.expect("snapshot")
        winners.shuffle(rng)
        winners.jump_to(winners.rows[::-1], 5)
        winners.shuffle(rng)
        view = await client.until("winners", (EPOCH, winners.sequence))
        assert view.ranked == winners.json_rows
        for _ in range(3):
            winners.shuffle(rng)
            await asyncio.sleep(0.015)
        view = await client.until("winners", (EPOCH, winners.sequence))
        assert view.ranked == winners.json_rows


@pytest.mark.parametrize("milliseconds", [60_001, 4_294_967_295])
async def test_an_interval_that_is_too_long_is_refused(server: WebSocketServer, milliseconds: int) -> None:
    async with ws_client(server.port) as client:
        await client.send(action="subscribe_list", list="winners", min_interval_ms=milliseconds)
        error = await client.expect("error")
        assert error["message"] == f"expected a min_interval_ms of 0 to 60000, was {milliseconds}"
        assert error["list"] == "winners"


async def test_nothing_is_kept_for_those_who_have_gone(server: WebSocketServer, winners: ScriptedList) -> None:
    broadcast = server.hub.broadcast("winners")
    async with ws_client(server.port) as client:
        await client.subscribe("winners", min_interval_ms=1000)
        await client.expect("snapshot")
        assert len(broadcast.paced) == 1
    await eventually(lambda: broadcast.is_idle)
    assert len(broadcast.paced) == 0


class Keeper:
    """A reader that keeps what is written to it. `subscriptions` are blocked once it has as much as it takes."""

    deflates = False

    def __init__(self, takes: int = 100) -> None:
        self.is_blocked = False
        self.written: list[bytes] = []
        self.subscriptions: list[Subscription] = []
        self.write: Callable[[bytes], None] = self._keep
        self._takes = takes

    def _keep(self, frames: bytes) -> None:
        self.written.append(frames)
        if len(self.written) >= self._takes and not self.is_blocked:
            self.is_blocked = True
            for subscription in self.subscriptions:
                subscription.block()

    def unblock(self) -> None:
        self.is_blocked, self._takes = False, 100
        for subscription in self.subscriptions:
            subscription.unblock()

    def refuse(self, subject: Subject, refusal: Refusal) -> None:
        raise AssertionError(refusal)


@contextlib.contextmanager
def broadcast_of(winners: ScriptedList) -> Iterator[ListBroadcast]:
    def follow(_: ListBroadcast) -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(60))

    broadcast = ListBroadcast(Source("winners"), Limits(), follow, lambda _: None)
    broadcast.load(winners.snapshot().SerializeToString())
    try:
        yield broadcast
    finally:
        broadcast.close()


def shuffle(broadcast: ListBroadcast, winners: ScriptedList, rng: random.Random) -> None:
    winners.shuffle(rng)
    broadcast.apply(winners.held[winners.sequence])


def view_of(reader: Keeper) -> ListView:
    view = ListView()
    for frames in reader.written:
        for text in texts_of(frames):
            view.apply(json.loads(text))
    return view


async def test_a_list_that_can_no_longer_be_trusted_is_not_shown_as_empty(rng: random.Random) -> None:
    winners, reader = ScriptedList("winners"), Keeper()
    winners.shuffle(rng)
    with broadcast_of(winners) as broadcast:
        subscription = broadcast.subscribe(reader, Subject("winners"), None, interval=0.05)
        shuffle(broadcast, winners, rng)
        broadcast.feed.forget()
        # Longer than the interval.
        await asyncio.sleep(0.2)
        assert len(reader.written) == 1
        broadcast.load(winners.snapshot().SerializeToString())
        assert view_of(reader).ranked == winners.json_rows
        broadcast.unsubscribe(subscription)


async def test_a_client_that_is_full_after_one_of_its_scans_misses_nothing_of_the_other(rng: random.Random) -> None:
    winners = ScriptedList("winners")
    winners.shuffle(rng)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    with broadcast_of(winners) as broadcast:
        # Both as whole lists, then one update.
        reader = Keeper(takes=3)
        names = ("a scan", "the same")
        for name in names:
            subject = Subject(name, is_scan=True)
            reader.subscriptions.append(broadcast.subscribe(reader, subject, None, interval=0.05))
        shuffle(broadcast, winners, rng)
        await eventually(lambda: reader.is_blocked)
        assert len(reader.written) == 3
        shuffle(broadcast, winners, rng)
        reader.unblock()
        shuffle(broadcast, winners, rng)

        def copies() -> list[ListView]:
            views = {name: ListView() for name in names}
            for frames in reader.written:
                for text in texts_of(frames):
                    message = json.loads(text)
                    views[message["list"]].apply(message)
            return list(views.values())

        await eventually(lambda: all(view.sequence == winners.sequence for view in copies()))
        assert [view.ranked for view in copies()] == [winners.json_rows] * 2
        assert not failures
        for subscription in reader.subscriptions:
            broadcast.unsubscribe(subscription)


@pytest.mark.parametrize(
    ("wanted", "served", "groups"),
    [
        (0.0, 0.0, 1), (0.001, 0.05, 1), (0.05, 0.05, 1), (0.051, 0.1, 2), (0.2, 0.2, 4), (1.0, 1.0, 16),
        (1.2, 1.5, 16), (10.0, 10.0, 16), (10.1, 15.0, 16), (60.0, 60.0, 16),
    ],
)  # fmt: skip
def test_there_are_few_intervals(wanted: float, served: float, groups: int) -> None:
    assert least_interval(wanted) == pytest.approx(served)
    assert groups_of(least_interval(wanted)) == groups


async def test_what_many_get_is_made_once_for_each_of_a_few_groups(rng: random.Random) -> None:
    winners = ScriptedList("winners")
    readers = [Keeper() for _ in range(1500)]
    with broadcast_of(winners) as broadcast:
        subscriptions = [broadcast.subscribe(reader, Subject("winners"), None, interval=0.8) for reader in readers]
        assert len(broadcast.paced) == 16
        for _ in range(5):
            shuffle(broadcast, winners, rng)
        await eventually(lambda: all(len(reader.written) == 2 for reader in readers))
        assert len({id(reader.written[1]) for reader in readers}) == 16
        for subscription in subscriptions:
            broadcast.unsubscribe(subscription)
        assert len(broadcast.paced) == 0
