"""What is to be stored of the lists: every entry, and each list once a minute.

Times are event times and follow from the frames alone, so that every replica
has the same rows. Nothing is decoded while a frame is applied: records are kept
encoded, up to a bound in bytes, until somebody takes them.
"""

from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from tradeul.v1 import scanner_pb2, session_pb2, ticker_row_pb2

from services.kit.runtime.clock import NS_PER_MINUTE, utc_time
from services.scanner import metrics
from services.scanner.core import Applied, ScannerCore

# More than an hour of all lists, when the database is away.
MAX_BYTES: Final = 64 * 1024 * 1024
# How an ADD begins in an encoded ListDelta: the action's value, then the symbol's tag.
ADD_MARK: Final = b"\x08\x01\x12"

COLUMNS: Final = (
    *("time", "symbol", "list", "session", "rank", "is_entry"),
    *("price", "volume_today", "change_percent", "gap_percent", "rvol", "score"),
)
_NUMBERS: Final = ("price", "volume_today", "change_percent", "gap_percent", "rvol", "score")

ResultRow = tuple[object, ...]


class Record(NamedTuple):
    """An encoded ListDelta with entries; or, with `minute`, a RankedList as it stood at that minute since 1970."""

    session: int
    data: bytes
    minute: int | None = None


class ScanRecorder:
    """Keeps what the hub published until it is taken; beyond `max_bytes` the oldest go, counted."""

    def __init__(self, core: ScannerCore, max_bytes: int = MAX_BYTES) -> None:
        self._core = core
        self._max_bytes = max_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0
        # The minute of the last watermark; None before the first.
        self._minute: int | None = None

    def __len__(self) -> int:
        return len(self._records)

    def applied(self, applied: Applied) -> None:
        """Records what a frame changed."""
        if not applied.is_watermark:
            return
        core = self._core
        state = core.market.state
        for update in applied.updates:
            if update.list in core.definitions and ADD_MARK in update.delta:
                self._keep(Record(state.session, update.delta))
        minute = state.now_ns // NS_PER_MINUTE
        if self._minute is not None and minute > self._minute:
            for name in core.definitions:
                if core.market.list_count(name):
                    self._keep(Record(state.session, core.market.snapshot(name), minute))
        self._minute = minute

    def replaced(self) -> None:
        """The market is another one: the minute in which that happened is not whole here."""
        now_ns = self._core.market.state.now_ns
        self._minute = now_ns // NS_PER_MINUTE if now_ns > 0 else None

    def take(self, most: int) -> list[Record]:
        """The oldest records, at most `most`, which are no longer kept here."""
        taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
        self._bytes -= sum(len(record.data) for record in taken)
        return taken

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._bytes += len(record.data)
        while self._bytes > self._max_bytes:
            dropped = self._records.popleft()
            self._bytes -= len(dropped.data)
            metrics.SCAN_RECORDS_DROPPED.labels("full").inc()


def result_rows(record: Record) -> Iterator[ResultRow]:
    """The rows of scan_results that a record stands for, in the order of COLUMNS."""
    session = session_pb2.Session.Name(session_pb2.Session.ValueType(record.session))
    if record.minute is None:
        delta = scanner_pb2.ListDelta.FromString(record.data)
        time = utc_time(delta.timestamp.ToNanoseconds())
        for change in delta.deltas:
            if change.action == scanner_pb2.ListChange.ADD:
                yield _row(time, delta.list, session, True, change.data)
    else:
        ranked = scanner_pb2.RankedList.FromString(record.data)
        time = utc_time(record.minute * NS_PER_MINUTE)
        for row in ranked.rows:
            yield _row(time, ranked.list, session, False, row)


def _row(time: datetime, name: str, session: str, is_entry: bool, row: ticker_row_pb2.TickerRow) -> ResultRow:
    numbers = (getattr(row, field) if row.HasField(field) else None for field in _NUMBERS)
    return (time, row.symbol, name, session, row.rank, is_entry, *numbers)
