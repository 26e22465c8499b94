"""Today's alerts: encoded once, held in order, for pages and for streams.

They follow from the frames alone, as the lists do: the same positions in every replica. Those that came before the
snapshot with which this process begins, or goes on, are the sequencer's, which holds the newest ones.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from tradeul.v1 import alerts_pb2, frame_pb2

from fastcore.alert_rules import AlertRule
from fastcore.ranked_list import ListUpdate
from services.kit.alerts.alert_rows import Row, row_of
from services.kit.alerts.encoding import AlertEncoder
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.ring import Position
from services.kit.runtime.logging import get_logger
from services.scanner import metrics
from services.scanner.core import ScannerCore

log = get_logger(__name__)

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

    `listeners` are called when there are new ones, or other ones; `store` with each new one, an encoded Alert; `began`
    when alerts before a position have not been seen.
    """

    def __init__(self, core: ScannerCore, max_held: int = MAX_HELD) -> None:
        # The event time since which every alert is held; None before there is a market.
        self.since_ns: int | None = None
        self.listeners: list[Callable[[], object]] = []
        self.store: Callable[[bytes], object] = lambda encoded: None
        self.began: Callable[[Position], object] = lambda position: None
        # Of earlier epochs, by position, ascending: the last ones, which a store may lack.
        self.earlier: dict[Position, HeldAlert] = {}
        self._core = core
        self._max_held = max_held
        self._epoch = 0
        self._newest = 0
        self._trading_date = ""
        # By sequence, ascending and without a hole.
        self._held: dict[int, HeldAlert] = {}
        self._encoder = AlertEncoder()
        # Of the sequencer, for the snapshot that is loaded next.
        self._recent: list[bytes] = []
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

    def at(self, position: Position) -> HeldAlert:
        """The alert at a position of any epoch. Raises KeyError when it is not held."""
        return self._held[position.sequence] if position.epoch == self._epoch else self.earlier[position]

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
        for event, encoded in self._encoder.encode(market):
            self._add(HeldAlert(event.sequence, event.time_ns, event.rule, event.symbol, event.quality, encoded))
            self.store(encoded)
            metrics.alerts(event.rule).inc()
        self._drop_oldest()
        self._notify()

    def take_recent(self, alerts: list[bytes]) -> None:
        """Takes the newest alerts before the snapshot that is loaded next, encoded and in order."""
        self._recent = alerts

    def market_replaced(self) -> None:
        """Goes on where the market's alerts are the next ones, or the sequencer has those between; else begins anew."""
        market, seen = self._core.market, self.position
        self._read_rules()
        recent, self._recent = dict(map(_held, self._recent)), []
        newest = Position(market.epoch, market.alert_sequence)
        if newest == seen and self.since_ns is not None:
            return
        unseen = [alert for position, alert in recent.items() if position > seen]
        of_epoch = _up_to(newest, recent)
        first = of_epoch[0].sequence if of_epoch else newest.sequence + 1
        if seen.epoch == newest.epoch and first <= seen.sequence + 1 <= newest.sequence + 1:
            self._trading_date = market.state.trading_date
            self._add_all(alert for alert in of_epoch if alert.sequence > seen.sequence)
        else:
            self._epoch, self._newest = newest.epoch, first - 1
            self._begin_day()
            self.earlier = {position: alert for position, alert in recent.items() if position.epoch < newest.epoch}
            if of_epoch:
                # Others of the first one's time may have made room.
                self.since_ns = of_epoch[0].time_ns + 1
            self._add_all(of_epoch)
            self.began(next(iter(recent), Position(newest.epoch, first)))
        for alert in unseen:
            self.store(alert.encoded)
        metrics.ALERTS_CAUGHT_UP.inc(len(unseen))
        self._notify()

    def _notify(self) -> None:
        for listener in self.listeners:
            listener()

    def _read_rules(self) -> None:
        market = self._core.market
        self._rules = {rule.name: rule for rule in (*market.disabled_alert_rules, *market.alert_rules)}

    def _begin_day(self) -> None:
        state = self._core.market.state
        self._trading_date = state.trading_date
        self.since_ns = state.now_ns
        self._held.clear()

    def _add_all(self, alerts: Iterable[HeldAlert]) -> None:
        for alert in alerts:
            self._add(alert)
        self._drop_oldest()

    def _add(self, alert: HeldAlert) -> None:
        self._newest = alert.sequence
        self._held[alert.sequence] = alert

    def _drop_oldest(self) -> None:
        while len(self._held) > self._max_held:
            dropped = self._held.pop(self.oldest)
            self.since_ns = dropped.time_ns + 1


def _up_to(newest: Position, alerts: dict[Position, HeldAlert]) -> list[HeldAlert]:
    """Those of an epoch, which are to end with its newest one and have no hole; none of them otherwise."""
    found = [alert for position, alert in alerts.items() if position.epoch == newest.epoch]
    if found and (found[-1].sequence, found[0].sequence) != (newest.sequence, newest.sequence - len(found) + 1):
        log.error("alerts of the sequencer are left out", expected_up_to=str(newest), found=len(found))
        return []
    return found


def _held(encoded: bytes) -> tuple[Position, HeldAlert]:
    """An encoded Alert by its position."""
    alert = alerts_pb2.Alert.FromString(encoded)
    quality = alert.quality if alert.HasField("quality") else None
    held = HeldAlert(alert.sequence, alert.time.ToNanoseconds(), alert.rule, alert.symbol, quality, encoded)
    return Position(alert.epoch, alert.sequence), held
