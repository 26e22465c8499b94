"""What daily bars and 5-minute bars say, computed the slow obvious way and compared, over random histories."""

import datetime
import math
import random
import statistics
from collections import Counter
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from services.kit.vendor.models import Split
from services.market.daily_bars import DayBars, DayTable, WilderATR, dense, latest, mean_of_last
from services.market.levels import LEVELS, Levels, year_before
from services.market.splits import SplitTable
from services.market.volume_slots import SlotGrid
from tests.support.plain_levels import Prices, plain_levels

NEW_YORK = ZoneInfo("America/New_York")
SYMBOLS = [f"S{i}" for i in range(12)]


class Bar(NamedTuple):
    open: float
    high: float
    low: float
    close: float
    volume: float


History = dict[str, dict[int, Bar]]


def random_history(rng: random.Random, days: int) -> History:
    history: History = {}
    for symbol in SYMBOLS:
        missing = rng.choice([0.0, 0.1, 0.5, 0.97])
        level = rng.uniform(0.5, 400)
        first = rng.choice([0, 0, days - 14, days - 15, days - 20]) if days > 20 else 0
        history[symbol] = {}
        for day in range(first, days):
            level *= rng.uniform(0.9, 1.1)
            if rng.random() >= missing:
                low, high = level * rng.uniform(0.9, 1.0), level * rng.uniform(1.0, 1.1)
                open_, close = rng.uniform(low, high), rng.uniform(low, high)
                history[symbol][day] = Bar(open_, high, low, close, float(rng.randint(0, 10**7)))
    return history


def columns(history: History, day: int) -> DayBars:
    rows = [(symbol, bars[day]) for symbol, bars in history.items() if day in bars]
    values = (np.array([bar[kind] for _, bar in rows], dtype=np.float64) for kind in range(5))
    return DayBars([symbol for symbol, _ in rows], *values)


def plain_latest(bars: dict[int, Bar], days: int, holes: set[int]) -> Bar | None:
    for day in range(days - 1, -1, -1):
        if day in bars:
            return bars[day]
        if day in holes:
            return None
    return None


def plain_mean(values: dict[int, float], days: int, holes: set[int], last: int) -> float | None:
    window = range(max(0, days - last), days)
    if any(day in holes and day not in values for day in window):
        return None
    found = [values[day] for day in window if day in values]
    return statistics.fmean(found) if found else None


def plain_atr(bars: dict[int, Bar], days: int, holes: set[int]) -> float | None:
    ranges: list[float] = []
    before = None
    for day in range(days):
        if day not in bars:
            if day in holes:
                ranges, before = [], None
            continue
        bar = bars[day]
        if before is not None:
            ranges.append(max(bar.high - bar.low, abs(bar.high - before), abs(bar.low - before)))
        before = bar.close
    if len(ranges) < 14:
        return None
    atr = sum(ranges[:14]) / 14
    for each in ranges[14:]:
        atr = (atr * 13 + each) / 14
    return atr


def same(found: float, expected: float | None) -> bool:
    return math.isnan(found) if expected is None else math.isclose(found, expected, rel_tol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_daily_values_equal_the_plain_ones(seed: int) -> None:
    rng = random.Random(seed)
    days = rng.choice([0, 1, 5, 29, 31, 80, 250])
    history = random_history(rng, days)
    holes = {day for day in range(days) if rng.random() < rng.choice([0.0, 0.0, 0.02])}
    bars = [columns(history, day) for day in range(days)]
    hole = [day in holes for day in range(days)]
    table = DayTable(SYMBOLS, bars, hole)
    prev_close, prev_volume = latest(table.close, table.volume, table.hole)
    volume_10 = mean_of_last(table.volume, table.hole, 10)
    volume_30 = mean_of_last(table.volume, table.hole, 30)
    price_30 = mean_of_last(table.close, table.hole, 30)
    wilder = WilderATR(len(SYMBOLS))
    index = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    for day in range(days):
        wilder.add(*dense(bars[day], index)[1:4], is_hole=hole[day])
    atr = wilder.values()
    for i, symbol in enumerate(SYMBOLS):
        mine = history[symbol]
        last = plain_latest(mine, days, holes)
        assert same(prev_close[i], last and last.close)
        assert same(prev_volume[i], last.volume if last else None)
        volumes = {day: bar.volume for day, bar in mine.items()}
        assert same(volume_10[i], plain_mean(volumes, days, holes, 10))
        assert same(volume_30[i], plain_mean(volumes, days, holes, 30))
        assert same(price_30[i], plain_mean({day: bar.close for day, bar in mine.items()}, days, holes, 30))
        assert same(atr[i], plain_atr(mine, days, holes)), symbol


def levels_of(
    bars: dict[int, Bar], dates: list[datetime.date], holes: set[int], today: datetime.date
) -> dict[str, float]:
    """From a symbol's bars by the number of their day."""
    newest_hole = max((day for day in holes if day not in bars), default=-1)
    known = [Prices(*bars[day][:4]) for day in sorted(bars) if day > newest_hole]
    a_year_ago = today.replace(year=today.year - 1)
    year = [day for day, date in enumerate(dates) if date > a_year_ago]
    is_whole = dates[0] <= a_year_ago and not any(day in holes and day not in bars for day in year)
    within = [Prices(*bars[day][:4]) for day in year if day in bars] if is_whole else None
    return plain_levels(known, within, is_cut=newest_hole >= 0)


@pytest.mark.parametrize("seed", range(12))
def test_levels_equal_the_plain_ones(seed: int) -> None:
    rng = random.Random(seed)
    days = rng.choice([1, 5, 21, 80, 253, 254, 270])
    today = datetime.date(2026, 7, 1)
    weekdays = [date for back in range(400, 0, -1) if (date := today - datetime.timedelta(days=back)).weekday() < 5]
    dates = weekdays[-days:]
    history = random_history(rng, days)
    holes = {day for day in range(days) if rng.random() < rng.choice([0.0, 0.0, 0.02])}
    levels = Levels(len(SYMBOLS), today, dates[0])
    index = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    for day, date in enumerate(dates):
        open_, high, low, close, _ = dense(columns(history, day), index)
        levels.add(date, open_, high, low, close, day in holes)
    found = levels.values()
    assert set(found) == set(LEVELS)
    for i, symbol in enumerate(SYMBOLS):
        expected = levels_of(history[symbol], dates, holes, today)
        for name in LEVELS:
            assert same(float(found[name][i]), expected.get(name.upper())), (symbol, name)


def test_a_year_begins_after_its_own_date() -> None:
    assert year_before(datetime.date(2026, 11, 27)) == datetime.date(2025, 11, 27)
    assert year_before(datetime.date(2028, 2, 29)) == datetime.date(2027, 2, 28)
    day = datetime.date(2026, 11, 27)
    levels = Levels(1, day, datetime.date(2025, 11, 26))
    for date, price in ((datetime.date(2025, 11, 27), 90.0), (datetime.date(2025, 11, 28), 50.0), (day, 10.0)):
        column = np.array([price])
        levels.add(date, column, column, column, column)
    assert levels.values()["high_52w"][0] == 50.0


def test_atr_needs_fourteen_true_ranges() -> None:
    wilder = WilderATR(1)
    for day in range(15):
        assert math.isnan(wilder.values()[0]), day
        wilder.add(np.array([12.0]), np.array([10.0]), np.array([11.0]))
    assert wilder.values()[0] == 2.0
    wilder.add(np.array([20.0]), np.array([19.0]), np.array([19.5]))
    assert wilder.values()[0] == (2.0 * 13 + 9.0) / 14


SlotBar = tuple[datetime.datetime, float, float]


def random_bars(rng: random.Random, days: list[datetime.date]) -> list[SlotBar]:
    """Bars at starts of 5-minute slots, also outside 04:00-20:00 and on days that do not count."""
    bars: list[SlotBar] = []
    density = rng.choice([0.002, 0.05, 0.9])
    for day in days:
        if rng.random() < 0.3:
            continue
        for minute in range(0, 24 * 60, 5):
            if rng.random() < density:
                start = datetime.datetime.combine(day, datetime.time(minute // 60, minute % 60), NEW_YORK)
                trades = math.nan if rng.random() < 0.0005 else float(rng.randint(1, 500))
                bars.append((start, float(rng.choice([0, 100, rng.randint(1, 10**6)])), trades))
    bars += rng.sample(bars, min(len(bars), 3))
    for wrong in (math.nan, -1.0, 1e13):
        if bars and rng.random() < 0.5:
            bars.append((rng.choice(bars)[0], wrong, 1.0))
    return bars


def plain_baseline(
    bars: list[SlotBar], counted: list[datetime.date]
) -> tuple[int, list[float], list[float], list[float]]:
    kept: dict[datetime.datetime, tuple[float, float]] = {}
    for start, volume, trades in bars:
        if 0 <= volume < 1e12:
            kept[start] = (volume, trades)
    by_day: dict[datetime.date, dict[int, tuple[float, float]]] = {}
    for start, values in kept.items():
        if start.date() in counted and 4 <= start.hour < 20:
            by_day.setdefault(start.date(), {})[(start.hour - 4) * 12 + start.minute // 5] = values
    if len(by_day) < 3:
        nothing = [math.nan] * 192
        return len(by_day), nothing, nothing, nothing
    volumes, means, spreads = [], [], []
    for slot in range(192):
        upto = [[values for s, values in day.items() if s <= slot] for day in by_day.values()]
        volumes.append(statistics.fmean(sum(volume for volume, _ in day) for day in upto))
        counts = [float(sum(trades for _, trades in day)) for day in upto]
        is_known = not any(math.isnan(count) for count in counts)
        means.append(statistics.fmean(counts) if is_known else math.nan)
        spreads.append(statistics.stdev(counts) if is_known else math.nan)
    return len(by_day), volumes, means, spreads


@pytest.mark.parametrize("seed", range(16))
def test_baselines_equal_the_plain_ones(seed: int) -> None:
    rng = random.Random(seed)
    # Both changes of the clocks are inside some of these spans.
    first = rng.choice([datetime.date(2026, 2, 20), datetime.date(2026, 10, 12), datetime.date(2026, 6, 1)])
    span = [first + datetime.timedelta(days=i) for i in range(42)]
    trading = [day for day in span if day.weekday() < 5][-30:]
    early = set(rng.sample(trading, 2))
    counted = [day for day in trading if day not in early]
    bars = random_bars(rng, trading)
    found, wrong = SlotGrid(counted).baseline(
        np.array([int(start.timestamp()) * 1000 for start, _, _ in bars], dtype=np.int64),
        np.array([volume for _, volume, _ in bars], dtype=np.float64),
        np.array([trades for _, _, trades in bars], dtype=np.float64),
    )
    assert wrong == sum(not 0 <= volume < 1e12 for _, volume, _ in bars)
    days, volumes, trades, spreads = plain_baseline(bars, counted)
    assert found.days == days
    np.testing.assert_allclose(found.avg_volume, volumes, rtol=1e-12)
    np.testing.assert_allclose(found.avg_trades, trades, rtol=1e-12)
    np.testing.assert_allclose(found.sd_trades, spreads, rtol=1e-9, atol=1e-12)


def test_no_counted_days_make_no_baseline() -> None:
    bars = np.array([1_700_000_000_000], dtype=np.int64)
    found, wrong = SlotGrid([]).baseline(bars, np.ones(1), np.ones(1))
    assert (found.days, wrong) == (0, 0)
    assert all(np.isnan(column).all() for column in found[1:])


@pytest.mark.parametrize("seed", range(6))
def test_splits_make_raw_histories_smooth(seed: int) -> None:
    """A price that moves by splits only is, adjusted, the same on every day; so is its volume."""
    rng = random.Random(seed)
    today = datetime.date(2026, 7, 1)
    splits, factors = [], []
    for back in rng.sample(range(-20, 200), 5):
        old, new = rng.choice([(1, 2), (10, 1), (2, 3), (1, 20)])
        executed = today - datetime.timedelta(days=back)
        splits.append(Split("X", str(executed), old, new))
        if executed <= today:
            factors.append((executed, new / old))
    set_aside: Counter[str] = Counter()
    bad = [Split("X", "soon", 1, 2), Split("X", str(today), 0, 2), Split("X", str(today), 1, -2)]
    table = SplitTable([*splits, *bad], today, set_aside)
    assert set_aside == {"split": 3}
    for back in range(200):
        day = today - datetime.timedelta(days=back)
        price, volume = 50.0, 1e6
        for executed, ratio in factors:
            if day < executed:
                # Before the split there were fewer, dearer shares.
                price, volume = price * ratio, volume / ratio
        factor = table.factors(day).get("X", 1.0)
        assert math.isclose(price / factor, 50.0) and math.isclose(volume * factor, 1e6)


@pytest.mark.parametrize("seed", range(20))
def test_a_split_table_is_the_product_of_its_entries_in_any_order(seed: int) -> None:
    """Whatever falls on one date, however often a page is told again."""
    rng = random.Random(seed)
    today = datetime.date(2026, 7, 1)
    dates = [today - datetime.timedelta(days=back) for back in range(-1, 4)]
    splits = [
        Split("X", str(rng.choice(dates)), rng.choice((1, 3, 1000)), rng.choice((1, 7, 1000)), id=f"E{number}")
        for number in range(rng.randint(1, 9))
    ]
    tables = [
        SplitTable(rng.sample([*splits, *rng.choices(splits, k=3)], len(splits) + 3), today, Counter())
        for _ in range(5)
    ]
    for after in [today - datetime.timedelta(days=back) for back in range(-1, 6)]:
        product = Fraction(1)
        for split in splits:
            if after < datetime.date.fromisoformat(split.execution_date) <= today:
                product *= Fraction(int(split.split_to), int(split.split_from))
        assert [table.factor("X", after) for table in tables] == [float(product)] * 5
        assert [table.factors(after) for table in tables] == [{} if product == 1 else {"X": float(product)}] * 5
