from typing_extensions import disjoint_base

@disjoint_base
class _Columns:
    def __len__(self) -> int: ...
    def clear(self) -> None:
        """Forgets the rows and keeps the memory."""

    def encode(self) -> bytes:
        """The encoded message; empty bytes when there are no rows."""

class TradeColumns(_Columns):
    """Builder of a TradeBatch, in order of arrival.

    Nothing is judged here: whatever a double can hold is passed on, so that one place,
    admission, sets bad rows aside. Numbers that do not fit their column (a symbol id below 0
    or above 2**32 - 1, a time above 2**63 - 1) are an OverflowError and add no row.
    """

    def __init__(self) -> None: ...
    def append(self, symbol_id: int, time_ns: int, price: float, size: float, conditions: int, trade_key: int) -> None:
        """One trade: time in ns since 1970 UTC, price in USD, size in shares, condition_mask(), trade_key()."""

class BarColumns(_Columns):
    """Builder of a BarBatch of one span, 1 (second) or 2 (minute); ValueError for another."""

    def __init__(self, span: int) -> None: ...
    def append(
        self,
        symbol_id: int,
        start_ns: int,
        end_ns: int,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
        accumulated_volume: float = ...,
        day_vwap: float = ...,
        official_open: float = ...,
        vwap: float = ...,
        average_size: float = ...,
    ) -> None:
        """One bar: times in ns since 1970 UTC, prices in USD, volumes in shares; NaN is absent."""

class QuoteColumns(_Columns):
    """Builder of a QuoteBatch."""

    def __init__(self) -> None: ...
    def append(
        self, symbol_id: int, time_ns: int, bid: float, ask: float, bid_size: float = ..., ask_size: float = ...
    ) -> None:
        """One quote: time in ns since 1970 UTC, prices in USD, sizes as the vendor sends them; NaN is absent."""

class LimitColumns(_Columns):
    """Builder of a LimitBatch."""

    def __init__(self) -> None: ...
    def append(self, symbol_id: int, time_ns: int, upper: float, lower: float, indicators: int) -> None:
        """One LULD message: time in ns since 1970 UTC, bands in USD (NaN absent), condition_mask(indicators)."""

class SnapshotColumns(_Columns):
    """Builder of a VendorSnapshot."""

    def __init__(self) -> None: ...
    def append(
        self,
        symbol_id: int,
        updated_ns: int,
        last_trade_ns: int = 0,
        last_trade_price: float = ...,
        day_open: float = ...,
        day_high: float = ...,
        day_low: float = ...,
        day_close: float = ...,
        day_vwap: float = ...,
        accumulated_volume: float = ...,
        minute_close: float = ...,
        bid: float = ...,
        ask: float = ...,
        minute_start_ns: int = 0,
        minute_high: float = ...,
        minute_low: float = ...,
    ) -> None:
        """One symbol of the vendor's snapshot: times in ns since 1970 UTC (0 absent), prices in USD (NaN absent)."""

def condition_mask(conditions: list[int] | None) -> int:
    """The bits of a list of the vendor's condition or indicator ids; none for None.

    Ids outside 0-62 set bit 63, "some unknown one". TypeError when an element is no int.
    """
