"""Stores one-minute bars in PostgreSQL, with the mark up to which the stream is stored."""

from collections.abc import Callable
from typing import Final

import asyncpg

from services.analytics import metrics
from services.analytics.bar_queue import COLUMNS, BarRow, Mark
from services.analytics.core import AnalyticsCore
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic, ns_of, utc_time
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.merge_writer import UNUSABLE, MergeTable, keep_writing, write_last

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
# When there are no bars.
MARK_EVERY_SECONDS: Final = 5.0
BATCH_ROWS: Final = 2000
TABLE: Final = "aggregates_1min"
MARK: Final = "minute_bars"

_VALUES: Final = COLUMNS[2:]
# The vendor's bar, sent again, replaces the one before, and any that was made; a made one only a made one.
_MERGE: Final = f"""
    INSERT INTO {TABLE} AS stored ({", ".join(COLUMNS)}) SELECT {", ".join(COLUMNS)} FROM incoming
    ON CONFLICT (symbol, time) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _VALUES)}
    WHERE (stored.is_made OR NOT excluded.is_made)
      AND ({", ".join(f"stored.{name}" for name in _VALUES)})
          IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in _VALUES)})
"""
_SET_MARK: Final = """
    INSERT INTO stream_marks AS stored (name, epoch, sequence, whole_sequence, whole_from)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence,
        whole_sequence = excluded.whole_sequence, whole_from = excluded.whole_from, updated_at = now()
    WHERE (stored.epoch, stored.sequence) < (excluded.epoch, excluded.sequence)
"""
_GET_MARK: Final = "SELECT epoch, sequence, whole_sequence, whole_from FROM stream_marks WHERE name = $1"


class BarWriter:
    """Writes the core's bars in batches; one that failed is written again when the database is back.

    Before it writes it reads the mark of an earlier process, however long the database is away, and gives it to
    `on_mark`: once it is overwritten, what was missed is no longer known.
    """

    def __init__(
        self,
        url: str,
        core: AnalyticsCore,
        on_mark: Callable[[Mark], None],
        write_every: float = WRITE_EVERY_SECONDS,
    ) -> None:
        self._core = core
        self._on_mark = on_mark
        self._write_every = write_every
        self._is_mark_read = False
        self._is_closing = False
        self._table = MergeTable(url, TABLE, COLUMNS, _MERGE)
        self._batch: list[BarRow] = []
        self._stored_mark: Mark | None = None
        self._mark_due = 0.0

    async def run(self) -> None:
        """Writes until cancelled."""
        await keep_writing(self._write_all, self._table, "minute bars", self._write_every, metrics.BAR_WRITE_FAILURES)

    async def close(self) -> None:
        """Writes what is left after run() was cancelled, and disconnects. Bars that cannot be written are counted.

        Without the mark of an earlier process none is written either: the next one reads again from there.
        """
        self._is_closing = True
        if (reason := await write_last(self._write_all, self._table)) is not None:
            left = len(self._batch) + len(self._core.queue)
            metrics.BARS_DROPPED.labels("stopping").inc(left)
            log.warning("minute bars not stored", bars=left, error=reason)

    async def _write_all(self) -> None:
        queue = self._core.queue
        self._core.collect_bars()
        if not self._is_mark_read and not self._is_closing:
            await self._table.write((), self._read_mark)
        mark = queue.mark if self._is_mark_read else None
        while True:
            self._batch = self._batch or queue.take(BATCH_ROWS)
            is_last = not len(queue)
            metrics.BARS_WAITING.set(len(self._batch) + len(queue))
            if not self._batch and (mark is None or mark == self._stored_mark or monotonic() < self._mark_due):
                return
            try:
                stored = await self._table.write(self._batch, self._mark_setter(mark) if is_last else None)
                metrics.BARS_STORED.inc(stored)
            except UNUSABLE as error:
                metrics.BARS_DROPPED.labels("unusable").inc(len(self._batch))
                log.error("minute bars cannot be stored", bars=len(self._batch), error=reason_of(error))
            self._batch = []
            if is_last:
                self._stored_mark = mark
                self._mark_due = monotonic() + MARK_EVERY_SECONDS
                metrics.BARS_WAITING.set(len(queue))
                return

    async def _read_mark(self, connection: asyncpg.Connection) -> None:
        record = await connection.fetchrow(_GET_MARK, MARK)
        self._is_mark_read = True
        if record is None:
            return
        epoch, sequence, whole_sequence, whole_from = record
        position = Position(epoch, sequence)
        if whole_sequence is None:
            self._on_mark(Mark(position, None, 0))
        else:
            whole_from_ns = ns_of(whole_from)
            self._on_mark(Mark(position, Position(epoch, whole_sequence), whole_from_ns))

    def _mark_setter(self, mark: Mark | None) -> "_MarkSetter | None":
        return None if mark is None or mark == self._stored_mark else _MarkSetter(mark)


class _MarkSetter:
    """Stores a mark; later ones are never replaced."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    async def __call__(self, connection: asyncpg.Connection) -> None:
        position, whole, whole_from_ns = self._mark
        whole_from = None if whole is None else utc_time(whole_from_ns)
        sequence = None if whole is None else whole.sequence
        await connection.execute(_SET_MARK, MARK, position.epoch, position.sequence, sequence, whole_from)
