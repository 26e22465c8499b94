"""Writes records to a table in batches, beside the lists and never in their way."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.merge_writer import UNUSABLE, MergeTable, keep_writing, write_last
from services.scanner.metrics import WriterMetrics
from services.scanner.record_queue import RecordQueue
from services.scanner.record_spool import SPOOL_ERRORS, Record, RecordSpool

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
BATCH_RECORDS: Final = 200
ROWS_AT_ONCE: Final = 50
# From so much on, what waits in memory goes to disk while the database is away.
SPILL_BYTES: Final = 4 * 1024 * 1024

ResultRow = tuple[object, ...]
Result = TypeVar("Result")


class RecordWriter:
    """Writes the queue's records in batches; one that failed is written again when the database is back.

    Meanwhile they go to `spool`, and are written from there first, so that they are stored in their order.
    `what`: the records in the log; `rows_of`: a record's rows of `table`, which may raise ValueError.
    """

    def __init__(
        self,
        what: str,
        table: MergeTable,
        rows_of: Callable[[Record], Iterator[ResultRow]],
        queue: RecordQueue,
        spool: RecordSpool,
        counters: WriterMetrics,
        write_every: float = WRITE_EVERY_SECONDS,
        spill_bytes: int = SPILL_BYTES,
    ) -> None:
        self._what = what
        self._table = table
        self._rows_of = rows_of
        self._queue = queue
        self._spool = spool
        self._counters = counters
        self._write_every = write_every
        self._spill_bytes = spill_bytes
        self._batch: list[Record] = []
        # Those that are being moved to disk, from the one thread that does it.
        self._spilling: list[Record] = []
        self._disk = ThreadPoolExecutor(1, what.replace(" ", "-"))

    @property
    def is_idle(self) -> bool:
        """True if nothing waits to be written."""
        return not (len(self._queue) or self._batch or self._spilling or self._spool.count)

    async def run(self) -> None:
        """Writes until cancelled."""
        try:
            await self._on_disk(self._spool.open_left)
        except SPOOL_ERRORS as error:
            log.error(f"{self._what} of before cannot be read from disk", error=reason_of(error))
        await keep_writing(self._write_or_spill, self._table, self._what, self._write_every, self._counters.failures)

    async def close(self) -> None:
        """Writes what is left after run() was cancelled, and disconnects.

        What cannot be written waits on disk for the next scanner; records that are lost are counted.
        """
        # They may have arrived on disk, too; whatever is there twice is stored once.
        self._queue.put_back(self._spilling)
        self._spilling = []
        reason = await write_last(self._write_all, self._table)
        if reason is not None:
            self._queue.put_back(self._batch)
            self._batch = []
            await self._spill(0)
        if left := len(self._queue):
            self._counters.dropped.labels("stopping").inc(left)
            log.warning(f"{self._what} lost", records=left, error=reason)
        if self._spool.count:
            log.warning(f"{self._what} wait on disk for the next scanner", records=self._spool.count, error=reason)
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
        if not len(self._queue) or self._queue.waiting_bytes < least_bytes:
            return
        self._spilling = records = self._queue.take(len(self._queue))
        try:
            dropped = await self._on_disk(self._spool.put, records)
        except SPOOL_ERRORS as error:
            self._queue.put_back(records)
            log.error(f"{self._what} cannot wait on disk", records=len(records), error=reason_of(error))
        else:
            self._counters.dropped.labels("full").inc(dropped)
        self._spilling = []
        self._counters.on_disk.set(self._spool.count)

    async def _on_disk(self, method: Callable[..., Result], *arguments: object) -> Result:
        """Calls a method of the spool after those that were called before, also after a cancelled one."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, method, *arguments)

    async def _write_all(self) -> None:
        while self._spool.count:
            records, last = await self._on_disk(self._spool.oldest, BATCH_RECORDS)
            await self._write(records)
            await self._on_disk(self._spool.remove, last)
            self._counters.on_disk.set(self._spool.count)
        while True:
            if not self._batch:
                self._batch = self._queue.take(BATCH_RECORDS)
            if not self._batch:
                return
            await self._write(self._batch)
            self._batch = []

    async def _write(self, records: Sequence[Record]) -> None:
        rows: list[ResultRow] = []
        for record in records:
            try:
                for row in self._rows_of(record):
                    rows.append(row)
                    if len(rows) % ROWS_AT_ONCE == 0:
                        # The lists' turn.
                        await asyncio.sleep(0)
            except ValueError as error:
                self._counters.dropped.labels("unusable").inc()
                log.error(f"one of the {self._what} cannot be read", error=reason_of(error))
            await asyncio.sleep(0)
        try:
            self._counters.stored.inc(await self._table.write(rows))
        except UNUSABLE as error:
            self._counters.dropped.labels("unusable").inc(len(records))
            log.error(f"{self._what} cannot be stored", records=len(records), error=reason_of(error))
