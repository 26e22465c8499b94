from array import array
from collections.abc import Iterable

from typing_extensions import disjoint_base

_Buffer = bytes | bytearray | memoryview

@disjoint_base
class MarketState:
    """One row per symbol, with every field of docs/fields.md; ids are dense, in the order of the symbol table.

    Rows, columns and filters show the state as of the last refresh(). Before trade rules come, the
    built-in ones hold. Not for several threads at once. One that keeps no windows needs half the memory; it
    has what fastcore/measures.pyx tells, and its rows, columns and bytes are refused.
    """

    def __new__(cls, keeps_windows: bool = True) -> MarketState: ...
    @property
    def count(self) -> int:
        """Rows, which is symbols."""

    @property
    def now_ns(self) -> int:
        """The newest event accepted or the newest watermark, ns since 1970 UTC; 0 before the first."""

    @property
    def window_mark_ns(self) -> int:
        """Now rounded down to 10 s: windows change when it moves."""

    @property
    def session(self) -> int:
        """Code of the session of now (1 PRE_MARKET to 4 CLOSED); 0 before a trading day is known."""

    @property
    def trading_date(self) -> str:
        """YYYY-MM-DD; empty before a trading day is known."""

    @property
    def next_trading_date(self) -> str:
        """The trading day after it, YYYY-MM-DD; empty where the calendar ends."""

    @property
    def symbols(self) -> list[str]:
        """All symbols, by id."""

    @property
    def active_count(self) -> int:
        """Symbols that have had a trade or bar today."""

    @property
    def derived_rows(self) -> int:
        """Rows whose derived columns refresh() computed anew, in all: what it costs."""

    @property
    def list_bytes(self) -> int:
        """Memory that the windows and volumes of all symbols have needed at once so far today."""

    @property
    def halted_count(self) -> int:
        """Symbols that are halted now."""

    @property
    def suspect_prints(self) -> dict[str, int]:
        """Today's suspect prints by outcome: unconfirmed (so far), confirmed_by_trade, confirmed_by_bar."""

    @property
    def lowered_volumes(self) -> int:
        """Number of bars with fewer shares than had been counted."""

    def apply(self, frame: _Buffer) -> int:
        """Applies one encoded Frame, the position of which is the caller's to check.

        ValueError for one that cannot be applied; it may then have been in part, and the copy
        is no longer to be used.
        """

    def refresh(self) -> int:
        """Brings all derived columns to the rows' moments; costs nothing when they are.

        What moves with time alone is that of the last watermark that found the row touched or
        that began a second, and of now while the row is touched and no watermark has come since.
        """

    def symbol_id(self, symbol: str) -> int:
        """The id of a symbol; -1 when there is none."""

    def text_code(self, text: str) -> int:
        """The code of a text in text columns; -1 when no row has had it."""

    def encode_row(self, symbol_id: int) -> bytes:
        """The encoded TickerRow, without rank. IndexError for no id."""

    def row(self, symbol: str, names: Iterable[str] | None = None) -> dict[str, float | str | bool | int]:
        """The fields that can be known by name, or those of `names` and the symbol: enums as texts, times as ns.
        KeyError for no symbol, or no such field.
        """

    def column(self, name: str) -> array[float]:
        """A copy of a field's column by id: NaN is absent. KeyError for no such field, or a text."""

    def number(self, symbol: str, name: str) -> float:
        """A field of one symbol as it is stored, NaN when absent. KeyError for no symbol, no such field, or a text."""

    def texts(self, name: str) -> list[str]:
        """A copy of a text field's column by id: "" is absent. KeyError for no such field, or one that is no text."""

    def to_bytes(self, with_baselines: bool = True) -> bytes:
        """Returns the snapshot; a copy made of it continues exactly like this one.

        More than half of it are baselines, which only their frames change: a copy made without
        them does so once take_baselines() has brought it the same.
        """

    @staticmethod
    def from_bytes(data: _Buffer, keeps_windows: bool = True) -> MarketState:
        """The state that to_bytes() wrote; ValueError when it cannot be read. Not yet refreshed."""

    def take_baselines(self, earlier: MarketState) -> None:
        """Takes over the baselines of an earlier copy of this market, which is left without.

        ValueError when the other's symbols are not the first of this one's.
        """

    def hash(self) -> int:
        """64 bits of all that decides what comes: equal for equal streams, however events are cut into batches."""
