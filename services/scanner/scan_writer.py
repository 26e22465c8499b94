"""Stores scan results in PostgreSQL, beside the lists and never in their way."""

import asyncio
from typing import Final

from google.protobuf.message import DecodeError

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.merge_writer import UNUSABLE, MergeTable, keep_writing, write_last
from services.scanner import metrics
from services.scanner.scan_results import COLUMNS, Record, ResultRow, ScanRecorder, result_rows

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
BATCH_RECORDS: Final = 200
ROWS_AT_ONCE: Final = 50

_MERGE: Final = "INSERT INTO scan_results SELECT * FROM incoming ON CONFLICT DO NOTHING"


class ScanWriter:
    """Takes what the recorder keeps, in batches; a batch that failed is written again when the database is back."""

    def __init__(self, url: str, recorder: ScanRecorder, write_every: float = WRITE_EVERY_SECONDS) -> None:
        self._recorder = recorder
        self._write_every = write_every
        self._batch: list[Record] = []
        self._table = MergeTable(url, "scan_results", COLUMNS, _MERGE)

    async def run(self) -> None:
        """Writes until cancelled."""
        await keep_writing(self._write_all, self._table, "scan results", self._write_every, metrics.SCAN_WRITE_FAILURES)

    async def close(self) -> None:
        """Writes what is left, wherever run() was cancelled, and disconnects. What cannot be written is counted."""
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
