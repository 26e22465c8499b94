"""Companies: the vendor's details of each symbol, and the second source's profile where there is a key."""

import asyncio
import contextlib
from typing import Any, Final

from services.historical.core import REST, Kind, Problem
from services.historical.store import Unit
from services.historical.work import LoadError, Work, for_each
from services.kit.company import metadata_columns
from services.kit.fmp import FmpClient, with_profile
from services.kit.vendor import VendorError

SYMBOLS_AT_ONCE: Final = 8
BATCH_SYMBOLS: Final = 50
FAILURES_IN_A_ROW: Final = 25
REFUSED: Final = frozenset({401, 403})

Row = tuple[dict[str, Any], Unit]


async def load_metadata(work: Work) -> None:
    """A symbol is a unit, loaded once for the day of the request. Absent values leave what is stored."""
    symbols = await work.store.active_symbols()
    if not symbols:
        raise LoadError("ticker_universe is empty: load the universe first")
    day = str(work.days[-1].date)
    stored = {} if work.request.again else await work.store.fingerprints(Kind.METADATA)
    wanted = [symbol for symbol in symbols if stored.get(symbol, "") < day]
    work.begin("companies", len(symbols))
    work.skip(len(symbols) - len(wanted))
    async with contextlib.AsyncExitStack() as stack:
        fmp = None
        if (settings := work.settings.fmp).api_key:
            fmp = await stack.enter_async_context(FmpClient(settings.url, settings.api_key))
        await _Load(work, fmp, day).all(wanted)


class _Load:
    def __init__(self, work: Work, fmp: FmpClient | None, day: str) -> None:
        self._work = work
        self._fmp = fmp
        self._day = day
        self._ready: list[Row] = []
        self._storing = asyncio.Lock()
        self._in_a_row = 0
        self._stopped = ""

    async def all(self, symbols: list[str]) -> None:
        try:
            await for_each(symbols, SYMBOLS_AT_ONCE, self._one, lambda: bool(self._stopped))
        finally:
            # What was had is not asked for again, also when the load is cancelled.
            await asyncio.shield(self._store())
        if self._stopped:
            raise LoadError(self._stopped)

    async def _one(self, symbol: str) -> None:
        work = self._work
        try:
            details = await work.vendor.ticker_details(symbol)
        except VendorError as error:
            work.fail(Problem(symbol, 0, str(error)))
            self._in_a_row += 1
            if error.status in REFUSED or self._in_a_row >= FAILURES_IN_A_ROW:
                self._stopped = f"the vendor gives no details: {error}"
            return
        self._in_a_row = 0
        columns = {"symbol": symbol} if details is None else metadata_columns(details)
        try:
            if self._fmp is not None:
                columns = with_profile(columns, await self._fmp.profile(symbol))
        except VendorError as error:
            # The first source's are stored; the second's come with the next load.
            work.problems.append(Problem(f"{symbol} profile", 0, str(error)))
        if details is None and len(columns) == 1:
            work.fail(Problem(symbol, 0, "no source knows it"))
            return
        self._ready.append((columns, Unit(Kind.METADATA, symbol, REST, self._day, 1, 0)))
        if len(self._ready) >= BATCH_SYMBOLS:
            await self._store()

    async def _store(self) -> None:
        async with self._storing:
            ready, self._ready = self._ready, []
            if ready:
                rows, units = zip(*ready, strict=True)
                await self._work.store.write_metadata(rows, units)
                self._work.done(len(rows), count=len(rows))
