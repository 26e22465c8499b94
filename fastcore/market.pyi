from collections.abc import Iterable
from typing import Protocol, type_check_only

from typing_extensions import disjoint_base

from fastcore.alert_book import AlertEvent
from fastcore.alert_rules import AlertRule
from fastcore.filters import Filter, Order
from fastcore.market_state import MarketState
from fastcore.prepared_buffer import PreparedBuffer
from fastcore.ranked_list import ListUpdate, RankedList

_Buffer = bytes | bytearray | memoryview

@type_check_only
class ListDefinition(Protocol):
    """The part of a definition that decides a list's rows; ListSpec of services/kit/lists/definitions.py has it."""

    @property
    def name(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def order_by(self) -> str: ...
    @property
    def stay(self) -> str: ...
    @property
    def base_filter(self) -> str: ...
    @property
    def uses_scanner_filters(self) -> bool: ...
    @property
    def limit(self) -> int: ...

@disjoint_base
class Market:
    """The market of one epoch.

    `definitions`: the built-in lists; FilterError (a ValueError) when one has a
    wrong filter or order. With `encode_deltas=False` lists and sequences are kept
    as ever, but ListUpdate.delta stays empty (scans' excepted). Not for several
    threads at once.
    """

    state: MarketState
    epoch: int
    sequence: int
    # Of the last watermark, in order.
    alert_events: list[AlertEvent]
    def __init__(self, definitions: Iterable[ListDefinition], epoch: int, encode_deltas: bool = True) -> None: ...
    def apply(self, frame: _Buffer) -> list[ListUpdate]:
        """Applies the next encoded Frame; the updates of the lists that it changed, scans last.

        Only watermarks change lists. ValueError for a frame that cannot be
        applied: the copy is then no longer to be used.
        """

    def take(self, frame: _Buffer) -> bool:
        """Applies the next encoded Frame but for the lists; returns True when refresh() has to be the next call.

        ValueError as for apply().
        """

    def refresh(self) -> list[ListUpdate]:
        """Publishes the built-in lists anew, as apply() does at a watermark; the updates of those that changed."""

    def refresh_lists(self) -> list[ListUpdate]:
        """The same without the alerts, which refresh_alerts() looks for before anything else changes the market.

        Until then `alert_events` is empty, and the market can be read but neither continued nor written: ValueError.
        """

    def refresh_alerts(self) -> None:
        """`alert_events` are from now on those of the watermark whose lists have just been refreshed."""

    @property
    def list_names(self) -> list[str]:
        """The names of the built-in lists, in the order of their definitions."""

    @property
    def ranked_rows(self) -> int:
        """Rows that lists, scans and queries have looked at, in all: what ranking costs."""

    def list_sequence(self, name: str) -> int:
        """How often a list has changed in this epoch; 0 while it is empty from the start. KeyError for no list."""

    def list_count(self, name: str) -> int:
        """Rows of a list as published."""

    def snapshot(self, name: str, limit: int | None = None) -> bytes:
        """A list as last published, its first `limit` rows: an encoded RankedList.

        More rows than the list's own limit are selected from the state of now by
        the list's filters. KeyError for no list, ValueError for a limit below 1.
        """

    def difference(self, old: Market, name: str) -> bytes:
        """The encoded ListDelta that turns a list of `old`, an earlier copy of the same epoch, into the list here.

        ValueError when `old` is of another epoch or further on.
        """

    def row(self, symbol: str) -> bytes | None:
        """A symbol's row as of now: an encoded TickerRow without rank; None when there is no such symbol."""

    @property
    def alert_sequence(self) -> int:
        """The sequence of the last alert of this epoch, 0 before the first."""

    @property
    def alert_rules(self) -> list[AlertRule]:
        """The alert rules in force."""

    @property
    def disabled_alert_rules(self) -> list[AlertRule]:
        """The alert rules that are switched off."""

    @property
    def alert_rules_message(self) -> bytes:
        """The last AlertRules of the stream, encoded; b"" before the first."""

    @property
    def alert_counts(self) -> dict[str, int]:
        """How many alerts the rules in force have had today: name -> number."""

    @property
    def list_filters_message(self) -> bytes:
        """The last ListFilters of the stream, encoded; b"" before the first."""

    @property
    def alert_looks(self) -> int:
        """Rows that the alert rules have looked at, in all: what alerts cost."""

    @property
    def ignored_alert_rules(self) -> dict[str, str]:
        """Alert rules that are left out: name -> the mistake in it."""

    @property
    def ignored_filters(self) -> dict[str, str]:
        """Scanner filters that are left out: name -> the error in the expression."""

    def query(self, filter: Filter, order: Order, limit: int, as_built_in: bool = False) -> bytes:
        """A custom scan of the rows of now: an encoded RankedList, called "scan", of at most `limit` rows.

        With `as_built_in` the base filter and the scanner filters apply, too.
        """

    def count(self, filter: Filter) -> int:
        """How many rows match now."""

    def add_scan(self, filter: Filter, order: Order, limit: int) -> RankedList:
        """A custom scan that apply() and refresh_scan() refresh: its handle, whose `name` its ListUpdates carry.

        It is filled at once with the rows of now, its sequence 1 (0 when there are none).
        """

    def refresh_scan(self, scan: RankedList) -> ListUpdate | None:
        """Publishes a custom scan anew, with the rows of now: its ListUpdate, None when it has not changed.

        KeyError when it is not this market's.
        """

    def scan_snapshot(self, scan: RankedList) -> bytes:
        """A custom scan as last published: an encoded RankedList. KeyError when it is not this market's."""

    def remove_scan(self, scan: RankedList) -> None:
        """Takes a custom scan out. KeyError when it is not this market's."""

    def to_bytes(self, with_baselines: bool = True) -> bytes:
        """The whole market but for custom scans; a copy made of it goes on exactly as this one.

        Without baselines as MarketState.to_bytes says.
        """

    def expected_size(self, with_baselines: bool = True) -> int:
        """The bytes that to_bytes() will return, about, and rather more than fewer: windows fill."""

    def write_to(self, buffer: PreparedBuffer, with_baselines: bool = True) -> memoryview:
        """The same, into a buffer, which grows when it is too small; returns a view of it.

        BufferError when an earlier view of it is still there.
        """

    @staticmethod
    def from_bytes(definitions: Iterable[ListDefinition], data: _Buffer, encode_deltas: bool = True) -> Market:
        """The market that to_bytes() wrote; ValueError when it cannot be read or has other definitions."""

    @staticmethod
    def of_state(
        definitions: Iterable[ListDefinition], epoch: int, state: MarketState, encode_deltas: bool = True
    ) -> Market:
        """A market of a new epoch that goes on with these rows, its lists empty until the next watermark."""

    def hash(self) -> int:
        """64 bits of all that decides what comes: equal for equal streams, however events are cut into batches."""

def state_of(data: _Buffer, keeps_windows: bool = True) -> MarketState:
    """The MarketState of a whole market's bytes, for who needs no lists; ValueError when it cannot be read.

    Not yet refreshed.
    """
