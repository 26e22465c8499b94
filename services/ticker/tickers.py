"""Answers about a symbol: of the exact spelling first, else of the upper-case one."""

from tradeul.v1 import ticker_pb2, ticker_row_pb2

from services.kit.runtime.errors import UNKNOWN_SYMBOL, ServiceError
from services.market.symbols import spellings
from services.ticker import metrics
from services.ticker.companies import Companies
from services.ticker.core import complete_row, metadata_from_row
from services.ticker.redis_cache import RedisCache
from services.ticker.scanner_client import ScannerClient
from services.ticker.store import TickerStore

Row = ticker_row_pb2.TickerRow
Metadata = ticker_pb2.TickerMetadata


class Tickers:
    """Live first, then what is stored, then the vendor; UNKNOWN_SYMBOL when none knows the symbol."""

    def __init__(self, scanner: ScannerClient, cache: RedisCache, store: TickerStore, companies: Companies) -> None:
        self._scanner = scanner
        self._cache = cache
        self._store = store
        self._companies = companies

    async def row(self, symbol: str) -> Row:
        """The symbol's row: live, or completed with what is stored when it has not traded today."""
        names = spellings(symbol)
        for name in names:
            row = await self._scanner.row(name)
            if row is not None and row.HasField("price"):
                metrics.ANSWERS.labels("row", "live").inc()
            elif (row := await self._stored_row(name, row)) is not None:
                metrics.ANSWERS.labels("row", "stored").inc()
            else:
                continue
            self._cache.store_row(row)
            return row
        for name in names:
            if (metadata := await self._companies.look_up(name)) is not None:
                metrics.ANSWERS.labels("row", "vendor").inc()
                return complete_row(name, None, metadata, None)
        raise unknown(symbol)

    async def metadata(self, symbol: str) -> Metadata:
        """The company behind the symbol."""
        names = spellings(symbol)
        for name in names:
            stored = await self._companies.stored(name)
            if stored is not None:
                return stored.message if stored.is_described else await self._described(name, stored.message)
        for name in names:
            if (found := await self._companies.look_up(name)) is not None:
                return found
        for name in names:
            if (row := await self._scanner.row(name)) is not None:
                return metadata_from_row(row)
        raise unknown(symbol)

    async def name_of_bars(self, symbol: str) -> str:
        """The spelling under which bars are stored; of a known symbol without bars that of its row."""
        for name in spellings(symbol):
            if await self._store.has_bars(name):
                return name
        return (await self.row(symbol)).symbol

    async def _described(self, name: str, known: Metadata) -> Metadata:
        """`known`, completed by the vendor where no loader has run."""
        try:
            return await self._companies.look_up(name) or known
        except ServiceError:
            # Counted and logged where it happened; `known` is an answer, too.
            return known

    async def _stored_row(self, name: str, row: Row | None) -> Row | None:
        try:
            stored, last_day = await self._companies.stored(name), await self._store.last_day(name)
        except ServiceError:
            if row is None:
                raise
            metrics.FAILURES.labels("database").inc()
            return row
        if row is None and stored is None and last_day is None:
            return None
        return complete_row(name, row, stored.message if stored is not None else None, last_day)


def unknown(symbol: str) -> ServiceError:
    return UNKNOWN_SYMBOL.error(f"there is no symbol {symbol!r}", symbol=symbol)
