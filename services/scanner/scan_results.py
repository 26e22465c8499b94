"""Stores every entry into a list, and each list once a minute, beside the lists and never in their way.

Times are event times and follow from the frames alone, so that every replica
has the same rows. Nothing is decoded while a frame is applied: records are kept
encoded until they are written, and on disk while the database is away.
"""

from collections.abc import Iterator
from typing import Final

from tradeul.v1 import session_pb2

from fastcore.ranked_list import ListUpdate
from fastcore.row_numbers import RowNumbers
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
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
_NUMBERS: Final = RowNumbers(COLUMNS[6:])
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
    """Yields a record's rows of scan_results, in the order of COLUMNS; raises ValueError."""
    session = session_pb2.Session.Name(session_pb2.Session.ValueType(record.session))
    if is_entry := record.minute is None:
        name, time_ns, rows = _NUMBERS.entries(record.data)
    else:
        name, _, rows = _NUMBERS.rows(record.data)
        time_ns = record.minute * NS_PER_MINUTE
    time = utc_time(time_ns)
    for symbol, rank, *numbers in rows:
        yield (time, symbol, name, session, rank, is_entry, *numbers)


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
