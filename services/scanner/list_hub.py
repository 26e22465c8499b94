"""Turns the sequencer's frames into changes of lists in the streams of their subscribers.

Everything here runs on the event loop and never waits: when `apply` returns,
the frame's changes are in the streams of the built-in lists. What else a watermark
leads to follows when those who wait for the lists have been written to: the alerts,
what is stored, and the custom scans, a few in each turn of the loop.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from tradeul.v1 import frame_pb2

from fastcore.ranked_list import ListUpdate
from services.kit.rpc.frames import Frame, FrameError
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.market_copy import WATERMARK, MarketCopy
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic, wall_ns
from services.kit.runtime.errors import TOO_MANY_STREAMS
from services.scanner import metrics
from services.scanner.compiled_scan import CompiledScan
from services.scanner.core import SCAN, ScannerCore
from services.scanner.crowd import MEASURE_SECONDS, MESSAGES_PER_SECOND, fair_interval
from services.scanner.custom_scans import MAX_SCANS, MAX_STEPS, CustomScans, Scan
from services.scanner.list_stream import MAX_HELD, ListStream, ListSubscription
from services.scanner.metrics import LagMeter, last_trade_ns
from services.scanner.turns import Turns

MAX_SUBSCRIBERS: Final = 10_000
TRADES: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["trades"].number


class ListListener(Protocol):
    """Is called after what was published is in the streams, and once the watermark's alerts have been found.

    Its methods may not wait, and should be brief.
    """

    def frame_applied(self, frame: Frame, updates: list[ListUpdate]) -> None:
        """A frame was applied and changed these lists."""

    def market_replaced(self) -> None:
        """The market is another one, or the same one at another position."""


class ListHub(MarketCopy[list[ListUpdate]]):
    """The scanner's copy of the market, and the source of every list stream.

    `measures_lag`: True if trades' times can be compared with the wall clock;
    `max_held`: changes of a list that are held for subscribers that resume; `messages_per_second`: how many are sent
    before changes are merged.
    """

    def __init__(
        self,
        core: ScannerCore,
        *,
        measures_lag: bool,
        max_subscribers: int = MAX_SUBSCRIBERS,
        max_scans: int = MAX_SCANS,
        max_key_steps: int = MAX_STEPS,
        max_held: int = MAX_HELD,
        messages_per_second: float = MESSAGES_PER_SECOND,
    ) -> None:
        super().__init__(core, metrics.SERVICE, metrics.IS_CURRENT)
        self.core = core
        self.lag = LagMeter() if measures_lag else None
        self.last_refresh_ns: int | None = None
        self.subscribers = 0
        self.listeners: list[ListListener] = []
        self.scans = CustomScans(self._scan_stream, max_scans, max_key_steps=max_key_steps)
        self._streams: dict[str, ListStream] = {}
        self._max_subscribers = max_subscribers
        self._max_held = max_held
        # Those in which many changes of a list become one, for subscribers that are behind.
        self._turns = Turns()
        self._closing: str | None = None
        self._scan_turn: asyncio.Handle | None = None
        self._scans_began = 0.0
        self._budget = messages_per_second
        self._measure_at = 0.0
        # The last watermark and the lists that it changed, while its alerts and the listeners are still to follow.
        self._unsettled: tuple[Frame, list[ListUpdate]] | None = None

    # --- the copy of the market

    def apply(self, frame: Frame) -> None:
        """Applies a frame and publishes what it changed; raises FrameError."""
        self.settle()
        began = monotonic()
        super().apply(frame)
        if frame.kind == WATERMARK:
            metrics.REFRESH_SECONDS.observe(monotonic() - began)
            self.last_refresh_ns = wall_ns()
            if self.lag is not None:
                for seconds in self.lag.refreshed(self.last_refresh_ns):
                    metrics.LIST_LAG.observe(seconds)
            self._begin_scans()
            self._pace_crowd()

    def frame_applied(self, frame: Frame, updates: list[ListUpdate]) -> None:
        if self.lag is not None and frame.kind == TRADES and (trade_ns := last_trade_ns(frame.body)) is not None:
            self.lag.add_trade(trade_ns)
        for update in updates:
            stream = self._streams[update.list]
            stream.publish(update.previous_sequence, update.sequence, update.message, update.changed)
            metrics.list_updates(update.list).inc()
        if frame.kind == WATERMARK:
            self._unsettled = frame, updates
        else:
            self._notify(frame, updates)

    @property
    def is_settled(self) -> bool:
        """False for the moment between a watermark's lists and its alerts."""
        return self._unsettled is None

    def settle(self) -> None:
        """Does what the last watermark still needs, if anything: its alerts, then the listeners. Raises FrameError."""
        if self._unsettled is None:
            return
        (frame, updates), self._unsettled = self._unsettled, None
        with metrics.SETTLE_SECONDS.time():
            try:
                self.core.market.refresh_alerts()
            except ValueError as error:
                raise FrameError(f"alerts of frame {frame.position} cannot be found: {error}") from error
            self._notify(frame, updates)

    def _notify(self, frame: Frame, updates: list[ListUpdate]) -> None:
        for listener in self.listeners:
            listener.frame_applied(frame, updates)

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the market by a snapshot; raises FrameError."""
        self.settle()
        with metrics.LOAD_SECONDS.time():
            super().load(data, position)

    def market_replaced(self, reason: str) -> None:
        core = self.core
        for name in core.definitions:
            position = core.list_position(name)
            if (stream := self._streams.get(name)) is None:
                self._streams[name] = self._stream(name, position, functools.partial(core.ranked_list, name))
            elif stream.position != position:
                # At the same position it is the same list, and subscribers continue.
                stream.restart(position, reason)
        self.scans.replace_market(core.market, core.scan_position, reason)
        for listener in self.listeners:
            listener.market_replaced()

    def _begin_scans(self) -> None:
        self.scans.begin_refresh()
        if self._scan_turn is None and self.scans.is_due:
            self._scans_began = monotonic()
            # After the subscribers that have just been woken.
            self._scan_turn = asyncio.get_running_loop().call_soon(self._refresh_scans)

    def _refresh_scans(self) -> None:
        self._scan_turn = None
        changes = self.scans.refresh(self.core.market)
        metrics.list_updates(SCAN).inc(changes)
        if self.scans.is_due:
            self._scan_turn = asyncio.get_running_loop().call_soon(self._refresh_scans)
        else:
            metrics.SCAN_REFRESH_SECONDS.observe(monotonic() - self._scans_began)

    # --- subscriptions

    @property
    def slow_subscribers(self) -> int:
        """The number of subscribers that fell behind and have not caught up."""
        return sum(stream.slow for stream in self._streams.values()) + sum(scan.stream.slow for scan in self.scans)

    def _pace_crowd(self) -> None:
        """Sets how often subscribers get updates, where all of them together want too many."""
        now = asyncio.get_running_loop().time()
        if now < self._measure_at:
            return
        self._measure_at = now + MEASURE_SECONDS
        streams = (*self._streams.values(), *(scan.stream for scan in self.scans))
        demands = [demand for stream in streams for demand in stream.demands(now)]
        interval = fair_interval(demands, self._budget)
        for stream in streams:
            stream.pace(interval)
        metrics.LEAST_INTERVAL.set(interval)

    @contextlib.contextmanager
    def list_subscription(
        self,
        name: str,
        requested_position: Position | None,
        min_interval_ms: int,
        *,
        changed_fields_only: bool = False,
        is_internal: bool = False,
    ) -> Iterator[ListSubscription]:
        """A subscriber of a built-in list, counted meanwhile. Raises NOT_READY, TOO_MANY_STREAMS."""
        self.core.market  # noqa: B018  NOT_READY while there is none
        interval = min_interval_ms / 1000
        with self._counted(name):
            yield ListSubscription(
                self._streams[name],
                requested_position,
                interval,
                changed_fields_only=changed_fields_only,
                is_internal=is_internal,
            )

    def tap(self, name: str, min_interval_ms: int) -> ListSubscription:
        """A subscription of this process's own, which is not counted. KeyError before there is a market."""
        return ListSubscription(self._streams[name], None, min_interval_ms / 1000, is_internal=True)

    @contextlib.contextmanager
    def scan_subscription(
        self,
        compiled: CompiledScan,
        limit: int,
        min_interval_ms: int,
        watcher: RequestKey | None = None,
        *,
        changed_fields_only: bool = False,
        is_internal: bool = False,
    ) -> Iterator[ListSubscription]:
        """The same of a custom scan, which is kept while it has subscribers. Raises TOO_MANY_SCANS, too."""
        market, interval = self.core.market, min_interval_ms / 1000
        with self._counted(SCAN):
            scan = self.scans.open(market, compiled, limit, watcher)
            self._show_scans()
            try:
                yield ListSubscription(
                    scan.stream, None, interval, changed_fields_only=changed_fields_only, is_internal=is_internal
                )
            finally:
                # By now it may be another market.
                self.scans.release(self.core.market, scan, watcher)
                self._show_scans()

    def _show_scans(self) -> None:
        metrics.OPEN_SCANS.set(len(self.scans))
        metrics.SCAN_STEPS.set(self.scans.steps)

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away; new ones get it at once."""
        self._closing = reason
        if self._scan_turn is not None:
            self._scan_turn.cancel()
        for stream in self._streams.values():
            stream.close(reason)
        self.scans.close(reason)

    @contextlib.contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        if self.subscribers >= self._max_subscribers:
            raise TOO_MANY_STREAMS.error(
                f"limit reached: {self._max_subscribers} subscribers", maximum=self._max_subscribers
            )
        self.subscribers += 1
        gauge = metrics.subscribers(name)
        gauge.inc()
        try:
            yield
        finally:
            self.subscribers -= 1
            gauge.dec()

    def _scan_stream(self, scan: Scan) -> ListStream:
        core = self.core
        return self._stream(SCAN, core.scan_position(scan.handle), lambda: core.scan(scan.handle))

    def _stream(self, name: str, position: Position, take_snapshot: Callable[[], bytes]) -> ListStream:
        gauge, events = metrics.slow_subscribers(name), metrics.SLOW_EVENTS.labels(name)

        def on_slow(is_slow: bool) -> None:
            if is_slow:
                events.inc()
            gauge.inc(1 if is_slow else -1)

        stream = ListStream(name, position, take_snapshot, on_slow, max_held=self._max_held, turns=self._turns)
        if self._closing is not None:
            stream.close(self._closing)
        return stream
