"""Subscriptions of one list that get what has changed at the same times, as one change."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final

from services.kit.rpc.pacing import AFTER_LATE, GROUPS, ON_TIME, Phases, next_tick
from services.websocket_server import metrics
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.subscription import Subscription

# Two updates of a group, and those of two groups with the same interval, are so far apart.
LEAST_SECONDS: Final = 0.05
# The steps of intervals, up to which they count.
STEPS: Final = ((1.0, LEAST_SECONDS), (10.0, 0.5), (math.inf, 5.0))


class PacedGroup:
    """`interval`: the seconds between two updates; `phase`: see next_tick(). `bring_into_step` is called with one that
    came after the last update, and so misses something else than the others: it has to join again.
    """

    def __init__(
        self, feed: ListFeed, interval: float, phase: float, bring_into_step: Callable[[Subscription], None]
    ) -> None:
        self._feed = feed
        self._interval = interval
        self._phase = phase
        self._bring_into_step = bring_into_step
        self._loop = asyncio.get_running_loop()
        self._members: set[Subscription] = set()
        # The position and the ranks of the last update.
        self._sequence = 0
        self._ranks: Mapping[bytes, int] = {}
        self._may_send_at = 0.0
        # True if the next update has been waiting for its time, so that it comes then or late.
        self._was_due = False
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._members)

    def __contains__(self, subscription: Subscription) -> bool:
        return subscription in self._members

    def add(self, subscription: Subscription) -> None:
        """Takes one that has everything up to the newest change."""
        if not self._members:
            self._begin()
        self._members.add(subscription)

    def discard(self, subscription: Subscription) -> None:
        self._members.discard(subscription)
        if not self._members:
            self.close()

    def close(self) -> None:
        """Sends nothing more."""
        self._members.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def changed(self) -> None:
        """There is something new to send, at once or when the time has come."""
        if self._members and self._timer is None:
            self._was_due = self._may_send_at > self._loop.time()
            self._timer = self._loop.call_at(self._may_send_at, self._send)

    def _begin(self) -> None:
        self._sequence, self._ranks = self._feed.position.sequence, self._feed.ranks
        least = AFTER_LATE if self._was_due else ON_TIME
        self._may_send_at = next_tick(self._loop.time(), self._interval, self._phase, least)
        self._was_due = False

    def _send(self) -> None:
        self._timer = None
        feed, sequence, ranks = self._feed, self._sequence, self._ranks
        newest = feed.position.sequence
        # A list that can no longer be trusted has no rows: what comes next is the whole of it.
        if newest == sequence or not feed.is_loaded:
            return
        self._begin()
        # One for all, but for the names that clients give their scans, and for compression.
        updates: dict[tuple[bytes, bool], bytes] = {}
        size = sent = 0
        for subscription in list(self._members):
            if subscription not in self._members:
                # Its client's buffer was filled by another list or scan in this group.
                continue
            if subscription.sequence != sequence:
                if subscription.sequence != newest:
                    self._bring_into_step(subscription)
                continue
            name, deflates = subscription.name_json, subscription.reader.deflates
            if (update := updates.get((name, deflates))) is None:
                update = updates[name, deflates] = feed.merged(sequence, ranks, name, deflates=deflates)
            subscription.sequence = newest
            size += len(update)
            sent += 1
            subscription.reader.write(update)
        metrics.sent("delta", sent, size)


class PacedGroups:
    """A list's subscriptions with an interval, each in the group with the same interval and phase.

    `catch_up` writes to a subscription what it misses, after which it joins again.
    """

    def __init__(self, feed: ListFeed, catch_up: Callable[[Subscription], None]) -> None:
        self._feed = feed
        self._catch_up = catch_up
        self._phases = Phases(feed.name)
        self._groups: dict[tuple[float, float], PacedGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Subscription]:
        """Yields those that have joined."""
        return chain.from_iterable(self._groups.values())

    def __contains__(self, subscription: Subscription) -> bool:
        group = self._groups.get(_key(subscription))
        return group is not None and subscription in group

    def pace(self, subscription: Subscription, interval: float) -> None:
        """Sets the least number of seconds between two updates of one that has not joined; 0 for none."""
        subscription.interval = least_interval(interval)
        subscription.phase = self._phases.take(groups_of(subscription.interval)) if interval else 0.0

    def join(self, subscription: Subscription) -> None:
        """Takes one that has everything up to the newest change."""
        if not self._groups:
            self._feed.note_changes(is_noted=True)
        if (group := self._groups.get(key := _key(subscription))) is None:
            group = self._groups[key] = PacedGroup(self._feed, *key, self._bring_into_step)
        group.add(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Sends it nothing more; does nothing for one that has not joined."""
        if subscription not in self:
            return
        group = self._groups[key := _key(subscription)]
        group.discard(subscription)
        if not len(group):
            del self._groups[key]
        self._end_notes()

    def changed(self) -> None:
        """There is something new to send."""
        for group in self._groups.values():
            group.changed()

    def close(self) -> None:
        """Sends nothing more to any of them; all may join again."""
        for group in self._groups.values():
            group.close()
        self._groups.clear()
        self._end_notes()

    def _end_notes(self) -> None:
        if not self._groups:
            self._feed.note_changes(is_noted=False)

    def _bring_into_step(self, subscription: Subscription) -> None:
        self.leave(subscription)
        self._catch_up(subscription)


def least_interval(seconds: float) -> float:
    """Returns the interval that is served for one that is wanted, the next longer one of a few: each has groups of its
    own, and each of these has its updates made for itself.
    """
    if not seconds:
        return 0.0
    step = next(step for most, step in STEPS if seconds <= most)
    return math.ceil(round(seconds / step, 6)) * step


def groups_of(interval: float) -> int:
    """Returns over how many groups the subscriptions of a list with this interval are spread."""
    return max(1, min(GROUPS, round(interval / LEAST_SECONDS)))


def _key(subscription: Subscription) -> tuple[float, float]:
    return subscription.interval, subscription.phase
