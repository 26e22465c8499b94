"""Where the sequencer's frames become list changes in the hands of the subscribers.

Everything here runs on the event loop and never waits: when `apply` returns,
the frame's changes are in the streams of their lists.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic, wall_ns
from services.kit.runtime.errors import TOO_MANY_STREAMS
from services.scanner import metrics
from services.scanner.core import Applied, ScannerCore, checked_query
from services.scanner.lag import LagMeter
from services.scanner.list_stream import MAX_HELD, ListStream
from services.scanner.list_subscription import ListSubscription
from services.scanner.scans import MAX_SCANS, Scan, ScanKey, ScanRegistry

MAX_SUBSCRIBERS: Final = 10_000
# A message to one subscriber costs about half of this: in a crowd changes are merged, so that sending
# leaves the other half of a core to the market.
MESSAGE_SECONDS: Final = 0.0002
# Fewer subscribers than so many are no crowd: each gets every change.
CROWD: Final = 100
# What own lists are called in messages and metrics.
SCAN: Final = "scan"


class HubListener(Protocol):
    """Hears of what is published, after it is in the streams. Its methods may not wait, and should be brief."""

    def applied(self, applied: Applied) -> None:
        """A frame was applied."""

    def replaced(self) -> None:
        """The market is another one, or the same at another position."""


class ListHub:
    """The frame reader's sink, and the source of every list stream.

    `measures_lag`: whether trades' times can be compared with the wall clock;
    `max_held`: changes of a list that are held for those who come back.
    """

    def __init__(
        self,
        core: ScannerCore,
        *,
        measures_lag: bool,
        max_subscribers: int = MAX_SUBSCRIBERS,
        max_scans: int = MAX_SCANS,
        max_held: int = MAX_HELD,
    ) -> None:
        self.core = core
        self.problem = "not connected to data_ingest yet"
        self.lag = LagMeter() if measures_lag else None
        self.last_refresh_ns: int | None = None
        self.subscribers = 0
        self.listeners: list[HubListener] = []
        self.scans = ScanRegistry(self._scan_stream, max_scans)
        self._streams: dict[str, ListStream] = {}
        self._max_subscribers = max_subscribers
        self._max_held = max_held
        self._closing: str | None = None
        self._current = asyncio.Event()

    async def until_current(self) -> None:
        """Waits until there is a state and it follows the sequencer."""
        await self._current.wait()

    # --- what the frame reader feeds

    @property
    def position(self) -> Position | None:
        return self.core.position

    def apply(self, frame: memoryview) -> None:
        """Applies a frame and publishes what it changed; raises StreamHole, FrameError."""
        began = monotonic()
        applied = self.core.apply(frame)
        metrics.FRAMES_APPLIED.inc()
        if applied.begins:
            self._market_replaced("the sequencer began a new epoch")
        if applied.trade_ns is not None and self.lag is not None:
            self.lag.saw(applied.trade_ns)
        for update in applied.updates:
            stream = self._streams.get(update.list)
            if stream is None:
                self.scans.publish(update)
                metrics.list_updates(SCAN).inc()
            else:
                stream.publish(update.previous_sequence, update.sequence, update.delta)
                metrics.list_updates(update.list).inc()
        for listener in self.listeners:
            listener.applied(applied)
        if applied.is_watermark:
            metrics.REFRESH_SECONDS.observe(monotonic() - began)
            self.last_refresh_ns = wall_ns()
            if self.lag is not None:
                for seconds in self.lag.refreshed(self.last_refresh_ns):
                    metrics.LIST_LAG.observe(seconds)

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the whole state; raises FrameError."""
        began = monotonic()
        self.core.load(data, position)
        metrics.WHOLE_STATES.inc()
        self._market_replaced(f"the whole state was taken anew at {position}")
        metrics.LOAD_SECONDS.observe(monotonic() - began)

    def forget(self) -> None:
        self.core.forget()

    def set_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            metrics.IS_CURRENT.set(not problem)
            self._note_current()

    def _note_current(self) -> None:
        """Whether there is a state that follows: an epoch's first frame may come long after "current"."""
        if self.core.is_loaded and not self.problem:
            self._current.set()
        else:
            self._current.clear()

    # --- what the servicer asks for

    @property
    def slow_subscribers(self) -> int:
        """Subscribers that fell behind and have not caught up."""
        return sum(stream.slow for stream in self._streams.values()) + sum(scan.stream.slow for scan in self.scans)

    def least_interval(self) -> float:
        """Seconds that every subscriber has to leave between updates."""
        return self.subscribers * MESSAGE_SECONDS if self.subscribers > CROWD else 0.0

    @contextlib.contextmanager
    def list_subscription(self, name: str, asked: Position | None, min_interval_ms: int) -> Iterator[ListSubscription]:
        """A subscriber of a built-in list, counted meanwhile. Raises NOT_READY, TOO_MANY_STREAMS."""
        self.core.market  # noqa: B018  NOT_READY while there is none
        with self._counted(name):
            yield self._streams[name].subscribe(asked, min_interval_ms)

    def tap(self, name: str, min_interval_ms: int) -> ListSubscription:
        """A subscription of this process's own, which is not counted. KeyError before there is a market."""
        return self._streams[name].subscribe(None, min_interval_ms)

    @contextlib.contextmanager
    def scan_subscription(
        self, filter_text: str, order_by: str, limit: int, min_interval_ms: int
    ) -> Iterator[ListSubscription]:
        """The same of an own list, which is kept while somebody follows it. Raises TOO_MANY_SCANS, too."""
        market = self.core.market
        checked_query(filter_text, order_by)
        with self._counted(SCAN):
            scan = self.scans.open(market, ScanKey(filter_text.strip(), order_by.strip(), limit))
            metrics.OPEN_SCANS.set(len(self.scans))
            try:
                yield scan.stream.subscribe(None, min_interval_ms)
            finally:
                # By now it may be another market.
                self.scans.release(self.core.market, scan)
                metrics.OPEN_SCANS.set(len(self.scans))

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away; new ones get it at once."""
        self._closing = reason
        for stream in self._streams.values():
            stream.close(reason)
        self.scans.close(reason)

    @contextlib.contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        if self.subscribers >= self._max_subscribers:
            raise TOO_MANY_STREAMS.error(
                f"{self._max_subscribers} subscribers are here already, which is the most",
                maximum=self._max_subscribers,
            )
        self.subscribers += 1
        gauge = metrics.subscribers(name)
        gauge.inc()
        try:
            yield
        finally:
            self.subscribers -= 1
            gauge.dec()

    def _market_replaced(self, reason: str) -> None:
        core = self.core
        for name in core.definitions:
            position = core.list_position(name)
            if (stream := self._streams.get(name)) is None:
                self._streams[name] = self._stream(name, position, functools.partial(core.ranked_list, name))
            elif stream.position != position:
                # At the same position it is the same list: subscribers need not hear of it.
                stream.restart(position, reason)
        self.scans.replace_market(core.market, core.scan_position, reason)
        for listener in self.listeners:
            listener.replaced()
        self._note_current()

    def _scan_stream(self, scan: Scan) -> ListStream:
        core = self.core
        return self._stream(SCAN, core.scan_position(scan.handle), lambda: core.scan(scan.handle))

    def _stream(self, name: str, position: Position, take_snapshot: Callable[[], bytes]) -> ListStream:
        gauge, events = metrics.slow_subscribers(name), metrics.slow_events(name)

        def on_slow(is_slow: bool) -> None:
            if is_slow:
                events.inc()
            gauge.inc(1 if is_slow else -1)

        stream = ListStream(name, position, take_snapshot, on_slow, self.least_interval, max_held=self._max_held)
        if self._closing is not None:
            stream.close(self._closing)
        return stream
