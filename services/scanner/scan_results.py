"""Stores every entry into a list, and each list once a minute, beside the lists and never in their way.

Times are event times and follow from the frames alone, so that every replica
has the same rows. Nothing is decoded while a frame is applied: records are kept
encoded, up to a bound in bytes, until they are written.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from tradeul.v1 import scanner_pb2, session_pb2, ticker_row_pb2

from fastcore.ranked_list import ListUpdate
from services.kit.rpc.frames import Frame
from services.kit.runtime.clock import NS_PER_MINUTE, utc_time
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.merge_writer import UNUSABLE, MergeTable, keep_writing, write_last
from services.scanner import metrics
from services.scanner.core import ScannerCore
from services.scanner.list_hub import WATERMARK

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
BATCH_RECORDS: Final = 200
ROWS_AT_ONCE: Final = 50
# More than an hour of all lists, when the database is away.
MAX_BYTES: Final = 64 * 1024 * 1024
# How an ADD begins in an encoded ListDelta: the action's value, then the symbol's tag.
ADD_MARK: Final = b"\x08\x01\x12"

COLUMNS: Final = (
    *("time", "symbol", "list", "session", "rank", "is_entry"),
    *("price", "volume_today", "change_percent", "gap_percent", "rvol", "score"),
)
_NUMBERS: Final = ("price", "volume_today", "change_percent", "gap_percent", "rvol", "score")

_MERGE: Final = "INSERT INTO scan_results SELECT * FROM incoming ON CONFLICT DO NOTHING"

ResultRow = tuple[object, ...]


class Record(NamedTuple):
    """An encoded ListDelta with entries; or, with `minute`, a RankedList as of that minute since 1970 UTC."""

    session: int
    data: bytes
    minute: int | None = None


class ScanRecorder:
    """Keeps what the hub published until it is taken; beyond `max_bytes` the oldest are dropped and counted."""

    def __init__(self, core: ScannerCore, max_bytes: int = MAX_BYTES) -> None:
        self._core = core
        self._max_bytes = max_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0
        # The minute of the last watermark; None before the first.
        self._minute: int | None = None

    def __len__(self) -> int:
        return len(self._records)

    def frame_applied(self, frame: Frame, updates: list[ListUpdate]) -> None:
        """Records the entries of a watermark, and the lists where it begins a minute."""
        if frame.kind != WATERMARK:
            return
        core = self._core
        state = core.market.state
        for update in updates:
            if update.list in core.definitions and ADD_MARK in update.delta:
                self._keep(Record(state.session, update.delta))
        minute = state.now_ns // NS_PER_MINUTE
        if self._minute is not None and minute > self._minute:
            for name in core.definitions:
                if core.market.list_count(name):
                    self._keep(Record(state.session, core.market.snapshot(name), minute))
        self._minute = minute

    def market_replaced(self) -> None:
        """Records nothing of the present minute, since it was not seen as a whole."""
        now_ns = self._core.market.state.now_ns
        self._minute = now_ns // NS_PER_MINUTE if now_ns > 0 else None

    def take(self, most: int) -> list[Record]:
        """Takes out the oldest records, at most `most`."""
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
    """Yields a record's rows of scan_results, in the order of COLUMNS; raises DecodeError."""
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


class ScanWriter:
    """Writes the recorder's records in batches; one that failed is written again when the database is back."""

    def __init__(self, url: str, recorder: ScanRecorder, write_every: float = WRITE_EVERY_SECONDS) -> None:
        self._recorder = recorder
        self._write_every = write_every
        self._batch: list[Record] = []
        self._table = MergeTable(url, "scan_results", COLUMNS, _MERGE)

    async def run(self) -> None:
        """Writes until cancelled."""
        await keep_writing(self._write_all, self._table, "scan results", self._write_every, metrics.SCAN_WRITE_FAILURES)

    async def close(self) -> None:
        """Writes what is left after run() was cancelled, and disconnects. Records that are lost are counted."""
        if (reason := await write_last(self._write_all, self._table)) is not None:
            left = len(self._batch) + len(self._recorder)
            metrics.SCAN_RECORDS_DROPPED.labels("stopping").inc(left)
            log.warning("scan results lost", records=left, error=reason)

    async def _write_all(self) -> None:
        while True:
            if not self._batch:
                self._batch = self._recorder.take(BATCH_RECORDS)
            if not self._batch:
                return
            rows: list[ResultRow] = []
            for record in self._batch:
                try:
                    for row in result_rows(record):
                        rows.append(row)
                        if len(rows) % ROWS_AT_ONCE == 0:
                            # The lists' turn.
                            await asyncio.sleep(0)
                except DecodeError as error:
                    metrics.SCAN_RECORDS_DROPPED.labels("unusable").inc()
                    log.error("scan result cannot be read", error=reason_of(error))
                await asyncio.sleep(0)
            try:
                metrics.SCAN_ROWS_STORED.inc(await self._table.write(rows))
            except UNUSABLE as error:
                metrics.SCAN_RECORDS_DROPPED.labels("unusable").inc(len(self._batch))
                log.error("scan results cannot be stored", records=len(self._batch), error=reason_of(error))
            self._batch = []
