"""The vendor's full-market snapshot as columns (docs/semantics.md); what is no price or volume becomes absent."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from fastcore.columns import SnapshotColumns, condition_mask
from fastcore.wire import read_fields, write_fields
from services.kit.vendor.models import SnapshotBar, SnapshotQuote, SnapshotTicker, SnapshotTrade

# A frame of so many rows holds an event loop up for well under a millisecond.
PART_ROWS: Final = 2000
NAN: Final = math.nan
MAX_PRICE: Final = 1e7
MAX_SIZE: Final = 1e12
MAX_TIME_NS: Final = 2**62
FORM_T: Final = 1 << 12
_SYMBOL_ID: Final = 16
_BYTES: Final = 2


class SnapshotRules(NamedTuple):
    """Decides if a last trade may set the price: the rules' mask, and the regular session."""

    forbids_last: int
    market_open_ns: int
    market_close_ns: int


class SnapshotPart(NamedTuple):
    """Some rows: `columns` is an encoded VendorSnapshot whose ids are indexes of `symbols`."""

    symbols: list[str]
    columns: bytes

    def encode(self, ids: Sequence[int]) -> bytes:
        """The VendorSnapshot with the ids that a symbol table gave these symbols, without rows of negative ids.

        Empty bytes when no row is left. ValueError for another number of ids.
        """
        if len(ids) != len(self.symbols):
            raise ValueError(f"expected {len(self.symbols)} ids, was {len(ids)}")
        numbers = np.asarray(ids, dtype=np.int64)
        kept = numbers >= 0
        if not kept.any():
            return b""
        fields: list[tuple[int, int, int | bytes]] = [(_SYMBOL_ID, _BYTES, numbers[kept].astype("<u4").tobytes())]
        for number, kind, column in read_fields(self.columns):
            if number != _SYMBOL_ID:
                assert isinstance(column, bytes), "columns are packed"
                rows = np.frombuffer(column, f"V{len(column) // len(ids)}")
                fields.append((number, kind, rows[kept].tobytes()))
        return write_fields(fields)


def snapshot_parts(
    tickers: Iterable[SnapshotTicker], rules: SnapshotRules, part_rows: int = PART_ROWS
) -> Iterator[SnapshotPart]:
    """The rows of symbols that have been updated, in parts."""
    columns = SnapshotColumns()
    symbols: list[str] = []
    for ticker in tickers:
        if not nanoseconds(ticker.updated):
            continue
        _append(columns, len(symbols), ticker, rules)
        symbols.append(ticker.ticker)
        if len(symbols) == part_rows:
            yield SnapshotPart(symbols, columns.encode())
            columns.clear()
            symbols = []
    if symbols:
        yield SnapshotPart(symbols, columns.encode())


def _append(columns: SnapshotColumns, row: int, ticker: SnapshotTicker, rules: SnapshotRules) -> None:
    trade_ns, trade_price = _last_trade(ticker.last_trade, rules)
    day = ticker.day or SnapshotBar()
    minute = ticker.min or SnapshotBar()
    quote = ticker.last_quote or SnapshotQuote(0)
    columns.append(
        row,
        nanoseconds(ticker.updated),
        trade_ns,
        trade_price,
        _price(day.o),
        _price(day.h),
        _price(day.l),
        _price(day.c),
        _price(day.vw),
        _volume(minute),
        _price(minute.c),
        _price(quote.p),
        _price(quote.ask),
        nanoseconds(minute.t or 0),
        _price(minute.h),
        _price(minute.l),
    )


def _last_trade(trade: SnapshotTrade | None, rules: SnapshotRules) -> tuple[int, float]:
    """Time and price of a last trade that may set the price; 0 and NaN of another."""
    if trade is None:
        return 0, NAN
    time_ns, price = nanoseconds(trade.t), _price(trade.p)
    conditions = condition_mask(trade.c)
    if not rules.market_open_ns <= time_ns < rules.market_close_ns:
        conditions &= ~FORM_T
    if conditions & rules.forbids_last or math.isnan(price) or not time_ns:
        return 0, NAN
    return time_ns, price


def _price(value: float | None) -> float:
    return value if value is not None and 0 < value < MAX_PRICE else NAN


def _volume(minute: SnapshotBar) -> float:
    """Shares since 04:00; the decimal text carries the fractions."""
    volume = minute.av
    if minute.dav:
        try:
            volume = float(minute.dav)
        except ValueError:
            volume = minute.av
    return volume if volume is not None and 0 < volume < MAX_SIZE else NAN


def nanoseconds(time: int) -> int:
    """A time in s, ms, us or ns since 1970 UTC, recognised by its magnitude, in ns; 0 for none."""
    if not 0 < time < MAX_TIME_NS:
        return 0
    for bound, factor in ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3)):
        if time < bound:
            return time * factor
    return time
