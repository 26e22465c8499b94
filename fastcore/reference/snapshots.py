"""Rows of the vendor's full snapshot in a symbol's day, and the volume that follows from them."""

import math
from dataclasses import dataclass, field
from typing import Final

from fastcore.reference.day_events import Bar, Day, Snapshot, SymbolDay, Trade

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
# Trades so long before a snapshot are settled: no later bar or trade changes it.
SETTLED_SECONDS: Final = 1_200


@dataclass(frozen=True)
class Point:
    """A price that a snapshot reports: when it was, and the time by which it belongs to a session."""

    time: int
    place: int
    price: float


def points_of(snapshot: Snapshot, day: Day) -> list[Point]:
    points = []
    if snapshot.minute_start >= day.start and not math.isnan(snapshot.minute_close):
        points.append(Point(_minute_end(snapshot), snapshot.minute_start, snapshot.minute_close))
    if snapshot.trade_time >= day.start and not math.isnan(snapshot.trade_price):
        points.append(Point(snapshot.trade_time, snapshot.trade_time, snapshot.trade_price))
    return points


def accepted(events: SymbolDay, day: Day) -> list[Snapshot]:
    """Those of this day."""
    return [row for row in events.snapshots if day.start <= row.updated < day.end]


def has_shares(snapshot: Snapshot, day: Day) -> bool:
    """True if it has a volume of today; one without a time of its minute is as of `updated`."""
    return snapshot.accumulated > 0 and (snapshot.minute_start >= day.start or snapshot.minute_start == 0)


@dataclass(frozen=True)
class Bars:
    """Shares and dollars of the day before `end`."""

    end: int
    shares: float
    dollars: float


@dataclass
class Repair:
    """Shares of the day before `until`, as a snapshot reports them, and the trades that came after."""

    until: int
    shares: float
    after: list[Trade]

    @property
    def total(self) -> float:
        return math.fsum([self.shares, *(trade.size for trade in self.after)])


@dataclass
class Volume:
    """A symbol's volume while its events come in, one by one."""

    bars: Bars | None = None
    repair: Repair | None = None
    trades: list[Trade] = field(default_factory=list)

    @property
    def shares(self) -> float:
        return self.priced_shares if self.repair is None else self.repair.total

    @property
    def priced_shares(self) -> float:
        """The shares whose dollars are known."""
        before = self.bars.shares if self.bars is not None else 0.0
        return math.fsum([before, *(trade.size for trade in self._uncovered())])

    @property
    def dollars(self) -> float:
        before = self.bars.dollars if self.bars is not None else 0.0
        return math.fsum([before, *(trade.price * trade.size for trade in self._uncovered())])

    def take_trade(self, trade: Trade) -> None:
        if self.bars is not None and trade.time < self.bars.end:
            return
        self.trades.append(trade)
        if self.repair is not None and trade.time >= self.repair.until:
            self.repair.after.append(trade)

    def take_bar(self, end: int, shares: float, dollars: float) -> None:
        if self.bars is not None and end < self.bars.end:
            return
        if self.repair is not None and self.repair.until <= end:
            self.repair = None
        self.bars = Bars(end, shares, dollars)

    def take_snapshot(self, until: int, shares: float, single_from: int) -> None:
        self._settle((until // SECOND - SETTLED_SECONDS) * SECOND)
        if self.bars is not None and until < self.bars.end:
            return
        if self.repair is not None and until < self.repair.until:
            return
        if self.repair is not None and until == self.repair.until:
            after = self.repair.after
        else:
            after = [trade for trade in self._uncovered() if _latest_time(trade, single_from) >= until]
        repair = Repair(until, shares, after)
        if repair.total > self.shares * (1 + 1e-9):
            self.repair = repair

    def _settle(self, end: int) -> None:
        """Makes a bar of the trades before `end`, if there are any."""
        old = [trade for trade in self._uncovered() if trade.time < end]
        if old:
            before = self.bars or Bars(0, 0.0, 0.0)
            shares = math.fsum([before.shares, *(trade.size for trade in old)])
            self.bars = Bars(end, shares, math.fsum([before.dollars, *(trade.price * trade.size for trade in old)]))

    def _uncovered(self) -> list[Trade]:
        """The trades that no bar covers."""
        return [trade for trade in self.trades if self.bars is None or trade.time >= self.bars.end]


def _latest_time(trade: Trade, single_from: int) -> int:
    """Of an older trade only the second is known: it counts as the beginning of that second."""
    return trade.time if trade.order >= single_from else trade.time // SECOND * SECOND


def volumes_of(events: SymbolDay, day: Day) -> tuple[Volume, Volume]:
    """The day's volume, and the same counted to the open."""
    whole, premarket = Volume(), Volume()
    today = accepted(events, day)
    for event in events.arrivals:
        if isinstance(event, Trade) and event.has_volume:
            whole.take_trade(event)
            if event.premarket:
                premarket.take_trade(event)
        elif isinstance(event, Bar) and event.anchors:
            # Trades are kept by second.
            end = -(-event.end // SECOND) * SECOND
            whole.take_bar(end, event.accumulated, event.day_vwap * event.accumulated)
            if event.end <= day.open:
                premarket.take_bar(end, event.accumulated, event.day_vwap * event.accumulated)
        elif isinstance(event, Snapshot) and event in today and has_shares(event, day):
            until = event.updated + 1
            if event.minute_start:
                until = min(event.minute_start + MINUTE, until)
            whole.take_snapshot(until, event.accumulated, event.single_from)
            if until <= day.open:
                premarket.take_snapshot(until, event.accumulated, event.single_from)
    return whole, premarket


def _minute_end(snapshot: Snapshot) -> int:
    """The newest minute may still be open."""
    return min(snapshot.minute_start + MINUTE, snapshot.updated)
