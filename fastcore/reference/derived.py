"""A symbol's row at one time: what its messages add up to, its reference data, and now."""

from dataclasses import dataclass, field
from typing import Final

from fastcore.fields import WINDOW_MINUTES
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
    symbol: str, facts: Facts, events: SymbolDay, history: History, day: Day | None, now: int
) -> dict[str, Value]:
    """The row with every field that can be known, by name."""
    row: dict[str, Value | None] = {"symbol": symbol, **history.values}
    if day is not None:
        _copy(row, facts)
        _closing(row, facts, day, now)
        _against_history(row, facts)
        _against_day(row, facts)
        _baseline(row, history.baseline, day, now)
        _windows(row, facts, events, now)
    return {name: value for name, value in row.items() if value is not None}


def _copy(row: dict[str, Value | None], facts: Facts) -> None:
    row.update(
        price=facts.price,
        bid=facts.bid,
        ask=facts.ask,
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


def _windows(row: dict[str, Value | None], facts: Facts, events: SymbolDay, now: int) -> None:
    if facts.updated_at is not None:
        row["age_seconds"] = max(0, now - facts.updated_at) / SECOND
    # (time, order, price or None, shares)
    points = [(t.time, t.order, t.price if t.sets_price else None, t.size * t.has_volume) for t in events.trades]
    if events.bars_only:
        points += [(bar.end - 1, bar.order, bar.close, bar.volume) for bar in events.stand_in_bars()]
    points.sort(key=lambda point: point[:2])
    for minutes in WINDOW_MINUTES:
        mark = now // GRID * GRID - minutes * MINUTE
        if facts.traded:
            row[f"vol_{minutes}m"] = sum((shares for time, _, _, shares in points if time >= mark), 0.0)
        earlier = [price for time, _, price, _ in points if time < mark and price is not None]
        if earlier:
            row[f"chg_{minutes}m"] = percent(facts.price, earlier[-1])


def _number(row: dict[str, Value | None], name: str) -> float | None:
    value = row.get(name)
    return None if value is None else float(value)
