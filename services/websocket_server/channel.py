"""One list and those who watch it: what comes from the scanner goes out to all of them as the same bytes.

A subscription is live (it has everything up to the last flush) or not: its
reader cannot take more now, the list is not here yet, or it has come from a
replica that is ahead. What is not live costs nothing until `place` brings it to now.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol

from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.websocket_server import metrics
from services.websocket_server.limits import Limits
from services.websocket_server.list_feed import ListFeed

# After a flush that took long, so many times as long is left to everything else: one list never takes more than
# half of the loop. More would leave the processor idle while thousands wait for what is here already.
BREATH: Final = 1.0
NOTHING_SENT: Final = -1


class Reader(Protocol):
    """A client, as a list sees it. `write` never waits; it may set `is_blocked` by a call of `Subscription.block`."""

    is_blocked: bool
    write: Callable[[bytes], None]

    def refuse(self, list_name: str, message: str) -> None:
        """The subscription is over: says so to the client."""


class Subscription:
    """One reader's place in one list."""

    __slots__ = ("asked", "at", "channel", "generation", "reader", "timer")

    def __init__(self, channel: "ListChannel", reader: Reader, asked: Position | None) -> None:
        self.channel = channel
        self.reader = reader
        # Where the client says it stands; None once that was answered.
        self.asked = asked
        # The last change written, of which generation; meaningful while it is not live.
        self.at = NOTHING_SENT
        self.generation = -1
        self.timer: asyncio.TimerHandle | None = None

    def block(self) -> None:
        """The reader cannot take more now."""
        self.channel.take_out(self)

    def unblock(self) -> None:
        """The reader has drained."""
        self.channel.place(self)


class ListChannel:
    """A list on its way from the scanner to its readers.

    `open_upstream` is called when the list is first wanted and returns the task
    that feeds it by `load` and `apply`; it is cancelled when nobody has wanted
    the list for a while.
    """

    def __init__(self, name: str, limits: Limits, open_upstream: "OpenUpstream") -> None:
        self.name = name
        self.feed = ListFeed(name, limits.held_changes, limits.held_bytes)
        # Why the list is not current, and since when; "" while it is, or nobody wants it.
        self.problem = ""
        self.problem_since = 0.0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open_upstream = open_upstream
        self._upstream: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._subscriptions: set[Subscription] = set()
        self._live: set[Subscription] = set()
        self._ahead: set[Subscription] = set()
        self._flushed = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._may_flush_at = 0.0
        self._gauge = metrics.subscribers(name)

    @property
    def subscribers(self) -> int:
        return len(self._subscriptions)

    @property
    def is_followed(self) -> bool:
        return self._upstream is not None

    @property
    def pending(self) -> int:
        """Changes that wait for the next flush."""
        return self.feed.position.sequence - self._flushed

    # --- for clients

    def subscribe(self, reader: Reader, asked: Position | None) -> Subscription:
        """A subscription that begins with what is missing after `asked`, or with a snapshot."""
        subscription = Subscription(self, reader, asked)
        self._subscriptions.add(subscription)
        self._gauge.inc()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._upstream is None:
            self._upstream = self._open_upstream(self)
            metrics.UPSTREAMS.inc()
        self.place(subscription)
        return subscription

    def restart(self, subscription: Subscription, asked: Position | None) -> None:
        """The client begins again: from `asked`, or with a snapshot."""
        self.take_out(subscription)
        subscription.asked = asked
        subscription.at = NOTHING_SENT
        self.place(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription not in self._subscriptions:
            return
        self.take_out(subscription)
        self._subscriptions.discard(subscription)
        self._gauge.dec()
        if not self._subscriptions and self._linger is None:
            self._linger = self._loop.call_later(self._limits.linger_seconds, self.close)

    def take_out(self, subscription: Subscription) -> None:
        """Sends it nothing more until it is placed again; what it has is remembered."""
        if subscription in self._live:
            self._live.discard(subscription)
            subscription.at = self._flushed
            subscription.generation = self.feed.generation
        self._no_longer_ahead(subscription)

    def place(self, subscription: Subscription) -> None:
        """Sends what brings it to now, and makes it live; does nothing when that cannot be yet."""
        feed, reader = self.feed, subscription.reader
        if reader.is_blocked or not feed.is_loaded or subscription in self._live:
            return
        asked = subscription.asked
        if asked is not None and asked > feed.position:
            self._wait_ahead(subscription)
            return
        self.flush()
        if asked is not None:
            subscription.asked = None
            self._no_longer_ahead(subscription)
            steps = asked.epoch == feed.position.epoch and feed.holds_after(asked.sequence)
            after = asked.sequence
        else:
            after = subscription.at
            steps = after != NOTHING_SENT and subscription.generation == feed.generation and feed.holds_after(after)
            # To one that was too slow the shorter way is the better one.
            steps = steps and feed.bytes_after(after) <= len(feed.snapshot())
        subscription.at = feed.position.sequence
        subscription.generation = feed.generation
        if not steps:
            frames = feed.snapshot()
            metrics.sent("snapshot", 1, len(frames))
            reader.write(frames)
        elif after < subscription.at:
            frames = feed.changes_after(after)
            metrics.sent("delta", subscription.at - after, len(frames))
            reader.write(frames)
        if not reader.is_blocked:
            self._live.add(subscription)

    # --- for the upstream

    def load(self, ranked_list: bytes | memoryview) -> None:
        """Takes the whole list; raises ValueError."""
        if self.feed.load(ranked_list):
            self._replaced()

    def apply(self, list_delta: bytes | memoryview) -> None:
        """Takes the list's next change; raises ListRowsHole, ValueError."""
        if not self.feed.apply(list_delta):
            self._replaced()
            return
        if self._ahead:
            for subscription in [each for each in self._ahead if each.asked and each.asked <= self.feed.position]:
                self.place(subscription)
        if self._flush_timer is None:
            if self._may_flush_at <= self._loop.time():
                self.flush()
            elif self._may_flush_at != math.inf:
                self._flush_timer = self._loop.call_at(self._may_flush_at, self.flush)

    def set_problem(self, problem: str) -> None:
        """Why the list is not current; "" when it is."""
        if bool(problem) != bool(self.problem):
            self.problem_since = self._loop.time()
        self.problem = problem

    def refuse(self, message: str) -> None:
        """The scanner does not have this list: everybody is told, and nobody watches it any more."""
        for subscription in list(self._subscriptions):
            self.unsubscribe(subscription)
            subscription.reader.refuse(self.name, message)
        self.close()

    def flush(self) -> None:
        """Writes what has changed since the last flush to everybody who is live."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        first, newest = self._flushed, self.feed.position.sequence
        if newest == first:
            return
        self._flushed = newest
        if not self._live:
            return
        if not self.feed.holds_after(first):
            self._snapshot_to_all()
            return
        began = monotonic()
        burst = self.feed.changes_after(first)
        readers = list(self._live)
        for subscription in readers:
            subscription.reader.write(burst)
        self._may_flush_at = math.inf
        # uvloop writes at the end of this turn.
        self._loop.call_soon(self._flushed_since, began)
        metrics.sent("delta", (newest - first) * len(readers), len(burst) * len(readers))

    def _flushed_since(self, began: float) -> None:
        took = monotonic() - began
        metrics.FLUSH_SECONDS.observe(took)
        self._may_flush_at = self._loop.time() + max(self._limits.flush_seconds, BREATH * took)
        if self._flush_timer is None and self.pending:
            self._flush_timer = self._loop.call_at(self._may_flush_at, self.flush)

    def close(self) -> None:
        """Stops following the list; it is followed again when it is wanted."""
        for timer in (self._linger, self._flush_timer, *(each.timer for each in self._ahead)):
            if timer is not None:
                timer.cancel()
        self._linger = self._flush_timer = None
        if self._upstream is not None:
            self._upstream.cancel()
            self._upstream = None
            metrics.UPSTREAMS.dec()
        self.feed.forget()
        self.set_problem("")

    def _replaced(self) -> None:
        """The list has got somewhere without single steps."""
        self._flushed = self.feed.position.sequence
        self._snapshot_to_all()

    def _snapshot_to_all(self) -> None:
        self._live.clear()
        for subscription in list(self._subscriptions):
            # Whoever waits with a position, or for its reader, is left with that.
            if subscription.asked is None:
                subscription.at = NOTHING_SENT
            self.place(subscription)

    def _wait_ahead(self, subscription: Subscription) -> None:
        self._ahead.add(subscription)
        if subscription.timer is None:
            subscription.timer = self._loop.call_later(self._limits.ahead_seconds, self._give_up, subscription)

    def _give_up(self, subscription: Subscription) -> None:
        """This replica has not got where the client was: it goes back with us."""
        self._no_longer_ahead(subscription)
        subscription.asked = None
        self.place(subscription)

    def _no_longer_ahead(self, subscription: Subscription) -> None:
        self._ahead.discard(subscription)
        if subscription.timer is not None:
            subscription.timer.cancel()
            subscription.timer = None


OpenUpstream = Callable[[ListChannel], "asyncio.Task[None]"]
