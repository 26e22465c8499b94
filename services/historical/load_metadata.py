"""Companies: the vendor's details of each symbol and its float list; where there is a key, the second source, too."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from services.historical.context import LoadContext, LoadError
from services.historical.core import REST, Kind, Problem
from services.historical.history_store import Unit
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.kit.vendor.companies import free_floats, metadata_columns
from services.kit.vendor.fmp import FmpClient, with_profile

SYMBOLS_AT_ONCE: Final = 8
BATCH_SYMBOLS: Final = 50

Row = tuple[dict[str, Any], Unit]


async def load_metadata(context: LoadContext) -> None:
    """A symbol is a unit, loaded once for the day of the request. Absent values leave what is stored."""
    symbols = await context.store.active_symbols()
    if not symbols:
        raise LoadError("ticker_universe is empty: load the universe first")
    day = str(context.days[-1].date)
    stored = {} if context.request.again else await context.store.fingerprints(Kind.METADATA)
    wanted = [symbol for symbol in symbols if stored.get(symbol, "") < day]
    context.begin("companies", len(symbols))
    context.skip(len(symbols) - len(wanted))
    async with contextlib.AsyncExitStack() as stack:
        fmp = None
        if (settings := context.settings.fmp).api_key:
            fmp = await stack.enter_async_context(FmpClient(settings.url, settings.api_key))
        floats = await _floats(context) if wanted else {}
        context.step("companies")
        await _Load(context, fmp, day, floats).all(wanted)


async def _floats(context: LoadContext) -> dict[str, float]:
    """The vendor's float list; without it the second source's are requested, and what is stored stays."""
    context.step("float list")
    try:
        return await free_floats(context.vendor)
    except VendorError as error:
        context.problems.append(Problem("/stocks/vX/float", 0, reason_of(error)))
        return {}


class _Load:
    def __init__(self, context: LoadContext, fmp: FmpClient | None, day: str, floats: Mapping[str, float]) -> None:
        self._context = context
        self._fmp = fmp
        self._day = day
        self._floats = floats
        # Its plan may lack what the profile's has.
        self._is_float_refused = False
        self._ready: list[Row] = []
        self._storing = asyncio.Lock()

    async def all(self, symbols: list[str]) -> None:
        try:
            await self._context.for_each(symbols, SYMBOLS_AT_ONCE, self._one)
        finally:
            # Fetched answers are kept, also when the load is cancelled.
            await asyncio.shield(self._store())

    async def _one(self, symbol: str) -> None:
        context = self._context
        try:
            details = await context.vendor.ticker_details(symbol)
        except VendorError as error:
            context.vendor_failed(symbol, error, "details")
            return
        context.vendor_answered()
        columns: dict[str, Any] = {"symbol": symbol} if details is None else metadata_columns(details)
        if (shares := self._floats.get(symbol)) is not None:
            columns["float_shares"] = shares
        if self._fmp is not None:
            columns = await self._with_second_source(symbol, columns, self._fmp)
        if details is None and len(columns) == 1:
            context.fail(Problem(symbol, 0, "no source knows it"))
            return
        self._ready.append((columns, Unit(Kind.METADATA, symbol, REST, self._day, 1, 0)))
        if len(self._ready) >= BATCH_SYMBOLS:
            await self._store()

    async def _with_second_source(self, symbol: str, columns: dict[str, Any], fmp: FmpClient) -> dict[str, Any]:
        """The first source's columns with the second's; what it does not give now comes with the next load."""
        try:
            columns = with_profile(columns, await fmp.profile(symbol))
        except VendorError as error:
            self._context.problems.append(Problem(f"{symbol} profile", 0, reason_of(error)))
        if "float_shares" in columns or self._is_float_refused:
            return columns
        try:
            if (shares := await fmp.float_shares(symbol)) is not None:
                columns["float_shares"] = shares
        except VendorError as error:
            self._is_float_refused = error.is_refusal
            self._context.problems.append(Problem(f"{symbol} float", 0, reason_of(error)))
        return columns

    async def _store(self) -> None:
        async with self._storing:
            ready, self._ready = self._ready, []
            if ready:
                rows, units = zip(*ready, strict=True)
                await self._context.store.write_metadata(rows, units, self._context.known_from)
                self._context.done(len(rows), count=len(rows))
