"""One list or custom scan and its subscriptions: what the scanner sends goes out to all of them as the same bytes.

A subscription is live (it has everything up to the last flush), or in a group
(it gets what has changed at intervals), or neither: its reader's buffer is full,
the list is not loaded yet, or its client comes from a replica that was ahead.
Such a one costs nothing until `catch_up`.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.websocket_server import metrics
from services.websocket_server.client_messages import Subject
from services.websocket_server.limits import Limits
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.paced_groups import PacedGroups
from services.websocket_server.past_changes import PastChanges
from services.websocket_server.sources import Source
from services.websocket_server.subscription import NOTHING_SENT, Reader, Refusal, Subscription
from services.websocket_server.waiting import Waiting
from services.websocket_server.whole_lists import Cause, WholeLists

# After a flush that took long, so many times as long is left to everything else: one list never takes more than
# half of the loop. A longer pause would leave the processor idle while thousands wait for changes that are here.
BREATH: Final = 1.0


class ListBroadcast:
    """A list on its way from the scanner to its readers.

    `follow` is called when the list is first wanted and returns the task that
    feeds it by `load` and `apply`; it is cancelled when the list has had no
    subscription for a while. `on_close` is called when it is no longer followed.
    """

    def __init__(
        self, source: Source, limits: Limits, follow: "FollowList", on_close: Callable[[Source], None]
    ) -> None:
        self.source = source
        self.name = source.list_name
        is_scan = source.scan is not None
        held_bytes = limits.held_bytes if source.is_plain else limits.custom_held_bytes
        self.feed = ListFeed(
            self.name,
            limits.held_changes,
            held_bytes,
            source.selection,
            changed_fields_only=source.changed_fields_only,
        )
        self.past = PastChanges(self.feed, limits.held_changes, self._past_came)
        # Why the list is not current, and since when; "" while it is, or has no subscription.
        self.unhealthy_reason = ""
        self.unhealthy_since = 0.0
        # Is called when what has come was written to all that keep up.
        self.on_flush: Callable[[], None] = lambda: None
        self._linger_seconds = limits.scan_linger_seconds if is_scan else limits.linger_seconds
        self._on_close = on_close
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._follow = follow
        self._following: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._subscriptions: set[Subscription] = set()
        self._live: set[Subscription] = set()
        # Those that want updates at intervals.
        self.paced = PacedGroups(self.feed, self.catch_up)
        self._waiting = Waiting[Subscription](self.feed, limits, self._give_up)
        self._whole_lists = WholeLists(self.name)
        # Why the scanner last sent the whole list.
        self._reset_reason = ""
        self._flushed = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._may_flush_at = 0.0
        self._gauge = metrics.subscribers(self.name)

    @property
    def subscribers(self) -> int:
        return len(self._subscriptions)

    @property
    def is_idle(self) -> bool:
        """True while it has no subscription."""
        return not self._subscriptions

    @property
    def pending(self) -> int:
        """The number of changes that wait for the next flush."""
        return self.feed.position.sequence - self._flushed

    # --- for clients

    def subscribe(
        self,
        reader: Reader,
        subject: Subject,
        requested_position: Position | None,
        greeting: bytes = b"",
        wants_aggregates: bool = True,
        interval: float = 0.0,
    ) -> Subscription:
        """A subscription that begins with the changes after a position, or with a snapshot.

        `greeting` is written before, once the scanner has sent the list. `interval`: the least number of seconds
        between two updates.
        """
        subscription = Subscription(self, reader, subject, requested_position)
        subscription.greeting = greeting
        subscription.wants_aggregates = wants_aggregates
        self.paced.pace(subscription, interval)
        self._subscriptions.add(subscription)
        self._gauge.inc()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._following is None:
            self._following = self._follow(self)
            metrics.UPSTREAMS.inc()
        self.catch_up(subscription)
        return subscription

    def restart(
        self, subscription: Subscription, requested_position: Position | None, interval: float | None = None
    ) -> None:
        """Begins the subscription again: after a position, or with a snapshot; with the same interval for None."""
        self.suspend(subscription)
        if interval is not None:
            self.paced.pace(subscription, interval)
        subscription.requested_position = requested_position
        subscription.sequence = NOTHING_SENT
        subscription.cause = (Cause.NO_POSITION, "")
        self.catch_up(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        if subscription not in self._subscriptions:
            return
        self.suspend(subscription)
        self._subscriptions.discard(subscription)
        self._gauge.dec()
        if not self._subscriptions and self._linger is None:
            self._linger = self._loop.call_later(self._linger_seconds, self.close)

    def suspend(self, subscription: Subscription) -> None:
        """Writes nothing more to it until it catches up from where it is now."""
        if subscription in self._live:
            self._live.discard(subscription)
            subscription.sequence = self._flushed
            subscription.generation = self.feed.generation
        self.paced.leave(subscription)
        self._waiting.end(subscription)

    def catch_up(self, subscription: Subscription) -> None:
        """Writes what it misses and makes it live; does nothing while that is not possible."""
        feed, reader = self.feed, subscription.reader
        if reader.is_blocked or not feed.is_loaded or self._is_served(subscription):
            return
        requested = subscription.requested_position
        if requested is not None and requested > feed.position:
            self._waiting.wait_ahead(subscription)
            return
        if requested is not None and self.past.can_come(requested):
            self._waiting.wait_behind(subscription)
            self.past.request(requested)
            return
        self._waiting.end(subscription)
        self.flush()
        if reader.is_blocked or self._is_served(subscription):
            # Changes were dropped before they were flushed: everybody was sent the whole list.
            return
        requested = subscription.requested_position
        cause, details = self._whole_list_cause(subscription)
        after = subscription.sequence if requested is None else requested.sequence
        subscription.requested_position = None
        subscription.sequence = feed.position.sequence
        subscription.generation = feed.generation
        if subscription.greeting:
            reader.write(subscription.greeting)
            subscription.greeting = b""
        if cause is not None:
            frames = feed.snapshot(subscription.name_json, deflates=reader.deflates)
            metrics.sent("snapshot", 1, len(frames))
            self._whole_lists.sent(cause, details)
            reader.write(frames)
        elif after < subscription.sequence:
            frames = feed.changes_after(after, subscription.name_json, deflates=reader.deflates)
            metrics.sent("delta", subscription.sequence - after, len(frames))
            reader.write(frames)
        if reader.is_blocked:
            return
        if subscription.interval:
            self.paced.join(subscription)
        else:
            self._live.add(subscription)

    def _whole_list_cause(self, subscription: Subscription) -> tuple[Cause | None, str]:
        """Why it has to be sent the whole list, with details; None where the changes that it misses will do."""
        feed, requested = self.feed, subscription.requested_position
        if requested is not None:
            if requested.epoch != feed.position.epoch:
                return Cause.EPOCH, f"{requested.epoch} before {feed.position.epoch}"
            if not feed.holds_after(requested.sequence):
                return Cause.GONE, self.past.lost_reason(requested)
            return None, ""
        after = subscription.sequence
        if after == NOTHING_SENT or subscription.generation != feed.generation:
            return subscription.cause
        # A reader that was too slow, or came between two updates of its group, gets the shorter of the two.
        is_shorter = not feed.holds_after(after) or feed.bytes_after(after) > len(feed.snapshot())
        reader = "a new client with an interval" if subscription.interval else "a slow client"
        return (Cause.SHORTER, reader) if is_shorter else (None, "")

    # --- for the follower of the scanner

    def reset(self, reason: str) -> None:
        """Takes why the scanner sends the whole list, if that comes next."""
        self._reset_reason = reason

    def load(self, ranked_list: bytes | memoryview) -> None:
        """Takes the whole list; raises ValueError."""
        if self.feed.load(ranked_list):
            self._flushed = self.feed.position.sequence
            self._whole_to_all(Cause.REPLACED, self._reset_reason)
            self.on_flush()

    def apply(self, list_delta: bytes | memoryview) -> None:
        """Takes the list's next change; raises ListHole, ValueError."""
        mean_bytes = self.feed.mean_bytes
        if not self.feed.apply(list_delta):
            self._merged(mean_bytes)
            return
        for subscription in list(self._waiting.ahead):
            self.catch_up(subscription)
        self.paced.changed()
        if self._flush_timer is None:
            if self._may_flush_at <= self._loop.time():
                self.flush()
            elif self._may_flush_at != math.inf:
                self._flush_timer = self._loop.call_at(self._may_flush_at, self.flush)

    def set_unhealthy_reason(self, reason: str) -> None:
        """Takes why the list is not current; "" when it is."""
        if bool(reason) != bool(self.unhealthy_reason):
            self.unhealthy_since = self._loop.time()
        self.unhealthy_reason = reason

    def refuse(self, refusal: Refusal) -> None:
        """Ends all subscriptions with an error, since the scanner does not have this list."""
        for subscription in list(self._subscriptions):
            self.unsubscribe(subscription)
            subscription.reader.refuse(subscription.subject, refusal)
        self.close()

    def flush(self) -> None:
        """Writes the changes since the last flush to all live subscriptions."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        first, newest = self._flushed, self.feed.position.sequence
        if newest == first:
            return
        self._flushed = newest
        if not self._live:
            self.on_flush()
            return
        if not self.feed.holds_after(first):
            self._whole_to_all(Cause.SHORTER)
            self.on_flush()
            return
        began = monotonic()
        # One for all, but for the names that clients give their scans, and for compression.
        bursts: dict[tuple[bytes, bool], bytes] = {}
        readers = list(self._live)
        size = 0
        for subscription in readers:
            name, deflates = subscription.name_json, subscription.reader.deflates
            if (burst := bursts.get((name, deflates))) is None:
                burst = bursts[name, deflates] = self.feed.changes_after(first, name, deflates=deflates)
            size += len(burst)
            subscription.reader.write(burst)
        self._may_flush_at = math.inf
        # uvloop writes to the sockets at the end of this turn of the loop.
        self._loop.call_soon(self._flushed_since, began)
        metrics.sent("delta", (newest - first) * len(readers), size)

    def _flushed_since(self, began: float) -> None:
        took = monotonic() - began
        metrics.FLUSH_SECONDS.observe(took)
        self.on_flush()
        self._may_flush_at = self._loop.time() + max(self._limits.flush_seconds, BREATH * took)
        if self._flush_timer is None and self.pending:
            self._flush_timer = self._loop.call_at(self._may_flush_at, self.flush)

    def close(self) -> None:
        """Stops following the list; it is followed again when it is wanted."""
        for timer in (self._linger, self._flush_timer):
            if timer is not None:
                timer.cancel()
        self._linger = self._flush_timer = None
        if self._following is not None:
            self._following.cancel()
            self._following = None
            metrics.UPSTREAMS.dec()
        self.paced.close()
        self.past.close()
        self._waiting.close()
        self._whole_lists.log()
        self.feed.forget()
        self.set_unhealthy_reason("")
        self._on_close(self.source)

    def _is_served(self, subscription: Subscription) -> bool:
        return subscription in self._live or subscription in self.paced

    def _merged(self, mean_bytes: float) -> None:
        """Goes on after several changes in one, which no client can take; each change took `mean_bytes` before.

        The scanner merges changes for a server that is behind, and still has each of them. They are requested where
        they are likely less than the whole list.
        """
        feed, flushed = self.feed, self._flushed
        self._flushed = feed.position.sequence
        steps, whole = self._flushed - flushed, len(feed.snapshot())
        if self.past.fetch is not None and 0 < steps * mean_bytes <= whole:
            for subscription in self._live:
                subscription.requested_position = Position(feed.position.epoch, flushed)
            for subscription in self.paced:
                subscription.requested_position = Position(feed.position.epoch, subscription.sequence)
        details = f"{steps} changes of about {mean_bytes:.0f} bytes, the list has {whole}"
        self._whole_to_all(Cause.MERGED, details)
        self.on_flush()

    def _whole_to_all(self, cause: Cause, details: str = "") -> None:
        self._live.clear()
        self.paced.close()
        for subscription in list(self._subscriptions):
            # One with a requested position keeps waiting for it.
            if subscription.requested_position is None and subscription.sequence != NOTHING_SENT:
                subscription.sequence = NOTHING_SENT
                subscription.cause = (cause, details)
            self.catch_up(subscription)

    def _past_came(self) -> None:
        for subscription in list(self._waiting.behind):
            self.catch_up(subscription)

    def _give_up(self, subscription: Subscription, cause: Cause) -> None:
        """Brings a client to the position of this replica, which it cannot reach from its own in time."""
        subscription.requested_position = None
        subscription.sequence = NOTHING_SENT
        subscription.cause = (cause, "")
        self.catch_up(subscription)


FollowList = Callable[[ListBroadcast], "asyncio.Task[None]"]
