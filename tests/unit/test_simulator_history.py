"""The simulator's fast ways to its past give what slow and plain ones give, to the last bit."""

import datetime
import functools
from collections import Counter
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.runtime.setting_groups import SimSettings
from services.simulator.calendar import OPEN_MINUTE
from services.simulator.daily import NEAR_ONE_DOLLAR, VWAP_STEP, DailyBars, daily_bars
from services.simulator.hashing import Rekeyed, generator
from services.simulator.history import SymbolMinutes, group, symbol_minutes
from services.simulator.json_rows import json_rows
from services.simulator.market import Market
from services.simulator.market_day import MarketDay
from services.simulator.minutes import Bars
from services.simulator.plan import DayPlan
from services.simulator.shapes import SIZE_PERIOD, SizeShapes

# After a split, an early close and a holiday, with several hundred symbols of all kinds.
START = datetime.datetime(2025, 7, 7, 9, 25)
EARLY = datetime.date(2025, 7, 3)


@functools.cache
def market_of(symbols: int, seed: int = 1) -> Market:
    return Market(SimSettings(seed=seed, symbols=symbols, start=START))


def plan_of(market: Market, date: datetime.date) -> DayPlan:
    index = market.calendar.index_of(date)
    assert index is not None
    plan = market.plans.get(index)
    assert plan is not None
    return plan


class PlainDay(NamedTuple):
    """One symbol's bar without its average price; that is of whole minutes near 1 USD, and of steps elsewhere."""

    bar: dict[str, float]
    vwap_of_minutes: float
    vwap_of_steps: float


def plain_days(market: Market, plan: DayPlan) -> list[PlainDay | None]:
    """One symbol after the other, minute after minute; None for one that did not trade."""
    plans, close_minute = market.plans, plan.day.close_minute
    day = MarketDay(plans, plan)
    steps = range(OPEN_MINUTE, close_minute + 1, VWAP_STEP)
    shares = [plans.shapes.sizes.volume_before(day.size_row, day.counts(minute)) for minute in steps]
    prices = [np.exp(day.log_price(minute - 1)) for minute in steps[1:]]
    days: list[PlainDay | None] = []
    for symbol in range(plans.universe.count):
        minutes = symbol_minutes(plans, symbol, [plan], adjusted=False)
        minutes = minutes.only((minutes.minute >= OPEN_MINUTE) & (minutes.minute < close_minute))
        if not len(minutes.minute):
            days.append(None)
            continue
        bars = minutes.bars
        volume, high, low = int(bars.volume.sum()), max(bars.high.tolist()), min(bars.low.tolist())
        dollars = 0.0
        for price, before, after in zip(prices, shares[:-1], shares[1:], strict=True):
            dollars += float(price[symbol]) * int(after[symbol] - before[symbol])
        joined = group(minutes, np.zeros(len(bars.open), dtype=np.int64)).bars
        bar = {"open": bars.open[0], "high": high, "low": low, "close": bars.close[-1], "volume": volume,
               "trades": bars.trades.sum()}  # fmt: skip
        days.append(PlainDay(bar, joined.vwap[0], min(max(round(dollars / volume * 1e4) / 1e4, low), high)))
    return days


@pytest.mark.parametrize(("symbols", "seed"), [(1, 1), (257, 2), (4_000, 3)])
@pytest.mark.parametrize("date", [EARLY, datetime.date(2025, 6, 27), datetime.date(2025, 1, 22)])
def test_daily_bars_are_those_of_one_symbol_after_the_other(symbols: int, seed: int, date: datetime.date) -> None:
    market = market_of(symbols, seed)
    plan = plan_of(market, date)
    fast = daily_bars(market.plans, plan)
    dollar, tick = np.exp([-NEAR_ONE_DOLLAR, NEAR_ONE_DOLLAR]), 0.01
    kinds = Counter[str]()
    for symbol, plain in enumerate(plain_days(market, plan)):
        found = {name: getattr(fast, name)[symbol] for name in DailyBars._fields}
        if plain is None:
            assert set(found.values()) == {0}
            continue
        vwap = found.pop("vwap")
        assert found == plain.bar, symbol
        # Rounded to ticks, a price may have come to the other side of the limit.
        high, low = plain.bar["high"], plain.bar["low"]
        if high > dollar[0] + tick and low < dollar[1] - tick:
            assert vwap == plain.vwap_of_minutes, symbol
            kinds["near 1 USD"] += 1
        elif high < dollar[0] - tick or low > dollar[1] + tick:
            assert vwap == plain.vwap_of_steps, symbol
        else:
            assert vwap in (plain.vwap_of_minutes, plain.vwap_of_steps), symbol
        kinds["rare"] += plain.bar["trades"] < plan.day.close_minute - OPEN_MINUTE
        kinds["frequent"] += plain.bar["trades"] > 10 * SIZE_PERIOD
    if symbols == 4_000:
        assert min(kinds[name] for name in ("near 1 USD", "rare", "frequent")) > 0
        assert len(plan.own_shapes) > 20


def test_a_past_day_is_what_it_has_always_been() -> None:
    """Recorded days and stored bars are of this market: the same seed must not become another one."""
    market = market_of(3_000)
    plan = plan_of(market, EARLY)
    bars = daily_bars(market.plans, plan)
    # Ordinary ones, two with news, and one whose news comes after the close.
    known = {
        0: (628.28, 641.11, 627.11, 636.23, 3_521_804, 633.0711, 29_432),
        25: (809_117.71, 832_761.66, 790_870.02, 832_280.13, 202, 808_574.3584, 117),
        1500: (8.93, 9.09, 8.9, 9.07, 108_366, 9.0035, 222),
        2999: (276.92, 277.46, 268.43, 269.6, 18_548, 273.7606, 92),
        2989: (26.05, 32.98, 25.94, 31.01, 1_609_012, 29.4876, 6_352),
        2004: (16.33, 17.17, 15.97, 16.92, 1_353_076, 16.5173, 2_548),
        111: (200.37, 200.44, 196.54, 198.49, 525_272, 198.6859, 4_264),
    }
    for symbol, row in known.items():
        assert [column[symbol] for column in bars] == pytest.approx(row, rel=1e-3), symbol
    # Mean price and number of trades before the open and after the close.
    around = {
        0: (628.433, 1_275, 638.0455, 523),
        2989: (26.1833, 582, 30.9817, 33),
        111: (199.6862, 204, 215.4866, 1_675),
    }
    for symbol, figures in around.items():
        minutes = symbol_minutes(market.plans, symbol, [plan], adjusted=False)
        found: list[float] = []
        for at in (minutes.minute < OPEN_MINUTE, minutes.minute >= plan.day.close_minute):
            found += [minutes.bars.vwap[at].mean(), minutes.bars.trades[at].sum()]
        assert found == pytest.approx(figures, rel=1e-4), symbol


@pytest.mark.parametrize("date", [EARLY, datetime.date(2025, 6, 27)])
def test_a_day_of_news_is_the_same_in_any_company(date: datetime.date) -> None:
    market = market_of(3_000)
    plan = plan_of(market, date)
    symbols = plan.own_shapes
    # With those of another day, and more than are worked out at once.
    others = [(market.plans.current, symbol) for symbol in market.plans.current.own_shapes] if date != EARLY else []
    together = market.plans.own_shapes(plan.day.is_early, [*((plan, symbol) for symbol in symbols), *others] * 3)
    assert len(symbols) >= 10
    for place, symbol in enumerate(symbols):
        alone = market.plans.own_shapes(plan.day.is_early, [(plan, symbol)])
        np.testing.assert_array_equal(alone.curves[0], together.curves[place])
        np.testing.assert_array_equal(alone.paths[0], together.paths[place])
        assert alone.halts == [together.halts[place]]
    none = market.plans.own_shapes(plan.day.is_early, [])
    assert none.curves.shape == none.paths.shape == (0, plan.day.end_minute + 1)


def test_a_generator_with_another_key_is_a_new_one() -> None:
    generators = Rekeyed()
    for parts in ((1, 7, 900, 55), (3,), (1, 7, 900, 55)):
        rng, new = generators.of(*parts), generator(*parts)
        # Small numbers leave half of what was drawn for the next one.
        assert [rng.integers(0, 10), rng.random(), *rng.standard_normal(5)] == [
            new.integers(0, 10), new.random(), *new.standard_normal(5)
        ]  # fmt: skip


@given(st.lists(st.integers(0, 5 * SIZE_PERIOD), min_size=1, max_size=5), st.integers(0, 3 * SIZE_PERIOD))
def test_shares_and_lots_of_trades_are_their_sums(first: list[int], more: int) -> None:
    sizes = _sizes()
    row = np.arange(len(first), dtype=np.int64) * 16
    before = np.array(first, dtype=np.int64)
    after = before + more
    volume, eligible = sizes.volume_and_eligible(row, before, after)
    width = SizeShapes.WIDTH
    for place, start in enumerate(first):
        one = slice(int(row[place]) * width, (int(row[place]) + 1) * width)
        shares, lots = np.diff(sizes.volume[one]), np.diff(sizes.eligible[one])
        trades = np.arange(start, start + more) % SIZE_PERIOD
        assert (volume[place], eligible[place]) == (shares[trades].sum(), lots[trades].sum())
        assert sizes.volume_before(row, before)[place] == shares[np.arange(start) % SIZE_PERIOD].sum()


@functools.cache
def _sizes() -> SizeShapes:
    return SizeShapes(1)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**14),
            st.one_of(st.integers(0, 30_000), st.integers(0, 10**11)),
            st.text("ABCpw.", min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_rows_are_written_as_msgspec_writes_them(rows: list[tuple[int, int, str]]) -> None:
    whole, ten_thousandths, texts = zip(*rows, strict=True)
    columns = {
        "T": np.array(texts, dtype=np.bytes_),
        "v": np.array(whole, dtype=np.int64),
        "vw": np.array(ten_thousandths, dtype=np.int64) / 1e4,
        "o": np.array(ten_thousandths, dtype=np.int64) // 100 / 100.0,
    }
    expected = [
        {"T": text, "v": v, "vw": vw, "o": o}
        for text, v, vw, o in zip(texts, *(columns[name].tolist() for name in ("v", "vw", "o")), strict=True)
    ]
    assert json_rows(columns) == msgspec.json.encode(expected)
    # A column without the others, in another order of memory.
    assert json_rows({"vw": columns["vw"][::-1]}) == msgspec.json.encode([{"vw": row["vw"]} for row in expected[::-1]])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**6), st.integers(1, 10**5)), min_size=1, max_size=40))
def test_joined_minutes_are_their_sums_and_extremes(rows: list[tuple[int, int, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    keys, volumes, cents = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    prices = cents / 100.0
    count = np.arange(len(rows)) + 1
    bars = Bars(prices, prices + 0.05, prices / 2.0, prices + 0.02, volumes, prices, count, count // 2)
    joined = group(SymbolMinutes(keys, count, count * 60_000, bars), keys)
    assert joined.day.tolist() == sorted(set(keys.tolist()))
    for place, key in enumerate(joined.day.tolist()):
        some = keys == key
        first, last = np.flatnonzero(some)[[0, -1]]
        bar = [column[place] for column in joined.bars]
        dollars = (prices[some] * volumes[some]).sum()
        high, low = bars.high[some].max(), bars.low[some].min()
        assert bar[:5] == [bars.open[first], high, low, bars.close[last], volumes[some].sum()]
        assert bar[5] == pytest.approx(min(max(dollars / volumes[some].sum(), low), high), abs=1e-4)
        assert bar[6:] == [count[some].sum(), (count // 2)[some].sum()]


def test_days_between_are_those_that_are_known() -> None:
    plans = market_of(1).plans
    first, last = plans.first_index, plans.current.day.number
    assert [plan.day.number for plan in plans.between(last - 3, last - 1)] == [last - 3, last - 2, last - 1]
    assert [plan.day.number for plan in plans.between(first - 9, first + 1)] == [first, first + 1]
    assert [plan.day.number for plan in plans.between(last, last + 9)] == [last]
    assert plans.between(last, last - 1) == plans.between(first - 3, first - 1) == []
