"""What clients of the WebSocket server wait for, and when that is given up."""

import asyncio
import random

import pytest

from services.kit.rpc.channel import StreamEnded
from services.kit.rpc.ring import Position
from services.websocket_server.limits import Limits
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.past_changes import FetchPast, PastChanges, PastGone, TakeDelta
from services.websocket_server.waiting import Waiting
from services.websocket_server.whole_lists import Cause
from tests.support.scripted_scanner import EPOCH, ScriptedList

START = Position(EPOCH, 2)


class Fetches:
    """A scanner by script: each request has the next of the outcomes, None for the changes."""

    def __init__(self, winners: ScriptedList, *outcomes: Exception | None) -> None:
        self.left = list(outcomes)
        self._winners = winners

    async def __call__(self, after: Position, until: int, take: TakeDelta) -> None:
        outcome = self.left.pop(0)
        if outcome is not None:
            raise outcome
        for sequence in range(after.sequence + 1, until + 1):
            take(memoryview(self._winners.held[sequence]))


def followed_late(fetch: FetchPast | None = None, *outcomes: Exception | None) -> tuple[PastChanges, ListFeed]:
    """A list that is followed from its fifth change on, and held by the scanner from its first."""
    winners, rng = ScriptedList("winners"), random.Random(5)
    for _ in range(5):
        winners.shuffle(rng)
    feed = ListFeed("winners")
    feed.load(winners.snapshot().SerializeToString())
    past = PastChanges(feed, 2048, lambda: None)
    past.fetch = fetch or Fetches(winners, *outcomes)
    return past, feed


async def bring(past: PastChanges, requested: Position = START) -> None:
    """Requests as long as it may help, as a list does for its clients."""
    async with asyncio.timeout(10):
        while past.can_come(requested):
            past.request(requested)
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "outcomes",
    [
        (StreamEnded("UNAVAILABLE: connection refused"), StreamEnded("nothing was received for 3 s"), None),
        (PastGone("position 1/2 is older than the oldest held, 4"), None),
    ],
    ids=["a scanner that was replaced", "a scanner that has started later"],
)
async def test_changes_come_when_the_first_scanner_could_not_send_them(outcomes: tuple[Exception | None, ...]) -> None:
    past, feed = followed_late(None, *outcomes)
    await bring(past)
    assert feed.holds_after(START.sequence)
    assert not past.lost_reason(START)


async def test_changes_that_no_scanner_holds_are_not_requested_again() -> None:
    gone = PastGone("position 1/2 is older than the oldest held, 4")
    past, feed = followed_late(None, gone, gone, None, None)
    await bring(past)
    assert not feed.holds_after(START.sequence)
    assert past.lost_reason(START) == str(gone)
    # Nor are those before them; those after them may be held.
    assert not past.can_come(Position(EPOCH, 1))
    await bring(past, Position(EPOCH, 3))
    assert feed.holds_after(3)


async def test_a_request_that_nobody_waits_for_any_longer_says_nothing_about_the_changes() -> None:
    async def never(after: Position, until: int, take: TakeDelta) -> None:
        await asyncio.Event().wait()

    past, _ = followed_late(never)
    past.request(START)
    await asyncio.sleep(0)
    past.close()
    await asyncio.sleep(0)
    assert past.can_come(START)


@pytest.mark.parametrize(("times", "changes"), [(100, 10), (3, 100)], ids=["it comes no nearer", "it is too far away"])
async def test_one_whose_replica_is_behind_waits_while_that_comes_nearer(times: int, changes: int) -> None:
    winners, rng = ScriptedList("winners"), random.Random(6)
    feed, loop = ListFeed("winners"), asyncio.get_running_loop()
    feed.load(winners.snapshot().SerializeToString())
    over: asyncio.Future[tuple[Cause, int]] = loop.create_future()
    limits = Limits(ahead_seconds=0.05, ahead_times=times)
    waiting = Waiting[str](feed, limits, lambda waiter, cause: over.set_result((cause, feed.position.sequence)))

    def change() -> None:
        winners.shuffle(rng)
        feed.apply(winners.held[winners.sequence])

    timers = [loop.call_later(0.03 * number, change) for number in range(1, changes + 1)]
    waiting.wait_ahead("somebody")
    async with asyncio.timeout(10):
        cause, reached = await over
    for timer in timers:
        timer.cancel()
    assert cause is Cause.AHEAD
    # As far as the list went, or as far as it came in so many times.
    assert reached == changes if times > changes else 3 <= reached < changes
    assert not waiting.ahead
