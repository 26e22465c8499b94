"""The company behind a symbol: from Redis, else PostgreSQL, else the vendor, whose answer is kept in both."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from tradeul.v1 import ticker_pb2

from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import TOO_MANY_LOOKUPS, VENDOR_UNAVAILABLE, ServiceError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.companies import free_floats, known_from
from services.market.companies import metadata_message
from services.market.dates import server_time
from services.ticker import metrics
from services.ticker.core import fill, has_further_fields, metadata_from_vendor
from services.ticker.redis_cache import RedisCache
from services.ticker.store import TickerStore

log = get_logger(__name__)

Metadata = ticker_pb2.TickerMetadata

VENDOR_SECONDS: Final = 6.0
MAX_LOOKUPS: Final = 64
# How long a symbol counts as unknown after the vendor did not know it.
UNKNOWN_SECONDS: Final = 300.0
MAX_UNKNOWN: Final = 20_000


class Stored(NamedTuple):
    """Stored metadata; `is_described` once a loader, or a lookup here, has fetched the vendor's description."""

    message: Metadata
    is_described: bool


class Companies:
    """`stored` reads the stores, `look_up` asks the vendor."""

    def __init__(self, cache: RedisCache, store: TickerStore, vendor: VendorClient) -> None:
        self._cache = cache
        self._store = store
        self._vendor = vendor
        self._lookups: dict[str, asyncio.Task[Metadata | None]] = {}
        self._unknown: dict[str, float] = {}

    async def stored(self, symbol: str) -> Stored | None:
        """The stored metadata of exactly this symbol. Raises STORE_UNAVAILABLE."""
        if (message := await self._cache.metadata(symbol)) is not None:
            metrics.ANSWERS.labels("metadata", "redis").inc()
            return Stored(message, is_described=True)
        record = await self._store.metadata(symbol)
        if record is None:
            return None
        message, left_out = metadata_message(record)
        if left_out:
            metrics.MALFORMED_DETAIL.inc(len(left_out))
            log.warning("details of ticker_metadata cannot be read", symbol=symbol, fields=left_out)
        metrics.ANSWERS.labels("metadata", "database").inc()
        stored = Stored(message, has_further_fields(message))
        if stored.is_described:
            await self._cache.store_metadata(message)
        return stored

    async def look_up(self, symbol: str) -> Metadata | None:
        """Fetches and stores the vendor's description, completed by what is stored. None when the symbol is unknown.

        Raises VENDOR_UNAVAILABLE, TOO_MANY_LOOKUPS, STORE_UNAVAILABLE.
        """
        if self._unknown.get(symbol, 0.0) > monotonic():
            return None
        task = self._lookups.get(symbol)
        if task is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise TOO_MANY_LOOKUPS.error(
                    f"limit reached: {MAX_LOOKUPS} symbols are being looked up", maximum=MAX_LOOKUPS
                )
            task = asyncio.create_task(self._ask_vendor(symbol), name=f"ticker.look_up.{symbol}")
            self._lookups[symbol] = task
            task.add_done_callback(self._forget_lookup(symbol))
        # Others may wait for the same answer: a client that hangs up does not end it.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends the lookups under way."""
        tasks = list(self._lookups.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget_lookup(self, symbol: str) -> Callable[[asyncio.Task[Metadata | None]], None]:
        def forget(task: asyncio.Task[Metadata | None]) -> None:
            del self._lookups[symbol]
            if not task.cancelled():
                # All clients may have hung up: then nobody else retrieves the error.
                task.exception()

        return forget

    async def _ask_vendor(self, symbol: str) -> Metadata | None:
        # Another lookup may have ended meanwhile.
        stored = await self.stored(symbol)
        if stored is not None and stored.is_described:
            return stored.message
        try:
            async with asyncio.timeout(VENDOR_SECONDS):
                details = await self._vendor.ticker_details(symbol)
                if details is None or details.ticker != symbol:
                    self._remember_unknown(symbol)
                    return None
                shares = await self._float_of(symbol)
                now = server_time((await self._vendor.market_status()).server_time)
        except (VendorError, TimeoutError, ValueError) as error:
            metrics.FAILURES.labels("vendor").inc()
            log.warning("vendor did not answer", symbol=symbol, error=reason_of(error))
            raise VENDOR_UNAVAILABLE.error(
                f"the vendor's description of {symbol} could not be fetched", symbol=symbol
            ) from error
        described = metadata_from_vendor(details)
        if shares is not None:
            described.float_shares = shares
        message = fill(stored.message if stored is not None else None, described)
        metrics.ANSWERS.labels("metadata", "vendor").inc()
        try:
            message.updated_at.FromDatetime(await self._store.save_metadata(message, known_from(now)))
        except ServiceError as error:
            # The answer is good; it is fetched again next time.
            metrics.FAILURES.labels("database").inc()
            log.warning("metadata not stored", symbol=symbol, error=error.message)
        else:
            await self._cache.store_metadata(message)
        return message

    async def _float_of(self, symbol: str) -> float | None:
        """Shares free to trade; the description is an answer without them, too."""
        try:
            return (await free_floats(self._vendor, [symbol])).get(symbol)
        except VendorError as error:
            metrics.FAILURES.labels("vendor").inc()
            log.warning("float not fetched from the vendor", symbol=symbol, error=reason_of(error))
            return None

    def _remember_unknown(self, symbol: str) -> None:
        if len(self._unknown) >= MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[symbol] = monotonic() + UNKNOWN_SECONDS
