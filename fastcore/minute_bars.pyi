from typing import NamedTuple

from typing_extensions import disjoint_base

from fastcore.market_state import MarketState

_Buffer = bytes | bytearray | memoryview

class Bar(NamedTuple):
    """A minute's bar: `start_ns` since 1970 UTC, prices in USD, volume in shares.

    `is_made`: from the trades, for want of the vendor's bar, which goes before it.
    """

    symbol_id: int
    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trades: int | None
    is_made: bool

@disjoint_base
class MinuteBars:
    """Gathers the one-minute bars of a stream that `state` follows.

    The vendor's bars are given out as they come, again when they are sent again. A minute without
    one is made from its trades 10 s after its end, and again when late trades change it, within the
    symbol's last 4 minutes. Only minutes from `whole_from_ns` on are made; -1 stands for the first
    that begins after what is seen first. Not for several threads at once.
    """

    def __init__(self, state: MarketState, whole_from_ns: int = -1) -> None: ...
    @property
    def now_ns(self) -> int:
        """The newest event or watermark seen here; 0 before the first."""

    @property
    def whole_from_ns(self) -> int: ...
    @property
    def late_trades(self) -> int:
        """Trades that came too late for a minute to be made of them."""

    @property
    def odd_bars(self) -> int:
        """The vendor's minute bars that do not begin with a minute; they are left out."""

    @property
    def ready_count(self) -> int:
        """Bars to be taken."""

    def apply(self, frame: _Buffer) -> int:
        """Takes the next encoded Frame, after the state has. ValueError for one that cannot be read."""

    def take(self) -> list[Bar]:
        """The bars given out since the last take, in order: of two of a minute the later holds."""
