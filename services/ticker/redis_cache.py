"""ticker:metadata and ticker:data in Redis: read first here, and read by other programs.

Redis away costs nobody an answer: it is left alone for a second, and counted.
"""

import asyncio
from typing import Final

from google.protobuf import json_format
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tradeul.v1 import ticker_pb2, ticker_row_pb2

from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import check_cancelled
from services.market.companies import metadata_key
from services.ticker import metrics

log = get_logger(__name__)

# Until a loader rewrites it.
METADATA_SECONDS: Final = 86_400
ROW_SECONDS: Final = 5
WRITE_EVERY_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 1.0
MAX_PENDING_ROWS: Final = 2_000


def row_key(symbol: str) -> str:
    return f"ticker:data:{symbol}"


class RedisCache:
    """Metadata are read and written at once, rows written in the background, at most once a second each."""

    def __init__(self, redis: Redis, write_every: float = WRITE_EVERY_SECONDS) -> None:
        self._redis = redis
        self._write_every = write_every
        self._not_before = 0.0
        self._pending: dict[str, ticker_row_pb2.TickerRow] = {}
        self._wanted = asyncio.Event()

    async def metadata(self, symbol: str) -> ticker_pb2.TickerMetadata | None:
        """The metadata in Redis; None when it has none, none that is readable, or is away."""
        if self._is_paused():
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                text = await self._redis.get(metadata_key(symbol))
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)
            return None
        if text is None:
            return None
        message = ticker_pb2.TickerMetadata()
        try:
            json_format.Parse(text, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            metrics.MALFORMED_CACHE.inc()
            log.warning("metadata in redis cannot be read", symbol=symbol, error=reason_of(error))
            return None
        message.symbol = symbol
        return message

    async def store_metadata(self, message: ticker_pb2.TickerMetadata) -> None:
        """Writes ticker:metadata:{symbol}."""
        if self._is_paused():
            return
        text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.set(metadata_key(message.symbol), text, ex=METADATA_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            self._pause(error)

    def store_row(self, row: ticker_row_pb2.TickerRow) -> None:
        """Queues ticker:data:{symbol} for writing; the newest row wins."""
        if row.symbol not in self._pending and len(self._pending) >= MAX_PENDING_ROWS:
            metrics.ROWS_NOT_CACHED.inc()
            return
        self._pending[row.symbol] = row
        self._wanted.set()

    async def run(self) -> None:
        """Writes rows until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            rows, self._pending = self._pending, {}
            if not self._is_paused():
                await self._write(rows)
                check_cancelled()
            await asyncio.sleep(self._write_every)

    async def _write(self, rows: dict[str, ticker_row_pb2.TickerRow]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for symbol, row in rows.items():
            text = json_format.MessageToJson(row, preserving_proto_field_name=True, indent=None)
            pipeline.set(row_key(symbol), text, ex=ROW_SECONDS)
        try:
            await pipeline.execute()
            metrics.ROWS_CACHED.inc(len(rows))
        except (RedisError, OSError) as error:
            self._pause(error)

    def _is_paused(self) -> bool:
        return monotonic() < self._not_before

    def _pause(self, error: Exception) -> None:
        self._not_before = monotonic() + PAUSE_SECONDS
        metrics.FAILURES.labels("redis").inc()
        log.warning("redis did not answer", error=reason_of(error))
