"""One seeded market for all benchmarks: 12,000 symbols, Zipf-like activity, a morning of trades."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from tradeul.v1 import frame_pb2, market_data_pb2, session_pb2, stream_pb2

NEW_YORK = ZoneInfo("America/New_York")
DAY = "2026-03-10"
EPOCH = 1_773_000_000
SECOND = 1_000_000_000
SLOTS = 192


def at(clock: str) -> int:
    """Nanoseconds since 1970 UTC of a New York time of day (HH:MM:SS) on the benchmark's day."""
    return int(datetime.fromisoformat(f"{DAY}T{clock}").replace(tzinfo=NEW_YORK).timestamp()) * SECOND


@dataclass(frozen=True)
class Trades:
    """Columns of one batch, as in TradeBatch."""

    symbol_id: np.ndarray
    time_ns: np.ndarray
    price: np.ndarray
    size: np.ndarray
    conditions: np.ndarray

    def message(self) -> market_data_pb2.TradeBatch:
        return market_data_pb2.TradeBatch(
            symbol_id=self.symbol_id.tolist(),
            time_ns=self.time_ns.tolist(),
            price=self.price.tolist(),
            size=self.size.tolist(),
            conditions=self.conditions.tolist(),
        )


def trade_json(symbol: str, trade_id: int, price: float, size: int, conditions: str, time_ns: int) -> str:
    """A trade as the vendor sends it."""
    return (
        f'{{"ev":"T","sym":"{symbol}","x":4,"i":"{trade_id}","z":3,"p":{price!r},"s":{size},'
        f'"c":[{conditions}],"t":{time_ns // 1_000_000},"q":{trade_id}}}'
    )


def trades_json(trades: Trades, symbols: list[str], first_id: int) -> list[str]:
    """A batch's trades, of these symbols and numbered from `first_id` on, as the vendor sends each."""
    columns = (trades.symbol_id, trades.time_ns, trades.price, trades.size, trades.conditions)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        trade_json(
            symbols[symbol_id], number, price, int(size),
            ",".join(str(i) for i in (12, 37) if conditions >> i & 1), time_ns,
        )
        for number, (symbol_id, time_ns, price, size, conditions) in enumerate(rows, first_id)
    ]  # fmt: skip


def symbol_name(index: int) -> str:
    """A four-letter symbol: AAAA, AAAB ..."""
    letters = ""
    for _ in range(4):
        index, letter = divmod(index, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


class Workload:
    """A market that opens with gaps and trades on; the same for every contestant.

    `batches` lists of trades come in order of time; one trade in 50 is late by
    up to a second, one in 12 is an odd lot (37), one in 40 a Form T print (12).
    """

    def __init__(self, symbols: int = 12_000, seed: int = 7, start: str = "09:45:00") -> None:
        self.rng = np.random.default_rng(seed)
        self.symbols = [symbol_name(i) for i in range(symbols)]
        rank = self.rng.permutation(symbols) + 1
        weight = rank**-0.9
        self.cumulative = np.cumsum(weight / weight.sum())
        self.prev_close = np.round(np.exp(self.rng.normal(3.2, 1.0, symbols)) + 0.5, 2)
        self.level = np.round(self.prev_close * (1 + self.rng.standard_t(3, symbols) * 0.03).clip(0.5, 2.0), 2)
        self.avg_volume = np.round(2e9 * weight / weight.sum()) + 1000
        self.float_shares = np.round(self.avg_volume * self.rng.uniform(20, 200, symbols))
        self.start_ns = at(start)
        self.sequence = 0

    def frame(self, **body: object) -> bytes:
        """The next frame of the stream, encoded."""
        self.sequence += 1
        position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=self.sequence)
        return frame_pb2.Frame(position=position, **body).SerializeToString()  # type: ignore[arg-type]

    def startup_frames(self) -> Iterator[bytes]:
        """Yields the frames before the first trade: day, symbols, rules, reference, baselines."""
        yield self.frame(
            trading_day=frame_pb2.TradingDay(
                trading_date=DAY,
                pre_market_start_ns=at("04:00:00"),
                market_open_ns=at("09:30:00"),
                market_close_ns=at("16:00:00"),
                post_market_end_ns=at("20:00:00"),
            )
        )
        yield self.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.symbols))
        yield self.frame(
            list_filters=frame_pb2.ListFilters(
                filters=[
                    frame_pb2.ListFilter(name="price_range", expression="price >= 1"),
                    frame_pb2.ListFilter(
                        name="volume_min",
                        expression="volume_today >= 100000",
                        sessions=[session_pb2.MARKET_OPEN, session_pb2.POST_MARKET],
                    ),
                ]
            )
        )
        ids = range(len(self.symbols))
        numbers = {
            frame_pb2.PREV_CLOSE: self.prev_close,
            frame_pb2.PREV_VOLUME: self.avg_volume,
            frame_pb2.AVG_VOLUME_10D: self.avg_volume,
            frame_pb2.AVG_VOLUME_30D: self.avg_volume,
            frame_pb2.ATR: self.prev_close * 0.03,
            frame_pb2.FLOAT_SHARES: self.float_shares,
            frame_pb2.MARKET_CAP: self.float_shares * self.prev_close,
        }
        columns = [frame_pb2.NumberColumn(field=f, values=v.tolist()) for f, v in numbers.items()]
        yield self.frame(reference=frame_pb2.ReferenceColumns(symbol_id=ids, numbers=columns))
        curve = np.linspace(1 / SLOTS, 1, SLOTS) ** 1.2 * 0.4
        for first in range(0, len(self.symbols), 500):
            part = slice(first, min(first + 500, len(self.symbols)))
            volume = self.avg_volume[part, None] * curve
            yield self.frame(
                baselines=frame_pb2.VolumeBaselines(
                    symbol_id=range(part.start, part.stop),
                    days=[30] * (part.stop - part.start),
                    avg_volume=volume.ravel().tolist(),
                    avg_trades=(volume / 120).ravel().tolist(),
                    sd_trades=(volume / 600).ravel().tolist(),
                )
            )

    def trades(self, batches: int, rows: int, per_second: int = 50_000) -> Iterator[Trades]:
        """`batches` batches of `rows` trades at `per_second` trades a second of event time."""
        rng = self.rng
        count = len(self.symbols)
        for index in range(batches):
            ids = np.searchsorted(self.cumulative, rng.random(rows)).clip(0, count - 1).astype(np.uint32)
            offset = (index * rows + np.arange(rows)) * (SECOND // per_second)
            time_ns = self.start_ns + offset - np.where(rng.random(rows) < 0.02, rng.integers(0, SECOND, rows), 0)
            price = np.round(self.level[ids] * (1 + rng.normal(0, 0.002, rows)), 2).clip(0.01)
            size = rng.integers(1, 800, rows).astype(np.float64)
            draw = rng.random(rows)
            odd_lot, form_t = np.uint64(1 << 37), np.uint64(1 << 12)
            conditions = np.where(draw < 1 / 12, odd_lot, np.uint64(0)) | np.where(
                draw > 1 - 1 / 40, form_t, np.uint64(0)
            )
            yield Trades(ids, time_ns.astype(np.int64), price, size, conditions)

    def watermark(self, time_ns: int) -> bytes:
        return self.frame(watermark=frame_pb2.Watermark(event_time_ns=time_ns))
