"""What rows of the vendor's full snapshot add to a symbol's day: only what is newer than the row, as it then was."""

import math
from dataclasses import dataclass
from typing import Final

from fastcore.reference.day_events import Bar, Day, Limit, Snapshot, SymbolDay, Trade

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND


@dataclass(frozen=True)
class Anchor:
    """Shares and dollars of the day up to `end`; dollars are None when they are not known."""

    order: int
    end: int
    shares: float
    dollars: float | None


@dataclass(frozen=True)
class Point:
    """A price that a snapshot tells of: when it was, and the time by which it belongs to a session."""

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
    """Those that were newer than the row when they came."""
    newest = newest_limit = -1
    result = []
    for event in events.arrivals:
        if isinstance(event, Trade):
            newest = max(newest, event.time)
        elif isinstance(event, Bar):
            newest = max(newest, event.end)
        elif isinstance(event, Limit) and event.time >= newest_limit:
            newest_limit = event.time
            newest = max(newest, event.time)
        elif isinstance(event, Snapshot) and event.updated > newest and day.start <= event.updated < day.end:
            result.append(event)
            newest = max([newest, *(point.time for point in points_of(event, day))])
    return result


def bar_anchors(events: SymbolDay) -> list[Anchor]:
    return [
        Anchor(bar.order, bar.end, bar.accumulated, bar.day_vwap * bar.accumulated)
        for bar in events.bars
        if bar.anchors
    ]


def anchors(events: SymbolDay, day: Day) -> list[Anchor]:
    """All that bars and snapshots say of the day's volume; a snapshot that is older or would lessen it says nothing."""
    result = bar_anchors(events)
    for snapshot in accepted(events, day):
        if snapshot.minute_start < day.start or not snapshot.accumulated > 0:
            continue
        end = -(-_minute_end(snapshot) // SECOND) * SECOND
        trades = [trade for trade in events.trades if trade.has_volume and trade.order < snapshot.order]
        earlier = [anchor for anchor in result if anchor.order < snapshot.order]
        if any(anchor.end > end for anchor in earlier):
            continue
        before = volume(earlier, trades)[0]
        after = math.fsum(trade.size for trade in trades if trade.time >= end)
        if snapshot.accumulated + after >= before * (1 - 1e-9):
            dollars = None if math.isnan(snapshot.vwap) else snapshot.vwap * snapshot.accumulated
            result.append(Anchor(snapshot.order, end, snapshot.accumulated, dollars))
    return result


def volume(anchored: list[Anchor], trades: list[Trade]) -> tuple[float, float | None]:
    """Shares and dollars: those of the newest anchor, and of the trades at or after its end."""
    if not anchored:
        return math.fsum(t.size for t in trades), math.fsum(t.price * t.size for t in trades)
    newest = max(anchored, key=lambda anchor: (anchor.end, anchor.order))
    after = [trade for trade in trades if trade.time >= newest.end]
    shares = math.fsum([newest.shares, *(trade.size for trade in after)])
    if newest.dollars is None:
        return shares, None
    return shares, math.fsum([newest.dollars, *(trade.price * trade.size for trade in after)])


def _minute_end(snapshot: Snapshot) -> int:
    """A minute that is still open stands for all before `updated`."""
    return min(snapshot.minute_start + MINUTE, snapshot.updated)
