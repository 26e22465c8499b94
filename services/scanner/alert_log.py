"""Today's alerts as this process has seen them: encoded once, held in order, for pages and for streams.

They follow from the frames alone, as the lists do: the same positions in every replica.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tradeul.v1 import frame_pb2

from fastcore.alert_book import AlertEvent
from fastcore.alert_rules import AlertRule
from fastcore.alert_text import AlertText
from fastcore.ranked_list import ListUpdate
from services.kit.alerts.alert_rows import Row, row_of
from services.kit.alerts.encoding import encoded_alert
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.ring import Position
from services.scanner import metrics
from services.scanner.core import ScannerCore

# About 50 MB.
MAX_HELD: Final = 50_000
ALERT_RULES: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["alert_rules"].number


class HeldAlert(NamedTuple):
    """`encoded`: an Alert."""

    sequence: int
    time_ns: int
    rule: str
    symbol: str
    quality: float | None
    encoded: bytes

    @property
    def row(self) -> Row:
        """The symbol's row at that moment, as row_filter() takes it."""
        return row_of(self.encoded)


class AlertLog:
    """A listener of the hub, which holds at most `max_held` alerts of the day.

    `listeners` are called when there are new ones, or other ones; `store` with each new one, an encoded Alert.
    """

    def __init__(self, core: ScannerCore, max_held: int = MAX_HELD) -> None:
        # The event time since which every alert is held; None before there is a market.
        self.since_ns: int | None = None
        self.listeners: list[Callable[[], object]] = []
        self.store: Callable[[bytes], object] = lambda encoded: None
        self._core = core
        self._max_held = max_held
        self._epoch = 0
        self._newest = 0
        self._trading_date = ""
        # By sequence, ascending and without a hole.
        self._held: dict[int, HeldAlert] = {}
        self._texts: dict[str, AlertText] = {}
        self._rules: dict[str, AlertRule] = {}

    @property
    def position(self) -> Position:
        """The position of the newest alert."""
        return Position(self._epoch, self._newest)

    @property
    def oldest(self) -> int:
        """The sequence of the oldest alert held; one more than the newest when none is."""
        return self._newest - len(self._held) + 1

    @property
    def rules(self) -> dict[str, AlertRule]:
        """The rules in the stream, those in force and those that are switched off, by name."""
        return self._rules

    def get(self, sequence: int) -> HeldAlert:
        """Raises KeyError when it is not held."""
        return self._held[sequence]

    def newest_first(self, before: int | None = None) -> Iterator[HeldAlert]:
        """Yields the alerts before a sequence, all of them without one, the newest first."""
        first = self._newest if before is None else min(before - 1, self._newest)
        for sequence in range(first, self.oldest - 1, -1):
            yield self._held[sequence]

    def frame_applied(self, frame: Frame, _: list[ListUpdate]) -> None:
        """Takes the alerts of a watermark."""
        if frame.kind == ALERT_RULES:
            self._read_rules()
        if frame.kind != WATERMARK:
            return
        market = self._core.market
        if market.state.trading_date != self._trading_date:
            self._begin_day()
        if not market.alert_events:
            return
        for event in market.alert_events:
            self._add(event)
        while len(self._held) > self._max_held:
            dropped = self._held.pop(self.oldest)
            self.since_ns = dropped.time_ns + 1
        self._notify()

    def market_replaced(self) -> None:
        """Goes on where the market's alerts are the next ones, and begins anew where some were not seen."""
        market = self._core.market
        self._read_rules()
        if (market.epoch, market.alert_sequence) == self.position and self.since_ns is not None:
            return
        self._epoch, self._newest = market.epoch, market.alert_sequence
        self._begin_day()
        self._notify()

    def _notify(self) -> None:
        for listener in self.listeners:
            listener()

    def _read_rules(self) -> None:
        market = self._core.market
        self._rules = {rule.name: rule for rule in (*market.disabled_alert_rules, *market.alert_rules)}
        self._texts = {name: AlertText(rule.text) for name, rule in self._rules.items()}

    def _begin_day(self) -> None:
        state = self._core.market.state
        self._trading_date = state.trading_date
        self.since_ns = state.now_ns
        self._held.clear()

    def _add(self, event: AlertEvent) -> None:
        encoded = encoded_alert(event, self._core.market.state, self._texts[event.rule], self._epoch)
        self._newest = event.sequence
        self._held[event.sequence] = HeldAlert(
            event.sequence, event.time_ns, event.rule, event.symbol, event.quality, encoded
        )
        self.store(encoded)
        metrics.ALERTS.labels(event.rule).inc()
