"""WebSocket clients that want updates at intervals: several changes as one, the same for all who get it."""

import asyncio
import random
from itertools import pairwise

import pytest

from services.kit.runtime.clock import monotonic
from services.websocket_server.client_messages import Subject
from services.websocket_server.limits import Limits
from services.websocket_server.list_broadcast import ListBroadcast
from services.websocket_server.service import WebSocketServer
from services.websocket_server.sources import Source
from services.websocket_server.subscription import Refusal
from tests.support import websocket_fixtures
from tests.support.scripted_scanner import EPOCH, ScriptedList, ScriptedScanner
from tests.support.ws_client import WsClient, eventually, ws_client

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
        await paced.send(
            action="subscribe_list", list="winners", min_interval_ms=200, changed_fields_only=changed_fields_only
        )
        await paced.expect("subscribed_list")
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
            await client.send(action="subscribe_list", list="winners", min_interval_ms=300)
            await client.expect("subscribed_list")
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
        await client.send(action="subscribe_list", list="winners", min_interval_ms=60_000)
        await client.expect("subscribed_list")
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
        await client.send(action="subscribe_list", list="winners", min_interval_ms=10)
        await client.expect("subscribed_list")
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
        await client.send(action="subscribe_list", list="winners", min_interval_ms=1000)
        await client.expect("subscribed_list")
        await client.expect("snapshot")
        assert len(broadcast.paced) == 1
    await eventually(lambda: broadcast.is_idle)
    assert len(broadcast.paced) == 0


class Keeper:
    """A reader that keeps what is written to it."""

    deflates = False

    def __init__(self) -> None:
        self.is_blocked = False
        self.written: list[bytes] = []
        self.write = self.written.append

    def refuse(self, subject: Subject, refusal: Refusal) -> None:
        raise AssertionError(refusal)


async def test_what_many_get_is_made_once_for_each_of_a_few_groups(rng: random.Random) -> None:
    def follow(_: ListBroadcast) -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(60))

    winners = ScriptedList("winners")
    broadcast = ListBroadcast(Source("winners"), Limits(), follow, lambda _: None)
    readers = [Keeper() for _ in range(1500)]
    subscriptions = [broadcast.subscribe(reader, Subject("winners"), None, interval=0.1) for reader in readers]
    broadcast.load(winners.snapshot().SerializeToString())
    assert len(broadcast.paced) == 16
    for _ in range(5):
        winners.shuffle(rng)
        broadcast.apply(winners.held[winners.sequence])
    await eventually(lambda: all(len(reader.written) == 2 for reader in readers))
    assert len({id(reader.written[1]) for reader in readers}) == 16
    for subscription in subscriptions:
        broadcast.unsubscribe(subscription)
    assert len(broadcast.paced) == 0
    broadcast.close()
