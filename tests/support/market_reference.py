"""Random reference data, baselines and scanner filters, some of them absent or at their edges."""

import math
import random
from collections.abc import Sequence
from typing import Final

from tradeul.v1 import frame_pb2, session_pb2

SLOTS: Final = 192
SECTORS: Final = ("Energy", "Technology", "Healthcare", "")
FILTERS: Final = (
    frame_pb2.ListFilter(name="price", expression="price >= 1"),
    frame_pb2.ListFilter(
        name="volume",
        expression="volume_today >= 300",
        sessions=[session_pb2.MARKET_OPEN, session_pb2.POST_MARKET],
    ),
    frame_pb2.ListFilter(name="rvol", expression="NOT has(rvol) OR rvol >= 0.1"),
    frame_pb2.ListFilter(name="sector", expression='sector IN ("Energy", "Technology") OR NOT has(sector)'),
    frame_pb2.ListFilter(name="early", expression="trades_today >= 2", sessions=[session_pb2.PRE_MARKET]),
)


def reference_columns(
    rng: random.Random, ids: Sequence[int], symbols: Sequence[str], level: Sequence[float]
) -> frame_pb2.ReferenceColumns:
    """Most of the columns for the symbols of `ids`; `level` is the price each trades at."""
    numbers = []
    for field in range(frame_pb2.PREV_CLOSE, frame_pb2.PREV_SSR + 1):
        if rng.random() < 0.8:
            values = [_number(rng, field, level[i]) for i in ids]
            numbers.append(frame_pb2.NumberColumn(field=frame_pb2.ReferenceField.ValueType(field), values=values))
    texts = [
        frame_pb2.TextColumn(field=frame_pb2.SECTOR, values=[rng.choice(SECTORS) for _ in ids]),
        frame_pb2.TextColumn(field=frame_pb2.COMPANY_NAME, values=[f"{symbols[i]} Société Inc." for i in ids]),
        frame_pb2.TextColumn(field=frame_pb2.EXCHANGE, values=[rng.choice(("XNAS", "XNYS", "")) for _ in ids]),
    ]
    return frame_pb2.ReferenceColumns(symbol_id=ids, numbers=numbers, texts=texts)


def _number(rng: random.Random, field: int, level: float) -> float:
    if rng.random() < 0.05:
        return math.nan
    if field in (frame_pb2.IS_ETF, frame_pb2.PREV_SSR):
        return float(rng.random() < 0.2)
    if field in (frame_pb2.PREV_CLOSE, frame_pb2.AVG_PRICE_30D) or frame_pb2.PREV_OPEN <= field <= frame_pb2.CLOSE_20D:
        return round(level * rng.uniform(0.8, 1.2), 2)
    if field == frame_pb2.ATR:
        return level * 0.03
    return float(rng.randint(100, 1_000_000))


def baselines(rng: random.Random, ids: Sequence[int]) -> frame_pb2.VolumeBaselines:
    message = frame_pb2.VolumeBaselines()
    for symbol in ids:
        shares, trades = rng.uniform(0, 60), rng.uniform(0, 0.5)
        first = rng.choice((0, 0, 5, 66))
        curve = [max(0, slot - first + 1) for slot in range(SLOTS)]
        message.symbol_id.append(symbol)
        message.days.append(rng.choice((30, 30, 17, 3, 2, 0)))
        message.avg_volume.extend(value * shares for value in curve)
        message.avg_trades.extend(value * trades for value in curve)
        message.sd_trades.extend(value * trades / 3 for value in curve)
    return message


def list_filters(rng: random.Random) -> frame_pb2.ListFilters:
    return frame_pb2.ListFilters(filters=[f for f in FILTERS if rng.random() < 0.4])
