"""The compiled gate against the plain one, row by row over random batches full of bad rows."""

import math
import random
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from tradeul.v1 import market_data_pb2

from fastcore.admission import REFUSED, UNNAMED, Admission
from fastcore.reference.admission_twin import AdmissionTwin

HOUR = 3_600_000_000_000
START = 1_773_130_000 * 1_000_000_000
END = START + 16 * HOUR
PRICES = (0.0, -0.0, -1.0, math.nan, math.inf, -math.inf, 1e7, 9_999_999.99, 5e-324, 1e300)
SIZES = (0.0, -5.0, math.nan, math.inf, 1e12, 999_999_999_999.0, 0.001)
IDS = array("i", [3, REFUSED, 0, 7, 2, REFUSED, 9, UNNAMED, UNNAMED, UNNAMED, UNNAMED])


def same(a: Message, b: Message) -> bool:
    """Equal messages, NaN being equal to NaN."""
    return [(f.name, repr(value)) for f, value in a.ListFields()] == [(f.name, repr(v)) for f, v in b.ListFields()]


class Names:
    """Ids of the feed's symbols, given when they are asked for: every third of those without one is refused."""

    def __init__(self) -> None:
        self.ids = array("i", IDS)
        self.asked: list[int] = []

    def name(self, feed_id: int) -> int:
        self.asked.append(feed_id)
        self.ids[feed_id] = REFUSED if len(self.asked) % 3 == 0 else 100 + len(self.asked)
        return self.ids[feed_id]


class Rows:
    """Random values: mostly fine, often on an edge, sometimes hopeless."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        # Of the day in force.
        self.start = START

    def time(self) -> int:
        rng, start = self.random, self.start
        ends = (0, 16 * HOUR, 24 * HOUR, 32 * HOUR, 48 * HOUR, 56 * HOUR)
        edges = (*(end + step for end in ends for step in (-1, 0, 1)), 2 * HOUR, 30 * HOUR)
        return start + rng.choice(edges) if rng.random() < 0.1 else start + rng.randrange(3 * HOUR)

    def price(self) -> float:
        return self.random.choice(PRICES) if self.random.random() < 0.05 else self.random.randint(1, 900) / 4

    def size(self) -> float:
        return self.random.choice(SIZES) if self.random.random() < 0.1 else float(self.random.randint(1, 900))

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(len(IDS)) for _ in range(count)]

    def many(self, count: int, value: Callable[[], Any]) -> list[Any]:
        return [value() for _ in range(count)]


def trades(rows: Rows, n: int) -> Message:
    rng = rows.random
    keys = rows.many(n, lambda: rng.choice((0, rng.randrange(1, 30), rng.randrange(1, 2**64))))
    return market_data_pb2.TradeBatch(
        symbol_id=rows.ids(n),
        time_ns=rows.many(n, rows.time),
        price=rows.many(n, rows.price),
        size=rows.many(n, rows.size),
        conditions=rows.many(n, lambda: 1 << rng.choice((15, 16, rng.randrange(64)))),
        trade_key=keys if rng.random() < 0.9 else [],
    )


def bars(rows: Rows, n: int) -> Message:
    rng = rows.random
    message = market_data_pb2.BarBatch(
        span=rng.choice((market_data_pb2.SECOND, market_data_pb2.MINUTE)),
        symbol_id=rows.ids(n),
        volume=rows.many(n, rows.size),
    )
    for _ in range(n):
        start = rows.time()
        message.start_ns.append(start)
        message.end_ns.append(start + rng.choice((1_000_000_000, 60_000_000_000, 1_000_000_000, 0, -1)))
        if rng.random() < 0.1:
            values = rows.many(4, rows.price)
        else:
            low, a, b, high = sorted(rows.random.randint(1, 5) / 4 for _ in range(4))
            values = [a, high, low, b]
        for column, value in zip((message.open, message.high, message.low, message.close), values, strict=True):
            column.append(value)
    for column in (message.accumulated_volume, message.average_size):
        column.extend(rows.many(n, rows.size))
    for column in (message.day_vwap, message.official_open, message.vwap):
        column.extend(rows.many(n, rows.price))
    return message


def quotes(rows: Rows, n: int) -> Message:
    return market_data_pb2.QuoteBatch(
        symbol_id=rows.ids(n),
        time_ns=rows.many(n, rows.time),
        bid=rows.many(n, rows.price),
        ask=rows.many(n, rows.price),
        bid_size=rows.many(n, rows.size),
        ask_size=rows.many(n, rows.size),
    )


def limits(rows: Rows, n: int) -> Message:
    return market_data_pb2.LimitBatch(
        symbol_id=rows.ids(n),
        time_ns=rows.many(n, rows.time),
        upper=rows.many(n, rows.price),
        lower=rows.many(n, rows.price),
        indicators=rows.many(n, lambda: rows.random.randrange(2**64)),
    )


@pytest.mark.parametrize("make", [trades, bars, quotes, limits])
@pytest.mark.parametrize("seed", range(4))
def test_same_rows_same_reasons(make: Callable[[Rows, int], Message], seed: int) -> None:
    rows = Rows(seed)
    names, plain_names = Names(), Names()
    fast, plain = Admission(name=names.name), AdmissionTwin(plain_names.name)
    for step in range(80):
        if step == 40:
            # Another day, whose trades have the same ids.
            rows.start += 24 * HOUR
        latest = rows.random.choice((2**63 - 1, rows.start + 2 * HOUR))
        for gate in (fast, plain):
            gate.set_bounds(rows.start, rows.start + 16 * HOUR, latest)
            if step in (0, 40):
                gate.set_later_days([(rows.start + day * HOUR, rows.start + (day + 8) * HOUR) for day in (24, 48)])
        message = make(rows, rows.random.choice((0, 1, 2, 17, 100)))
        encoded = message.SerializeToString()
        name = f"admit_{make.__name__}"
        bytes_, count = getattr(fast, name)(encoded, names.ids)
        expected, expected_count = getattr(plain, name)(encoded, plain_names.ids)
        assert same(type(message).FromString(bytes_), type(message).FromString(expected)), step
        assert count == expected_count
        assert fast.rejected == {reason: plain.rejected[reason] for reason in fast.rejected}, step
        assert fast.accepted[make.__name__] == plain.accepted[make.__name__]
        assert fast.newest_ns == plain.newest_ns
        assert fast.aside_ns == plain.aside_ns
        assert (names.ids, names.asked) == (plain_names.ids, plain_names.asked), step
        assert (fast.later_symbols, fast.begun_day) == (plain.later_symbols, plain.begun_day), step
    assert 0 < len(names.asked) <= 4


def test_nothing_enters_before_bounds_are_set() -> None:
    message = trades(Rows(1), 50)
    gate = Admission()
    assert gate.admit_trades(message.SerializeToString(), IDS) == (b"", 0)


@pytest.mark.parametrize("make", [trades, bars, quotes, limits])
def test_a_symbol_beyond_the_map_is_refused_whole(make: Callable[[Rows, int], Message]) -> None:
    message = make(Rows(2), 5)
    message.symbol_id[3] = len(IDS)  # type: ignore[attr-defined]
    gate = Admission()
    gate.set_bounds(START, END)
    with pytest.raises(ValueError, match="symbol_id"):
        getattr(gate, f"admit_{make.__name__}")(message.SerializeToString(), IDS)
    assert sum(gate.accepted.values()) == 0
