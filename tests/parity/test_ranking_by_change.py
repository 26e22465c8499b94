"""Lists and scans that are ranked by the rows that changed, against the same ranked from all rows."""

import math
import random

import pytest
from tradeul.v1 import scanner_pb2

from fastcore.fields import FIELDS
from fastcore.filters import Filter, Order, compile_filter, compile_order
from fastcore.market import Market
from fastcore.market_state import MarketState
from fastcore.ranked_list import RankedList
from services.kit.lists.definitions import load_lists
from tests.support.market_stream import EPOCH, MarketStream
from tests.support.tape import SECOND, Tape, a_list, rows_of

# With few different values, so that many rows are equal in the first key, also at a list's end.
SCANS = [
    ("has(price)", "gap_size desc", 7),
    ("price > 1", "session desc, gap_size asc", 25),
    ("has(price)", "symbol desc", 10),
    ("NOT has(rvol) OR rvol < 2", "halts_today desc, rvol desc", 12),
    ("age_seconds < 2", "age_seconds asc", 20),
    ("vol_1m > 100", "chg_5m desc, vol_1m asc", 15),
    ('sector != "Energy"', "", 1000),
    ("change_percent > 0", "change_percent desc", 40),
    ('symbol IN ("A", "B") OR price > 30', "abs(gap_percent) / price desc", 5),
]


def symbols_of(ranked_list: bytes) -> list[str]:
    return [row.symbol for row in rows_of(ranked_list)]


def dense(seed: int, length: int = 500) -> list[bytes]:
    """A day of frames with many watermarks a second."""
    return list(MarketStream(seed, length=length, symbols=200, pace=200, two_days=False).frames(20))


class Scans:
    """Custom scans of one market, each beside the query that has to find the same rows."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.scans: list[tuple[RankedList, Filter, Order, int]] = []
        for text, order_by, limit in SCANS:
            filter, order = compile_filter(text), compile_order(order_by)
            self.scans.append((market.add_scan(filter, order, limit), filter, order, limit))

    def check(self, handle: RankedList, filter: Filter, order: Order, limit: int) -> None:
        expected = symbols_of(self.market.query(filter, order, limit))
        assert symbols_of(self.market.scan_snapshot(handle)) == expected, (filter.text, order.text)


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_has_the_rows_of_a_query_whenever_it_is_refreshed(seed: int) -> None:
    """Also in the middle of a second, between watermarks, and by changes of one frame or of many."""
    rng = random.Random(seed)
    market = Market(load_lists(), EPOCH)
    scans = Scans(market)
    for frame in dense(seed):
        if market.take(frame):
            market.refresh()
        for scan in scans.scans:
            if rng.random() < 0.3:
                market.refresh_scan(scan[0])
                scans.check(*scan)


@pytest.mark.parametrize("seed", range(9, 12))
def test_orders_of_all_rows_read_what_the_rows_show(seed: int) -> None:
    """The columns that are made for them follow the rows, whichever are wanted, and however often."""
    rng = random.Random(seed)
    state = MarketState()
    names = [field.name for field in FIELDS if field.kind not in ("text", "boolean")]
    orders = {name: compile_order(f"{name} asc") for name in names}
    often = rng.sample(names, 10)
    for frame in MarketStream(seed, length=500, symbols=200, pace=200).frames(20):
        state.apply(frame)
        state.refresh()
        for name in [*often, rng.choice(names)] if rng.random() < 0.3 else ():
            expected = [math.inf if math.isnan(value) else value for value in state.column(name)]
            assert [key for (key,) in orders[name].keys(state)] == expected, name


@pytest.mark.parametrize("seed", range(3, 6))
def test_a_market_from_bytes_goes_on_in_the_middle_of_a_second(seed: int) -> None:
    """It ranks all rows where the other one ranks the changed ones, and publishes the same."""
    definitions = load_lists()
    market = Market(definitions, EPOCH)
    rng = random.Random(seed)
    for number, frame in enumerate(dense(seed), 1):
        copy = Market.from_bytes(definitions, market.to_bytes())
        assert copy.hash() == market.hash()
        if rng.random() < 0.2:
            # Who looks in between changes nothing.
            market.query(compile_filter("rvol > 1"), compile_order("rvol desc"), 10)
        updates = [update.delta for update in market.apply(frame)]
        assert [update.delta for update in copy.apply(frame)] == updates, number
        assert copy.hash() == market.hash(), number


def test_a_refresh_looks_at_the_rows_that_changed() -> None:
    tape = Tape([f"S{i:04}" for i in range(2000)])
    specs = [a_list(f"risers{i}", f"change_percent > {i}", "change_percent desc", limit=20) for i in range(5)]
    market = Market(specs, tape.epoch)
    for frame in tape.opening():
        market.apply(frame)
    market.apply(tape.trades({symbol: 101.0 + i % 100 for i, symbol in enumerate(tape.symbols)}))
    market.apply(tape.watermark(1.0))
    for number in range(5):
        before = market.ranked_rows
        market.apply(tape.trades({tape.symbols[number + k]: 300.0 + number for k in range(10)}))
        assert len(market.apply(tape.watermark())) == len(specs)
        assert market.ranked_rows - before == 10 * len(specs)


def test_rows_move_up_from_behind_a_list_until_all_are_looked_at_again() -> None:
    symbols = [f"S{i:04}" for i in range(1000)]
    tape = Tape(symbols)
    market = Market([a_list(limit=10)], tape.epoch)
    for frame in tape.opening():
        market.apply(frame)
    price = {symbol: 300.0 - i // 3 * 0.5 for i, symbol in enumerate(symbols)}
    market.apply(tape.trades(price))
    market.apply(tape.watermark(1.0))
    full = 0
    for _ in range(100):
        # The best one falls behind all others.
        best = symbols_of(market.snapshot("risers"))[0]
        price[best] = 101.0
        before = market.ranked_rows
        market.apply(tape.trades({best: 101.0}))
        market.apply(tape.watermark())
        full += market.ranked_rows - before > 1
        assert symbols_of(market.snapshot("risers")) == sorted(price, key=lambda s: (-price[s], s))[:10]
    assert 0 < full < 10


def test_only_touched_rows_move_between_whole_seconds() -> None:
    tape = Tape(["A", "B", "C"])
    spec = a_list("early", "age_seconds >= 0.5", "age_seconds desc")
    market = Market([spec], tape.epoch)
    for frame in tape.opening():
        market.apply(frame)

    def ages() -> dict[str, float]:
        return {symbol: market.state.number(symbol, "age_seconds") for symbol in tape.symbols}

    def at_watermark(seconds: float) -> dict[str, float]:
        market.apply(tape.watermark(seconds))
        market.state.refresh()
        return {symbol: round(age, 3) for symbol, age in ages().items()}

    tape.now_ns -= 1_000_000
    market.apply(tape.trades({"A": 101.0, "B": 101.0, "C": 101.0}))
    assert at_watermark(0.2) == {"A": 0.2, "B": 0.2, "C": 0.2}
    # Within the second nothing moves but what is touched.
    assert at_watermark(0.4) == {"A": 0.2, "B": 0.2, "C": 0.2}
    assert market.list_count("early") == 0
    market.apply(tape.trades({"A": 101.0}))
    assert market.row("A") is not None
    assert at_watermark(0.1) == {"A": 0.1, "B": 0.2, "C": 0.2}
    # The first watermark of the next second moves all.
    assert at_watermark(0.4) == {"A": 0.5, "B": 1.101, "C": 1.101}
    assert symbols_of(market.snapshot("early")) == ["B", "C", "A"]
    assert tape.now_ns % SECOND == 101_000_000


def test_a_list_delta_of_changed_rows_is_what_protobuf_would_write() -> None:
    market = Market(load_lists(), EPOCH)
    for frame in dense(6, length=200):
        for update in market.apply(frame):
            delta = scanner_pb2.ListDelta.FromString(bytes(update.delta))
            assert delta.SerializeToString(deterministic=True) == update.delta
