"""What subscriptions are made of: waiting with heartbeats, the end, the position in a ring; and how they are served."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from tradeul.v1 import data_ingest_pb2, stream_pb2

from services.kit.rpc.cursor import HEARTBEAT_STEPS, Broadcast, Cursor, Subscription, Timers
from services.kit.rpc.ring import HOLD_FACTOR, Position, Ring
from services.kit.rpc.subscribing import first_request, requested_position, serve
from services.kit.runtime.errors import INVALID_POSITION, ServiceError

EPOCH = 1_790_000_000
Request = data_ingest_pb2.SubscribeFramesRequest
OPEN = Request(open=data_ingest_pb2.SubscribeFramesOpen())
CANCEL = Request(cancel=stream_pb2.StreamCancel())


def ack(sequence: int) -> Request:
    return Request(ack=stream_pb2.StreamAck(position=Position(EPOCH, sequence).message()))


def ring_of(messages: int, max_count: int = 100) -> Ring:
    ring = Ring(EPOCH, max_count, 1 << 20)
    for number in range(1, messages + 1):
        ring.append(b"%d" % number)
    return ring


# --- waiting


async def test_a_wait_ends_when_woken_and_else_with_a_heartbeat() -> None:
    timers = Timers(0.02)
    subscription = Subscription(timers)
    assert not await subscription.wait()
    waiting = asyncio.create_task(subscription.wait())
    await asyncio.sleep(0)
    assert timers.waiting == 1
    subscription.wake()
    subscription.wake()
    assert await waiting
    assert timers.waiting == 0


class SetLoop:
    """An event loop whose clock is set: its timers are called when the clock reaches them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.create_future = loop.create_future
        self.now = 1000.0
        self._timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *args: Any) -> None:
        self._timers.append((when, callback, args))

    async def waited(self, subscription: Subscription, until: float) -> bool:
        """What a wait returns that begins now, when the clock goes to the first time at which it can end."""
        waiting = asyncio.create_task(subscription.wait(until))
        await asyncio.sleep(0)
        while not waiting.done():
            timer = min(self._timers, key=lambda timer: timer[0])
            self._timers.remove(timer)
            when, callback, args = timer
            self.now = max(self.now, when)
            callback(*args)
            await asyncio.sleep(0)
        return await waiting


def timers_of(loop: SetLoop, heartbeat_seconds: float) -> Timers:
    timers = Timers(heartbeat_seconds)
    timers.loop = loop  # type: ignore[assignment]
    return timers


async def test_a_wait_until_a_time_is_no_heartbeat() -> None:
    loop = SetLoop(asyncio.get_running_loop())
    subscription = Subscription(timers_of(loop, 60.0))
    assert await loop.waited(subscription, 1001.0)
    assert loop.now == 1001.0
    assert await loop.waited(subscription, 900.0)
    assert loop.now == 1001.0


async def test_heartbeats_are_counted_from_the_last_message() -> None:
    """Waits that end early for whatever reason do not put the heartbeat off; a message does."""
    loop = SetLoop(asyncio.get_running_loop())
    timers = timers_of(loop, 10.0)
    subscription = Subscription(timers)
    due = timers.heartbeat_due()
    assert 1000 + 10 * (1 - 1 / HEARTBEAT_STEPS) <= due <= 1010
    while await loop.waited(subscription, loop.now + 0.7):
        assert loop.now < due
    assert loop.now == due
    assert await loop.waited(subscription, loop.now + 0.7)
    subscription.sent()
    sent, later = loop.now, timers.heartbeat_due()
    while await loop.waited(subscription, loop.now + 0.7):
        pass
    assert loop.now == later >= sent + 10 * (1 - 1 / HEARTBEAT_STEPS)


async def test_many_waits_share_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(1000.0)
    made: list[float] = []
    monkeypatch.setattr(timers, "loop", RecordingLoop(timers.loop, made))
    subscriptions = [Subscription(timers) for _ in range(200)]
    tasks = [asyncio.create_task(each.wait()) for each in subscriptions]
    await asyncio.sleep(0)
    assert timers.waiting == 200
    assert 1 <= len(made) <= 2
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert timers.waiting == 0


class RecordingLoop:
    def __init__(self, loop: asyncio.AbstractEventLoop, made: list[float]) -> None:
        self._loop = loop
        self._made = made
        self.time = loop.time
        self.create_future = loop.create_future

    def call_at(self, when: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        self._made.append(when)
        return self._loop.call_at(when, callback, *args)


async def test_the_first_end_counts() -> None:
    subscription = Subscription(Timers(10.0))
    waiting = asyncio.create_task(subscription.wait())
    await asyncio.sleep(0)
    subscription.end(INVALID_POSITION.error("the first"))
    subscription.end(ValueError("the second"))
    assert await waiting and subscription.is_over
    with pytest.raises(ServiceError, match="the first"):
        subscription.raise_error()
    orderly = Subscription(Timers(10.0))
    orderly.end()
    orderly.raise_error()
    going = Subscription(Timers(10.0))
    going.go_away("stopping")
    assert (going.closing, going.is_over) == ("stopping", False)


# --- the position in a ring


async def test_a_cursor_resumes_or_says_why_not() -> None:
    cursor = Cursor(ring_of(9, max_count=5), Timers(10.0))
    assert cursor.position == Position(EPOCH, 9)
    assert cursor.resume(Position(EPOCH, 6)) is None
    assert [cursor.take(), cursor.take(), cursor.take()] == [b"7", b"8", b"9"]
    assert not cursor.has_next
    reason = cursor.resume(Position(EPOCH, 2))
    assert reason is not None and "older than the oldest held, 5" in reason
    assert cursor.position == Position(EPOCH, 9)
    with pytest.raises(KeyError):
        cursor.take()


async def test_it_becomes_current_once_after_the_catch_up() -> None:
    ring = ring_of(3)
    cursor = Cursor(ring, Timers(10.0))
    cursor.resume(Position(EPOCH, 1))
    cursor.catch_up()
    steps = []
    while cursor.has_next:
        steps.append(cursor.becomes_current())
        cursor.take()
        # What comes meanwhile is no part of the catch-up.
        if len(steps) < 4:
            ring.append(b"later")
        if cursor.becomes_current():
            steps.append(True)
    assert (steps.count(True), steps.index(True)) == (1, 2)
    assert cursor.is_live and not cursor.becomes_current()


async def test_a_message_that_was_dropped_is_noticed() -> None:
    ring = ring_of(3, max_count=5)
    cursor = Cursor(ring, Timers(10.0))
    cursor.move(Position(EPOCH, 1))
    assert cursor.lost_reason is None
    for _ in range(5):
        ring.append(b"more")
    assert cursor.lost_reason == "message 2 was dropped before it was sent; the oldest held is 4"
    cursor.move(ring.start)
    assert (cursor.lost_reason, cursor.next_sequence) == (None, 4)


async def test_another_ring_takes_the_place_of_one_that_ended() -> None:
    ring, following = ring_of(3, max_count=4), Ring(EPOCH + 1, 4, 100)
    cursor = Cursor(ring, Timers(10.0))
    cursor.move(Position(EPOCH, 1))
    cursor.hold()
    cursor.move(following.start, following)
    assert (cursor.position, cursor.has_next) == (Position(EPOCH + 1, 0), False)
    assert (ring.holders, following.holders) == (0, 0)
    following.append(b"x")
    assert cursor.take() == b"x"


@pytest.mark.parametrize("seed", range(20))
async def test_holding_keeps_what_a_busy_reader_needs(seed: int) -> None:
    """Against a plain list: nothing is lost within the bound, and nothing is held once it is not needed."""
    rng = random.Random(seed)
    ring = ring_of(30, max_count=20)
    sent = [b"%d" % number for number in range(1, 31)]
    cursor = Cursor(ring, Timers(10.0))
    first = rng.randrange(ring.oldest, 30)
    cursor.move(Position(EPOCH, first - 1))
    cursor.hold()
    got: list[bytes] = []
    while cursor.has_next:
        # The reader is faster than the writer, or it would never get there.
        for _ in range(rng.randrange(2)):
            if len(sent) - cursor.position.sequence < HOLD_FACTOR * 20 - 1:
                ring.append(b"%d" % (len(sent) + 1))
                sent.append(b"%d" % (len(sent) + 1))
        for _ in range(rng.randrange(1, 3)):
            if cursor.has_next:
                assert cursor.lost_reason is None
                got.append(cursor.take())
    assert got == sent[first - 1 :]
    assert ring.holders == 0


async def test_slow_is_counted_once_until_it_has_caught_up() -> None:
    changes: list[bool] = []
    cursor = Cursor(ring_of(1), Timers(10.0), changes.append)
    for is_slow in (False, True, True, False, False, True):
        cursor.mark_slow(is_slow)
    assert changes == [True, False, True]


# --- serving


class Context:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, message: bytes) -> None:
        self.written.append(message)


class Counting(Subscription):
    """Sends numbers until it is ended; `closed` when its messages were."""

    closed = False

    async def messages(self) -> AsyncGenerator[bytes, None]:
        try:
            number = 0
            while not self.is_over:
                yield b"%d" % number
                number += 1
                await self.wait(asyncio.get_running_loop().time() + 0.001)
            self.raise_error()
        finally:
            self.closed = True


async def requests_of(*requests: Request, then_wait: bool = True) -> AsyncIterator[Request]:
    for request in requests:
        yield request
        await asyncio.sleep(0.005)
    if then_wait:
        await asyncio.Event().wait()


async def test_open_comes_first() -> None:
    position = Position(EPOCH, 7)
    request = Request(open=data_ingest_pb2.SubscribeFramesOpen(position=position.message()))
    assert requested_position((await first_request(requests_of(request))).open) == position
    assert requested_position((await first_request(requests_of(OPEN))).open) is None
    for wrong in ([ack(1)], [Request()], []):
        with pytest.raises(ServiceError, match="expected open as the first message") as caught:
            await first_request(requests_of(*wrong, then_wait=False))
        assert caught.value.reason.name == "OPEN_EXPECTED"
    assert (await first_request(requests_of(ack(1)), ("open", "ack"))).HasField("ack")


async def run(*requests: Request, then_wait: bool = True, **options: Any) -> tuple[Counting, Context, list[Position]]:
    subscription, context = Counting(Timers(10.0)), Context()
    acknowledged: list[Position] = []
    serving = serve(
        subscription.messages(),
        requests_of(*requests, then_wait=then_wait),
        context,  # type: ignore[arg-type]
        options.get("acknowledge", acknowledged.append),
    )
    try:
        async with asyncio.timeout(10):
            await serving
    finally:
        assert subscription.closed
        assert context.written[:1] == [b"0"]
    return subscription, context, acknowledged


async def test_a_cancel_ends_the_stream_in_an_orderly_way() -> None:
    _, _, acknowledged = await run(ack(1), ack(2), CANCEL)
    assert acknowledged == [Position(EPOCH, 1), Position(EPOCH, 2)]


@pytest.mark.parametrize(("wrong", "reason"), [(OPEN, "OPEN_REPEATED"), (Request(), "INVALID_REQUEST")])
async def test_a_wrong_message_ends_the_stream_with_its_error(wrong: Request, reason: str) -> None:
    with pytest.raises(ServiceError) as caught:
        await run(ack(1), wrong)
    assert caught.value.reason.name == reason


async def test_an_acknowledgement_may_be_refused() -> None:
    def refuse(position: Position) -> None:
        raise INVALID_POSITION.error(f"expected at most 0, was {position}")

    with pytest.raises(ServiceError, match="expected at most 0"):
        await run(ack(5), acknowledge=refuse)


async def test_a_client_that_stops_sending_goes_on_reading() -> None:
    subscription, context = Counting(Timers(10.0)), Context()
    serving = asyncio.create_task(
        serve(subscription.messages(), requests_of(ack(1), then_wait=False), context)  # type: ignore[arg-type]
    )
    async with asyncio.timeout(10):
        while len(context.written) < 30:
            await asyncio.sleep(0.001)
        assert not serving.done()
        subscription.end(INVALID_POSITION.error("superseded"))
        with pytest.raises(ServiceError, match="superseded"):
            await serving
    assert subscription.closed


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    subscription, context = Counting(Timers(10.0)), Context()
    before = asyncio.all_tasks()
    serving = asyncio.create_task(
        serve(subscription.messages(), requests_of(), context)  # type: ignore[arg-type]
    )
    await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert subscription.closed
    assert asyncio.all_tasks() == before


# --- broadcasts


async def test_a_broadcast_wakes_all_and_ends_all() -> None:
    broadcast: Broadcast[Subscription] = Broadcast(10.0)
    one, other, late = (Subscription(broadcast.timers) for _ in range(3))
    with broadcast.joined(one), broadcast.joined(other):
        waits = [asyncio.create_task(each.wait()) for each in (one, other)]
        await asyncio.sleep(0)
        broadcast.wake()
        assert await asyncio.gather(*waits) == [True, True]
        broadcast.close("stopping")
        assert (one.closing, other.closing) == ("stopping", "stopping")
        with broadcast.joined(late):
            assert late.closing == "stopping"
    gone = one
    broadcast.close("again")
    assert gone.closing == "stopping"


async def test_who_is_woken_while_busy_does_not_wait() -> None:
    """A stream that reads a database between two waits misses nothing that changes meanwhile."""
    broadcast: Broadcast[Subscription] = Broadcast(10.0)
    with broadcast.joined(Subscription(broadcast.timers)) as subscription:
        broadcast.wake()
        async with asyncio.timeout(1):
            assert await subscription.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await subscription.wait()


async def test_who_leaves_holds_nothing_and_is_not_slow() -> None:
    ring = ring_of(30, max_count=10)
    changes: list[bool] = []
    broadcast: Broadcast[Cursor] = Broadcast(10.0)
    with pytest.raises(ValueError, match="cut"), broadcast.joined(Cursor(ring, broadcast.timers, changes.append)) as it:
        assert broadcast.readers == {it}
        it.move(Position(EPOCH, 22))
        it.hold()
        it.mark_slow(True)
        raise ValueError("cut")
    assert (ring.holders, changes, broadcast.readers) == (0, [True, False], set())
