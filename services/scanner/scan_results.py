"""Stores every entry into a list, and each list once a minute, beside the lists and never in their way.

Times are event times and follow from the frames alone, so that every replica
has the same rows. Nothing is decoded while a frame is applied: records are kept
encoded until they are written, and on disk while the database is away.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from tradeul.v1 import scanner_pb2, session_pb2, ticker_row_pb2

from fastcore.ranked_list import ListUpdate
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.runtime.clock import NS_PER_MINUTE, utc_time
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.merge_writer import UNUSABLE, MergeTable, keep_writing, write_last
from services.scanner import metrics
from services.scanner.core import ScannerCore
from services.scanner.record_spool import SPOOL_ERRORS, Record, RecordSpool

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
BATCH_RECORDS: Final = 200
ROWS_AT_ONCE: Final = 50
# In memory. What is there goes to disk while the database is away, so that this much waits only where it cannot.
MAX_BYTES: Final = 64 * 1024 * 1024
# From so much on it goes.
SPILL_BYTES: Final = 4 * 1024 * 1024
# How an ADD begins in an encoded ListDelta: the action's value, then the symbol's tag.
ADD_MARK: Final = b"\x08\x01\x12"

COLUMNS: Final = (
    *("time", "symbol", "list", "session", "rank", "is_entry"),
    *("price", "volume_today", "change_percent", "gap_percent", "rvol", "score"),
)
_NUMBERS: Final = ("price", "volume_today", "change_percent", "gap_percent", "rvol", "score")

_MERGE: Final = "INSERT INTO scan_results SELECT * FROM incoming ON CONFLICT DO NOTHING"

ResultRow = tuple[object, ...]
Result = TypeVar("Result")


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

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the records that are kept."""
        return self._bytes

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

    def put_back(self, records: Sequence[Record]) -> None:
        """Keeps records again that were taken, as the oldest."""
        self._records.extendleft(reversed(records))
        self._bytes += sum(len(record.data) for record in records)
        self._drop_oldest()

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._bytes += len(record.data)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
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
    """Writes the recorder's records in batches; one that failed is written again when the database is back.

    Meanwhile they go to `spool`, and are written from there first, so that they are stored in their order.
    """

    def __init__(
        self,
        url: str,
        recorder: ScanRecorder,
        spool: RecordSpool,
        write_every: float = WRITE_EVERY_SECONDS,
        spill_bytes: int = SPILL_BYTES,
    ) -> None:
        self._recorder = recorder
        self._spool = spool
        self._write_every = write_every
        self._spill_bytes = spill_bytes
        self._batch: list[Record] = []
        # Those that are being moved to disk, from the one thread that does it.
        self._spilling: list[Record] = []
        self._disk = ThreadPoolExecutor(1, "scan-results")
        self._table = MergeTable(url, "scan_results", COLUMNS, _MERGE)

    async def run(self) -> None:
        """Writes until cancelled."""
        try:
            await self._on_disk(self._spool.open_left)
        except SPOOL_ERRORS as error:
            log.error("scan results of before cannot be read from disk", error=reason_of(error))
        await keep_writing(
            self._write_or_spill, self._table, "scan results", self._write_every, metrics.SCAN_WRITE_FAILURES
        )

    async def close(self) -> None:
        """Writes what is left after run() was cancelled, and disconnects.

        What cannot be written waits on disk for the next scanner; records that are lost are counted.
        """
        # They may have arrived on disk, too; whatever is there twice is stored once.
        self._recorder.put_back(self._spilling)
        self._spilling = []
        reason = await write_last(self._write_all, self._table)
        if reason is not None:
            self._recorder.put_back(self._batch)
            self._batch = []
            await self._spill(0)
        if left := len(self._recorder):
            metrics.SCAN_RECORDS_DROPPED.labels("stopping").inc(left)
            log.warning("scan results lost", records=left, error=reason)
        if self._spool.count:
            log.warning("scan results wait on disk for the next scanner", records=self._spool.count, error=reason)
        await self._on_disk(self._spool.close)
        self._disk.shutdown(wait=False)

    async def _write_or_spill(self) -> None:
        try:
            await self._write_all()
        except DATABASE_ERRORS:
            await self._spill(self._spill_bytes)
            raise

    async def _spill(self, least_bytes: int) -> None:
        """Moves what waits in memory to disk if it is so much; it stays in memory where the disk does not take it."""
        if not len(self._recorder) or self._recorder.waiting_bytes < least_bytes:
            return
        self._spilling = records = self._recorder.take(len(self._recorder))
        try:
            dropped = await self._on_disk(self._spool.put, records)
        except SPOOL_ERRORS as error:
            self._recorder.put_back(records)
            log.error("scan results cannot wait on disk", records=len(records), error=reason_of(error))
        else:
            metrics.SCAN_RECORDS_DROPPED.labels("full").inc(dropped)
        self._spilling = []
        metrics.SCAN_RECORDS_ON_DISK.set(self._spool.count)

    async def _on_disk(self, method: Callable[..., Result], *arguments: object) -> Result:
        """Calls a method of the spool after those that were called before, also after a cancelled one."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, method, *arguments)

    async def _write_all(self) -> None:
        while self._spool.count:
            records, last = await self._on_disk(self._spool.oldest, BATCH_RECORDS)
            await self._write(records)
            await self._on_disk(self._spool.remove, last)
            metrics.SCAN_RECORDS_ON_DISK.set(self._spool.count)
        while True:
            if not self._batch:
                self._batch = self._recorder.take(BATCH_RECORDS)
            if not self._batch:
                return
            await self._write(self._batch)
            self._batch = []

    async def _write(self, records: Sequence[Record]) -> None:
        rows: list[ResultRow] = []
        for record in records:
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
            metrics.SCAN_RECORDS_DROPPED.labels("unusable").inc(len(records))
            log.error("scan results cannot be stored", records=len(records), error=reason_of(error))
