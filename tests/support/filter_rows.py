"""A state whose rows have, in many combinations, what tests/support/filter_texts.py asks for."""

import math
import random
from collections.abc import Mapping
from typing import Any

from tradeul.v1 import frame_pb2, market_data_pb2, stream_pb2

from fastcore.fields import SECTORS
from fastcore.market_state import MarketState

DAY_NS = 1_767_571_200_000_000_000  # 2026-01-05 00:00 UTC
HOUR_NS = 3_600_000_000_000
PRE_MARKET_NS, OPEN_NS = DAY_NS + 9 * HOUR_NS, DAY_NS + 14 * HOUR_NS + HOUR_NS // 2
CLOSE_NS, END_NS = DAY_NS + 21 * HOUR_NS, DAY_NS + 25 * HOUR_NS
REFERENCE_NUMBERS = ("PREV_CLOSE", "AVG_VOLUME_10D", "AVG_VOLUME_30D", "FLOAT_SHARES", "MARKET_CAP", "BETA")
REFERENCE_TEXTS = ("COMPANY_NAME", "EXCHANGE", "SECTOR", "INDUSTRY", "SECURITY_TYPE", "LIST_DATE")
HALT, RESUME = 1 << 17, 1 << 18


def frames(bodies: list[dict[str, Any]]) -> list[bytes]:
    """The bodies as encoded frames 1, 2, ... of epoch 1."""
    return [
        frame_pb2.Frame(position=stream_pb2.StreamPosition(epoch=1, sequence=i), **body).SerializeToString()
        for i, body in enumerate(bodies, 1)
    ]


def reference(symbol_ids: list[int], **columns: list[Any]) -> dict[str, Any]:
    """A frame's body with a column for each name of ReferenceField."""
    message = frame_pb2.ReferenceColumns(symbol_id=symbol_ids)
    for name, values in columns.items():
        field = frame_pb2.ReferenceField.Value(name)
        (message.texts if name in REFERENCE_TEXTS else message.numbers).add(field=field, values=values)
    return {"reference": message}


def opening(symbols: list[str]) -> list[dict[str, Any]]:
    """Symbols and the trading day of 5 January 2026, Eastern Standard Time."""
    day = frame_pb2.TradingDay(
        trading_date="2026-01-05",
        pre_market_start_ns=PRE_MARKET_NS,
        market_open_ns=OPEN_NS,
        market_close_ns=CLOSE_NS,
        post_market_end_ns=END_NS,
    )
    return [{"symbols": frame_pb2.SymbolTable(first_id=0, symbols=symbols)}, {"trading_day": day}]


def trades(*rows: tuple[int, int, float, float]) -> dict[str, Any]:
    """Trades (symbol id, time, price, size) without conditions."""
    ids, times, prices, sizes = (list(column) for column in zip(*rows, strict=True))
    batch = market_data_pb2.TradeBatch(
        symbol_id=ids, time_ns=times, price=prices, size=sizes, conditions=[0] * len(rows)
    )
    return {"trades": batch}


def limits(*rows: tuple[int, int, int]) -> dict[str, Any]:
    """LULD messages (symbol id, time, indicators) without bands."""
    ids, times, indicators = (list(column) for column in zip(*rows, strict=True))
    nothing = [math.nan] * len(rows)
    return {
        "limits": market_data_pb2.LimitBatch(
            symbol_id=ids, time_ns=times, upper=nothing, lower=nothing, indicators=indicators
        )
    }


def watermark(time_ns: int) -> dict[str, Any]:
    return {"watermark": frame_pb2.Watermark(event_time_ns=time_ns)}


def random_bodies(count: int, seed: int) -> list[dict[str, Any]]:
    """Everything a state of `count` rows is made of; few distinct values, so that equality happens."""
    chance = random.Random(seed)
    ids = list(range(count))
    numbers = (0.5, 1.0, 2.0, 2.5, 10.0, 1000.0)
    columns: dict[str, list[Any]] = {
        name: [chance.choice((*numbers, math.nan, math.nan)) for _ in ids] for name in REFERENCE_NUMBERS
    }
    columns["BETA"] = [chance.choice((-2.5, -1.0, 0.0, 1.0, 2.0, math.nan)) for _ in ids]
    columns["IS_ETF"] = [chance.choice((0.0, 1.0, math.nan)) for _ in ids]
    words = ("", "a", "b", "A", 'quo"te', "back\\slash")
    columns |= {name: [chance.choice(words) for _ in ids] for name in REFERENCE_TEXTS}
    columns["SECTOR"] = [chance.choice(("", "a", *SECTORS[:2])) for _ in ids]
    traded = [
        (i, time, chance.choice(numbers[:-1]), chance.choice((1.0, 100.0)))
        for time in (PRE_MARKET_NS + 1, OPEN_NS + 1, CLOSE_NS + 1)
        for i in ids
        if chance.random() < 0.5
    ]
    halted = [(i, OPEN_NS + 2, chance.choice((HALT, RESUME))) for i in ids if chance.random() < 0.5]
    symbols = [f"S{i}" for i in ids]
    chance.shuffle(symbols)
    return [
        *opening(symbols),
        reference(ids, **columns),
        trades(*traded),
        limits(*halted),
        watermark(CLOSE_NS + HOUR_NS),
    ]


def state_of(bodies: list[dict[str, Any]]) -> MarketState:
    """A state that has applied the bodies, refreshed."""
    state = MarketState()
    for frame in frames(bodies):
        state.apply(frame)
    state.refresh()
    return state


def rows_of(state: MarketState) -> list[Mapping[str, Any]]:
    """The rows by symbol id, absent fields left out."""
    return [state.row(symbol) for symbol in state.symbols]
