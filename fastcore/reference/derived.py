"""A symbol's row at one time: what its messages add up to, its reference data, and now."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fastcore.fields import BY_NAME, RANGE_WINDOW_MINUTES, SHORT_WINDOW_MINUTES, WINDOW_MINUTES
from fastcore.reference.day_events import Day, SymbolDay
from fastcore.reference.facts import Facts

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
GRID: Final = 10 * SECOND
SLOT: Final = 5 * MINUTE
SLOTS: Final = 192
LEAST_DAYS: Final = 3

Value = float | str | bool | int


@dataclass
class Baseline:
    """Means over `days` trading days at the ends of the 192 slots."""

    days: int
    volume: list[float]
    trades: list[float]
    sd: list[float]


@dataclass
class History:
    """Reference data of a symbol by field name, absent ones left out."""

    values: dict[str, Value] = field(default_factory=dict)
    baseline: Baseline | None = None


def stored(value: float) -> float:
    """Rounded to 6 decimals: to the nearest multiple of a millionth, halves to the even one."""
    return round(value * 1e6) / 1e6


def percent(value: float | None, base: float | None) -> float | None:
    """How far value is from base, in percent, as stored."""
    if value is None or base is None or base == 0:
        return None
    return stored(100 * (value - base) / base)


def ratio(value: float | None, base: float | None) -> float | None:
    if value is None or base is None or not base > 0:
        return None
    return stored(value / base)


def at_time_of_day(ends: list[float], day: Day, now: int) -> float:
    """A column of slot ends read at `now`: 0 at 04:00, straight lines in between, level after the last."""
    since = now - day.start
    if since <= 0:
        return 0.0
    if since >= SLOTS * SLOT:
        return ends[-1]
    slot, inside = divmod(since, SLOT)
    before = ends[slot - 1] if slot else 0.0
    return before + (ends[slot] - before) * (inside / SLOT)


def slot_of(day: Day, now: int) -> int:
    return min(max((now - day.start) // SLOT, 0), SLOTS - 1)


def row_of(
    symbol: str, facts: Facts, points: Sequence["Point"], history: History, day: Day | None, now: int
) -> dict[str, Value]:
    """The row with every field that can be known, by name; `points` are points_of() its events."""
    shown = {name: value for name, value in history.values.items() if name in BY_NAME}
    row: dict[str, Value | None] = {"symbol": symbol, **shown}
    if day is not None:
        _copy(row, facts)
        _closing(row, facts, day, now)
        _against_history(row, facts)
        _against_days_before(row, facts, history)
        _against_day(row, facts)
        _baseline(row, history.baseline, day, now)
        _windows(row, facts, points, now)
        _against_usual(row, history.baseline, day, now)
    return {name: value for name, value in row.items() if value is not None}


def _copy(row: dict[str, Value | None], facts: Facts) -> None:
    row.update(
        price=facts.price,
        bid=facts.bid,
        ask=facts.ask,
        bid_size=facts.bid_size,
        ask_size=facts.ask_size,
        last_size=facts.last_size,
        volume_today=facts.volume,
        trades_today=facts.trades,
        dollar_volume=facts.dollar_volume,
        open=facts.open,
        high=facts.high,
        low=facts.low,
        intraday_high=facts.intraday_high,
        intraday_low=facts.intraday_low,
        premarket_high=facts.premarket_high,
        premarket_low=facts.premarket_low,
        premarket_volume=facts.premarket_volume,
        postmarket_volume=facts.postmarket_volume,
        halts_today=facts.halts,
        suspect_prints=facts.suspect_prints,
        luld_upper=facts.upper,
        luld_lower=facts.lower,
        updated_at=facts.updated_at,
        session=facts.session,
    )


def _closing(row: dict[str, Value | None], facts: Facts, day: Day, now: int) -> None:
    close = facts.official_close
    if close is None and now >= day.close:
        close = facts.regular_price
    row["close"] = close
    if now >= day.close:
        row["postmarket_change_percent"] = percent(facts.price, close)


def _against_history(row: dict[str, Value | None], facts: Facts) -> None:
    price, before = facts.price, _number(row, "prev_close")
    if price is not None and before is not None:
        row["change"] = stored(price - before)
    row["change_percent"] = percent(price, before)
    gap = percent(price if facts.open is None else facts.open, before)
    row["gap_percent"] = gap
    if gap is not None:
        row["gap_size"] = next(
            (size for size, limit in (("SMALL", 2), ("MEDIUM", 5), ("LARGE", 10)) if abs(gap) < limit), "EXTREME"
        )
    if price is not None and facts.open is not None and before is not None and facts.open != before:
        given_back = 100 * (facts.open - price) / (facts.open - before)
        row["gap_fill_percent"] = max(0.0, stored(given_back))
    row["premarket_change_percent"] = percent(facts.premarket_price, before)
    row["volume_ratio"] = ratio(facts.volume, _number(row, "avg_volume_30d"))
    atr = _number(row, "atr")
    if atr is not None and price:
        row["atr_percent"] = stored(100 * atr / price)


def _against_days_before(row: dict[str, Value | None], facts: Facts, history: History) -> None:
    for days in (5, 20):
        close = history.values.get(f"close_{days}d")
        row[f"change_{days}d"] = None if close is None else percent(facts.price, float(close))
    before = _number(row, "prev_close")
    if before is not None:
        decline = percent(facts.low, before)
        row["ssr"] = (decline is not None and decline <= -10) or history.values.get("prev_ssr") is True


def _against_day(row: dict[str, Value | None], facts: Facts) -> None:
    price = facts.price
    row["change_from_open"] = percent(price, facts.open)
    for name in ("high", "low", "intraday_high", "intraday_low"):
        row[f"price_from_{name}"] = percent(price, _number(row, name))
    high, low = facts.intraday_high, facts.intraday_low
    if price is not None and high is not None and low is not None and high != low:
        row["position_in_range"] = stored(100 * (price - low) / (high - low))
    vwap = ratio(facts.dollar_volume, facts.priced_shares)
    row["vwap"] = vwap
    row["price_vs_vwap"] = percent(price, vwap)
    if facts.bid is not None and facts.ask is not None and facts.ask + facts.bid > 0:
        row["spread_percent"] = stored(100 * (facts.ask - facts.bid) / ((facts.ask + facts.bid) / 2))


def _baseline(row: dict[str, Value | None], baseline: Baseline | None, day: Day, now: int) -> None:
    volume, trades = _number(row, "volume_today"), _number(row, "trades_today")
    if baseline is not None and baseline.days >= LEAST_DAYS:
        row["rvol"] = ratio(volume, at_time_of_day(baseline.volume, day, now))
        row["rvol_slot"] = ratio(volume, baseline.volume[slot_of(day, now)])
        sd = at_time_of_day(baseline.sd, day, now)
        if trades is not None and sd > 0:
            row["trades_z_score"] = stored((trades - at_time_of_day(baseline.trades, day, now)) / sd)
    rvol, volume_ratio = _number(row, "rvol"), _number(row, "volume_ratio")
    if rvol is not None or volume_ratio is not None:
        row["score"] = stored(10 * (rvol or 0.0) + 5 * (volume_ratio or 0.0))


@dataclass(frozen=True)
class Point:
    """A trade, or a bar that stands in for trades: what it adds to the windows. `close` is None without a price."""

    time: int
    order: int
    close: float | None
    high: float
    low: float
    shares: float
    dollars: float
    is_trade: bool


def points_of(events: SymbolDay) -> list[Point]:
    """In the order of their times, then of arrival."""
    points = [
        Point(
            trade.time,
            trade.order,
            trade.price if trade.sets_price else None,
            trade.price,
            trade.price,
            trade.size * trade.has_volume,
            trade.price * trade.size * trade.has_volume,
            trade.has_volume,
        )
        for trade in events.trades
    ]
    if events.bars_only:
        for bar in events.stand_in_bars():
            price = bar.close if math.isnan(bar.vwap) else bar.vwap
            points.append(
                Point(bar.end - 1, bar.order, bar.close, bar.high, bar.low, bar.volume, price * bar.volume, False)
            )
    return sorted(points, key=lambda point: (point.time, point.order))


def _windows(row: dict[str, Value | None], facts: Facts, points: Sequence[Point], now: int) -> None:
    if facts.updated_at is not None:
        row["age_seconds"] = max(0, now - facts.updated_at) / SECOND
    # By window the number of points that are older.
    older = {
        minutes: bisect_left(points, now // GRID * GRID - minutes * MINUTE, key=lambda point: point.time)
        for minutes in WINDOW_MINUTES
    }
    for minutes, first in older.items():
        if facts.traded:
            row[f"vol_{minutes}m"] = sum((point.shares for point in points[first:]), 0.0)
        earlier = next((point.close for point in reversed(points[:first]) if point.close is not None), None)
        if earlier is not None:
            row[f"chg_{minutes}m"] = percent(facts.price, earlier)
    for minutes in SHORT_WINDOW_MINUTES:
        inside = points[older[minutes] :]
        if facts.traded:
            row[f"dollar_volume_{minutes}m"] = sum((point.dollars for point in inside), 0.0)
        if facts.trades is not None:
            row[f"trades_{minutes}m"] = float(sum(point.is_trade for point in inside))
        row[f"largest_{minutes}m"] = max((point.shares for point in inside if point.is_trade), default=None)
    for minutes in RANGE_WINDOW_MINUTES:
        prices = [point for point in points[older[minutes] :] if point.close is not None]
        row[f"high_{minutes}m"] = max((point.high for point in prices), default=None)
        row[f"low_{minutes}m"] = min((point.low for point in prices), default=None)


def _against_usual(row: dict[str, Value | None], baseline: Baseline | None, day: Day, now: int) -> None:
    """The windows' volumes against those of the same minutes of other days."""
    if baseline is None or baseline.days < LEAST_DAYS:
        return
    for minutes in SHORT_WINDOW_MINUTES:
        mark = now // GRID * GRID - minutes * MINUTE
        usual = at_time_of_day(baseline.volume, day, now) - at_time_of_day(baseline.volume, day, mark)
        row[f"vol_{minutes}m_ratio"] = ratio(_number(row, f"vol_{minutes}m"), usual)


def _number(row: dict[str, Value | None], name: str) -> float | None:
    value = row.get(name)
    return None if value is None else float(value)
