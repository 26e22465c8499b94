"""Stores scan results in PostgreSQL, beside the lists and never in their way."""

import asyncio
import random
from typing import Final

import asyncpg
from google.protobuf.message import DecodeError

from services.kit.database import DATABASE_ERRORS
from services.kit.logging import get_logger
from services.scanner import metrics
from services.scanner.scan_results import COLUMNS, Record, ResultRow, ScanRecorder, result_rows

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
BATCH_RECORDS: Final = 200
ROWS_AT_ONCE: Final = 50
COMMAND_SECONDS: Final = 30.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0
# What is still there when the scanner stops.
LAST_WRITE_SECONDS: Final = 2.0

_INCOMING: Final = "incoming_scan_results"
_CREATE: Final = f"CREATE TEMP TABLE {_INCOMING} (LIKE scan_results) ON COMMIT DELETE ROWS"
_MERGE: Final = f"INSERT INTO scan_results SELECT * FROM {_INCOMING} ON CONFLICT DO NOTHING"
# The rows themselves cannot be stored: waiting would not help.
_UNUSABLE: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class ScanWriter:
    """Takes what the recorder keeps, in batches; a batch that failed is written again when the database is back."""

    def __init__(self, url: str, recorder: ScanRecorder, write_every: float = WRITE_EVERY_SECONDS) -> None:
        self._url = url
        self._recorder = recorder
        self._write_every = write_every
        self._batch: list[Record] = []
        self._connection: asyncpg.Connection | None = None

    async def run(self) -> None:
        """Writes until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._write_all()
            except DATABASE_ERRORS as error:
                metrics.SCAN_WRITE_FAILURES.inc()
                log.warning("scan results not stored", error=str(error) or type(error).__name__, again_in=pause)
                await self._disconnect()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                await asyncio.sleep(self._write_every)

    async def close(self) -> None:
        """Writes what is left, if that is soon done, and disconnects. After run() was cancelled."""
        try:
            async with asyncio.timeout(LAST_WRITE_SECONDS):
                await self._write_all()
        except DATABASE_ERRORS as error:
            left = len(self._batch) + len(self._recorder)
            metrics.SCAN_RECORDS_DROPPED.labels("stopping").inc(left)
            log.warning("scan results lost", records=left, error=str(error) or type(error).__name__)
        await self._disconnect()

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
                    log.error("scan result cannot be read", error=str(error))
                await asyncio.sleep(0)
            try:
                await self._write(rows)
            except _UNUSABLE as error:
                metrics.SCAN_RECORDS_DROPPED.labels("unusable").inc(len(self._batch))
                log.error("scan results cannot be stored", records=len(self._batch), error=str(error))
            self._batch = []

    async def _write(self, rows: list[ResultRow]) -> None:
        if self._connection is None:
            connection = await asyncpg.connect(self._url, timeout=5, command_timeout=COMMAND_SECONDS)
            self._connection = connection
            await connection.execute(_CREATE)
        async with self._connection.transaction():
            await self._connection.copy_records_to_table(_INCOMING, records=rows, columns=COLUMNS)
            status: str = await self._connection.execute(_MERGE)
        metrics.SCAN_ROWS_STORED.inc(int(status.rsplit(" ", 1)[1]))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # An orderly good-bye could wait for a server that is gone.
            connection.terminate()
