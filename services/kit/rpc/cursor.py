"""One client's side of a stream: how it waits for what is to be sent, and where it is in a ring."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from services.kit.rpc.ring import Position, Ring

# Heartbeats are due at multiples of this part of their interval, so that many subscriptions share a timer.
HEARTBEAT_STEPS: Final = 4


class Timers:
    """Ends the waits of many subscriptions with few timers: those that wait until the same time share one.

    `heartbeat_seconds`: after so long without a message a heartbeat is due, or up to a quarter of it earlier.
    """

    def __init__(self, heartbeat_seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self._heartbeat_seconds = heartbeat_seconds
        self._waiting: dict[float, set[Subscription]] = {}

    @property
    def waiting(self) -> int:
        """Subscriptions that wait now."""
        return sum(map(len, self._waiting.values()))

    def heartbeat_due(self) -> float:
        """When a subscription that is sent something now needs a heartbeat, by the event loop's clock."""
        step = self._heartbeat_seconds / HEARTBEAT_STEPS
        return math.floor((self.loop.time() + self._heartbeat_seconds) / step) * step

    def add(self, time: float, subscription: "Subscription") -> None:
        """Calls its `time_is_up()` at `time`, unless it is discarded before."""
        waiting = self._waiting.get(time)
        if waiting is None:
            self._waiting[time] = waiting = set()
            self.loop.call_at(time, self._ring, time)
        waiting.add(subscription)

    def discard(self, time: float, subscription: "Subscription") -> None:
        """The timer stays for the others."""
        if (waiting := self._waiting.get(time)) is not None:
            waiting.discard(subscription)

    def _ring(self, time: float) -> None:
        for subscription in self._waiting.pop(time):
            subscription.time_is_up()


class Subscription:
    """Serves the loop that sends to one client: it waits, with heartbeats, and others wake and end it.

    The loop looks at everything there may be to send, and waits when there is nothing:

        while not self.is_over:
            if ...:
                yield ...
            elif self.closing is not None:
                yield ENVELOPE.going_away(..., self.closing)
                return
            elif not await self.wait():
                yield ENVELOPE.heartbeat(...)
        self.raise_error()
    """

    def __init__(self, timers: Timers) -> None:
        self.is_over = False
        # Why the service goes away; None while it does not.
        self.closing: str | None = None
        self._timers = timers
        self._error: Exception | None = None
        self._waiter: asyncio.Future[bool] | None = None
        # True when it was woken while it did not wait.
        self._is_woken = False
        # None after something was sent.
        self._heartbeat_at: float | None = None

    def wake(self) -> None:
        """There may be something to send: ends its wait, or the next one."""
        if self._waiter is None:
            self._is_woken = True
        elif not self._waiter.done():
            self._waiter.set_result(True)

    def time_is_up(self) -> None:
        """The time has come until which it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    def end(self, error: Exception | None = None) -> None:
        """Ends the messages at once, with `error` if there is one; the first call counts."""
        if not self.is_over:
            self.is_over = True
            self._error = error
            self.wake()

    def go_away(self, reason: str) -> None:
        """Ends the messages with going_away, after those that are there."""
        self.closing = reason
        self.wake()

    def raise_error(self) -> None:
        """Raises what end() was given."""
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """The stream has ended: nothing is kept and counted for its client any more."""

    def sent(self) -> None:
        """A message was sent: the next heartbeat is counted from now on."""
        self._heartbeat_at = None

    async def wait(self, until: float = math.inf) -> bool:
        """Waits for wake(), or `until` by the event loop's clock; False when a heartbeat is due before."""
        if self._is_woken:
            self._is_woken = False
            return True
        if self._heartbeat_at is None:
            self._heartbeat_at = self._timers.heartbeat_due()
        time = min(until, self._heartbeat_at)
        self._waiter = self._timers.loop.create_future()
        self._timers.add(time, self)
        try:
            is_woken = await self._waiter
        finally:
            self._timers.discard(time, self)
            self._waiter = None
        if is_woken or time < self._heartbeat_at:
            return True
        self._heartbeat_at = None
        return False


SubscriptionT = TypeVar("SubscriptionT", bound=Subscription)


class Broadcast(Generic[SubscriptionT]):
    """The common part of all streams of a kind: they are woken together, and end together."""

    def __init__(self, heartbeat_seconds: float) -> None:
        self.timers = Timers(heartbeat_seconds)
        self.readers: set[SubscriptionT] = set()
        self._closing: str | None = None

    @contextlib.contextmanager
    def joined(self, subscription: SubscriptionT) -> Iterator[SubscriptionT]:
        """The subscription is one of the readers meanwhile."""
        subscription.closing = self._closing
        self.readers.add(subscription)
        try:
            yield subscription
        finally:
            self.readers.discard(subscription)
            subscription.leave()

    def wake(self) -> None:
        """There may be something to send to all."""
        for reader in self.readers:
            reader.wake()

    def close(self, reason: str) -> None:
        """Ends every stream with going_away; later ones get it at once."""
        self._closing = reason
        for reader in self.readers:
            reader.go_away(reason)


class Cursor(Subscription):
    """A subscription of the messages in a ring.

    `on_slow` is called with True when the reader has fallen behind, with False when it has caught up or gone.
    """

    def __init__(self, ring: Ring, timers: Timers, on_slow: Callable[[bool], None] = lambda is_slow: None) -> None:
        super().__init__(timers)
        self.ring = ring
        # The message to be sent next.
        self.next_sequence = ring.newest + 1
        self._current_at: int | None = ring.newest
        self._on_slow = on_slow
        self._is_slow = False
        self._is_holding = False

    @property
    def position(self) -> Position:
        """Of the last message sent, or of the snapshot sent in its place."""
        return Position(self.ring.epoch, self.next_sequence - 1)

    @property
    def newest(self) -> int:
        """Sequence of the last message that may be sent."""
        return self.ring.newest

    @property
    def has_next(self) -> bool:
        """False when everything was sent that may be."""
        return self.next_sequence <= self.newest

    @property
    def lost_reason(self) -> str | None:
        """Why its next message cannot be sent any more; None when it can."""
        if self.next_sequence >= self.ring.oldest:
            return None
        return f"message {self.next_sequence} was dropped before it was sent; the oldest held is {self.ring.oldest}"

    def resume(self, requested_position: Position) -> str | None:
        """Continues after the last message that the reader has; returns why it cannot, and needs a reset."""
        plan = self.ring.resume(requested_position)
        self.next_sequence = plan.next_sequence
        return plan.reset_reason

    def move(self, position: Position, ring: Ring | None = None) -> None:
        """Continues after `position` of the ring, or of another one that has taken its place."""
        if ring is not None and ring is not self.ring:
            self.let_go()
            self.ring = ring
        self.next_sequence = position.sequence + 1

    def take(self) -> bytes:
        """The next message, which is sent now; raises KeyError when it is not held."""
        message = self.ring.get(self.next_sequence)
        self.next_sequence += 1
        self.sent()
        if self._is_holding:
            self.hold()
            self.let_go_if_safe()
        return message

    def catch_up(self) -> None:
        """It is current once it has what is in the ring now."""
        self._current_at = self.newest

    @property
    def is_live(self) -> bool:
        """True once it has become current."""
        return self._current_at is None

    def becomes_current(self) -> bool:
        """True once, when what there was to catch up with was sent."""
        if self._current_at is None or self.next_sequence <= self._current_at:
            return False
        self._current_at = None
        return True

    def hold(self) -> None:
        """Keeps what follows in the ring while the reader is busy, and until it is where the ring lasts."""
        self._is_holding = True
        self.ring.hold(self, self.next_sequence)

    def let_go_if_safe(self) -> None:
        """Keeps nothing more for a reader that has half of the ring's time left."""
        if self.ring.is_safe(self.next_sequence):
            self.let_go()

    def let_go(self) -> None:
        """Keeps nothing for the reader any more."""
        if self._is_holding:
            self._is_holding = False
            self.ring.let_go(self)

    def leave(self) -> None:
        self.let_go()
        self.mark_slow(False)

    def mark_slow(self, is_slow: bool) -> None:
        """Calls `on_slow` when it falls behind or catches up, once each."""
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            self._on_slow(is_slow)
