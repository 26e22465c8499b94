"""Stores every entry into a list, and each list once a minute, beside the lists and never in their way.

Times are event times and follow from the frames alone, so that every replica
has the same rows. Nothing is decoded while a frame is applied: records are kept
encoded until they are written, and on disk while the database is away.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from google.protobuf.message import DecodeError
from tradeul.v1 import scanner_pb2, session_pb2, ticker_row_pb2

from fastcore.ranked_list import ListUpdate
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.wire import fields
from services.kit.runtime.clock import NS_PER_MINUTE, utc_time
from services.kit.stores.merge_writer import MergeTable
from services.scanner import metrics
from services.scanner.core import ScannerCore
from services.scanner.record_queue import MAX_BYTES, RecordQueue
from services.scanner.record_spool import Record, RecordSpool
from services.scanner.record_writer import SPILL_BYTES, WRITE_EVERY_SECONDS, RecordWriter, ResultRow

COLUMNS: Final = (
    *("time", "symbol", "list", "session", "rank", "is_entry"),
    *("price", "volume_today", "change_percent", "gap_percent", "rvol", "score"),
)
_NUMBERS: Final = ("price", "volume_today", "change_percent", "gap_percent", "rvol", "score")

_CHANGES: Final = scanner_pb2.ListDelta.DESCRIPTOR.fields_by_name["deltas"].number
# How each ListChange of an entry begins: the core writes fields in the order of their numbers.
_ADDED: Final = scanner_pb2.ListChange(action=scanner_pb2.ListChange.ADD).SerializeToString()
_MERGE: Final = "INSERT INTO scan_results SELECT * FROM incoming ON CONFLICT DO NOTHING"


class ScanRecorder(RecordQueue):
    """Keeps what the hub published until it is taken."""

    def __init__(self, core: ScannerCore, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(metrics.SCAN_RECORDS_DROPPED, max_bytes)
        self._core = core
        # The minute of the last watermark; None before the first.
        self._minute: int | None = None

    def frame_applied(self, frame: Frame, updates: list[ListUpdate]) -> None:
        """Records the entries of a watermark, and the lists where it begins a minute."""
        if frame.kind != WATERMARK:
            return
        core = self._core
        state = core.market.state
        for update in updates:
            if update.list in core.definitions and update.added:
                self.keep(Record(state.session, update.delta))
        minute = state.now_ns // NS_PER_MINUTE
        if self._minute is not None and minute > self._minute:
            for name in core.definitions:
                if core.market.list_count(name):
                    self.keep(Record(state.session, core.market.snapshot(name), minute))
        self._minute = minute

    def market_replaced(self) -> None:
        """Records nothing of the present minute, since it was not seen as a whole."""
        now_ns = self._core.market.state.now_ns
        self._minute = now_ns // NS_PER_MINUTE if now_ns > 0 else None


def result_rows(record: Record) -> Iterator[ResultRow]:
    """Yields a record's rows of scan_results, in the order of COLUMNS; raises DecodeError."""
    session = session_pb2.Session.Name(session_pb2.Session.ValueType(record.session))
    if record.minute is None:
        delta = _entries(record.data)
        time = utc_time(delta.timestamp.ToNanoseconds())
        for change in delta.deltas:
            yield _row(time, delta.list, session, True, change.data)
    else:
        ranked = scanner_pb2.RankedList.FromString(record.data)
        time = utc_time(record.minute * NS_PER_MINUTE)
        for row in ranked.rows:
            yield _row(time, ranked.list, session, False, row)


def _entries(delta: bytes) -> scanner_pb2.ListDelta:
    """Returns an encoded ListDelta with the entries of its changes only. Of fifty rows one or two have entered: those
    are decoded. Raises DecodeError.
    """
    try:
        kept = [
            delta[first:end]
            for number, first, start, end in fields(delta)
            if number != _CHANGES or delta.startswith(_ADDED, start)
        ]
    except ValueError as error:
        raise DecodeError(str(error)) from error
    return scanner_pb2.ListDelta.FromString(b"".join(kept))


def _row(time: datetime, name: str, session: str, is_entry: bool, row: ticker_row_pb2.TickerRow) -> ResultRow:
    numbers = (getattr(row, field) if row.HasField(field) else None for field in _NUMBERS)
    return (time, row.symbol, name, session, row.rank, is_entry, *numbers)


class ScanWriter(RecordWriter):
    """Writes the recorder's records to scan_results."""

    def __init__(
        self,
        url: str,
        recorder: ScanRecorder,
        spool: RecordSpool,
        write_every: float = WRITE_EVERY_SECONDS,
        spill_bytes: int = SPILL_BYTES,
    ) -> None:
        table = MergeTable(url, "scan_results", COLUMNS, _MERGE)
        super().__init__(
            "scan results", table, result_rows, recorder, spool, metrics.SCAN_WRITING, write_every, spill_bytes
        )
