"""Alerts in the hypertable alert_events: written as they come, and read for pages beyond what is in memory."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg
from tradeul.v1 import alerts_pb2

from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.kit.runtime.clock import NS_PER_SECOND, utc_time
from services.kit.stores.database import DATABASE_ERRORS, store_unavailable
from services.kit.stores.merge_writer import MergeTable
from services.scanner import metrics
from services.scanner.record_queue import RecordQueue
from services.scanner.record_spool import Record, RecordSpool
from services.scanner.record_writer import SPILL_BYTES, WRITE_EVERY_SECONDS, RecordWriter, ResultRow

COLUMNS: Final = (
    *("time", "epoch", "sequence", "rule", "symbol", "quality", "quality_rank", "level", "text"),
    *("price", "volume_today", "change_percent", "rvol", "alert"),
)
_MERGE: Final = "INSERT INTO alert_events SELECT * FROM incoming ON CONFLICT DO NOTHING"
_OPTIONAL: Final = ("quality", "quality_rank", "level")
_OF_ROW: Final = ("price", "volume_today", "change_percent", "rvol")
# A client of the gateway does not wait longer.
QUERY_SECONDS: Final = 5.0
CONNECTIONS: Final = 2
_US: Final = timedelta(microseconds=1)


def event_rows(record: Record) -> Iterator[ResultRow]:
    """Yields the row of alert_events of a record's encoded Alert, in the order of COLUMNS; raises ValueError."""
    alert = message_of(alerts_pb2.Alert, record.data)
    row = alert.row
    yield (
        utc_time(alert.time.ToNanoseconds()),
        alert.epoch,
        alert.sequence,
        alert.rule,
        alert.symbol,
        *(getattr(alert, name) if alert.HasField(name) else None for name in _OPTIONAL),
        alert.text,
        *(getattr(row, name) if row.HasField(name) else None for name in _OF_ROW),
        record.data,
    )


def alert_writer(
    url: str,
    queue: RecordQueue,
    spool: RecordSpool,
    write_every: float = WRITE_EVERY_SECONDS,
    spill_bytes: int = SPILL_BYTES,
) -> RecordWriter:
    """The writer of the queue's alerts to alert_events."""
    table = MergeTable(url, "alert_events", COLUMNS, _MERGE)
    return RecordWriter("alerts", table, event_rows, queue, spool, metrics.ALERT_WRITING, write_every, spill_bytes)


class AlertMark(NamedTuple):
    """The place of an alert among all: its time in microseconds since 1970 UTC, and its position."""

    time_us: int
    epoch: int
    sequence: int

    @property
    def time(self) -> datetime:
        """As the database has it."""
        return datetime.fromtimestamp(0, UTC) + self.time_us * _US


class PastAlerts(NamedTuple):
    """The selection of stored alerts for a page; empty rules or an empty symbol select all."""

    rules: Sequence[str]
    symbol: str
    from_ns: int
    to_ns: int | None
    min_quality: float | None


class AlertHistory:
    """Reads alert_events, over connections that open when they are needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None

    async def before(
        self, mark: AlertMark | None, wanted: PastAlerts, limit: int
    ) -> list[tuple[AlertMark, alerts_pb2.Alert]]:
        """The newest `limit` alerts before a mark, newest first. Raises STORE_UNAVAILABLE."""
        # Stored times are cut to microseconds: those at the edges are compared exactly below.
        values: list[Any] = [_floor(wanted.from_ns)]
        conditions = ["time >= $1"]

        def add(condition: str, *parameters: Any) -> None:
            places = [f"${len(values) + index}" for index in range(1, len(parameters) + 1)]
            values.extend(parameters)
            conditions.append(condition.format(*places))

        if wanted.to_ns is not None:
            add("time <= {}", _floor(wanted.to_ns))
        if mark is not None:
            add("(time, epoch, sequence) < ({}, {}, {})", mark.time, mark.epoch, mark.sequence)
        if wanted.rules:
            add("rule = ANY({}::text[])", list(wanted.rules))
        if wanted.symbol:
            add("symbol = {}", wanted.symbol)
        if wanted.min_quality is not None:
            add("quality >= {}", wanted.min_quality)
        query = (
            f"SELECT time, epoch, sequence, alert FROM alert_events WHERE {' AND '.join(conditions)}"
            f" ORDER BY time DESC, epoch DESC, sequence DESC LIMIT {limit:d}"
        )
        async with self._connection() as connection:
            rows = await connection.fetch(query, *values, timeout=QUERY_SECONDS)
        return [
            (AlertMark((row["time"] - datetime.fromtimestamp(0, UTC)) // _US, row["epoch"], row["sequence"]), alert)
            for row in rows
            for alert in (alerts_pb2.Alert.FromString(row["alert"]),)
        ]

    async def newest_before(self, position: Position) -> int:
        """The sequence of the newest stored alert before a position, of its epoch; 0 for none. STORE_UNAVAILABLE."""
        query = "SELECT max(sequence) FROM alert_events WHERE epoch = $1 AND sequence < $2"
        async with self._connection() as connection:
            return await connection.fetchval(query, *position, timeout=QUERY_SECONDS) or 0

    async def close(self) -> None:
        """Closes the connections."""
        if self._pool is not None:
            self._pool.terminate()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        with store_unavailable(DATABASE_ERRORS):
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=CONNECTIONS, timeout=QUERY_SECONDS, command_timeout=QUERY_SECONDS
                )
            async with self._pool.acquire(timeout=QUERY_SECONDS) as connection:
                yield connection


def mark_of(time_ns: int, epoch: int, sequence: int) -> AlertMark:
    """The mark of an alert."""
    return AlertMark(time_ns // 1000, epoch, sequence)


def _floor(time_ns: int) -> datetime:
    """The microsecond of a time; the last one that a database can hold for a later time."""
    latest = int(datetime.max.replace(tzinfo=UTC).timestamp()) - 86_400
    return utc_time(min(time_ns, latest * NS_PER_SECOND))
