"""Runs a load from its request to its end, and keeps its job up to date."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable

import asyncpg

from services.historical import metrics
from services.historical.context import LoadContext, LoadError
from services.historical.core import REST, Kind, Request, State, days_of
from services.historical.flat_files import FlatFileError, FlatFiles, open_source
from services.historical.history_store import WAIT_SECONDS, DatabaseAwayError, HistoryStore
from services.historical.jobs import JobStore, KindLock
from services.historical.load_metadata import load_metadata
from services.historical.load_ohlc import load_ohlc
from services.historical.load_slots import load_slots
from services.historical.universe import UniverseStore, load_universe
from services.kit.runtime.clock import NEW_YORK, new_york_today, ns_of, utc_now
from services.kit.runtime.errors import INVALID_REQUEST, LOAD_RUNNING, VENDOR_UNAVAILABLE
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.runtime.settings import Settings
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.companies import known_from
from services.market.calendar import Calendar, nyse_calendar
from services.market.dates import server_time
from services.market.flat_files import DAILY_BARS_KIND, MINUTE_BARS_KIND

log = get_logger(__name__)

STORE_EVERY_SECONDS = 1.0
END_ATTEMPTS = 5
END_PAUSE_SECONDS = 1.0


class Runner:
    """Prepares and runs loads over one pool and one vendor client."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, vendor: VendorClient) -> None:
        self.jobs = JobStore(pool)
        self.settings = settings
        self.pool = pool
        self.vendor = vendor
        # For how long a load waits for a database that went away.
        self.wait_seconds = WAIT_SECONDS
        self._calendar: Calendar | None = None

    async def calendar(self) -> Calendar:
        """The NYSE's calendar, without announced changes."""
        if self._calendar is None:
            self._calendar = nyse_calendar(new_york_today())
        return self._calendar

    @contextlib.asynccontextmanager
    async def _locked(self, kind: Kind) -> AsyncIterator[KindLock]:
        """Holds the lock of the kind; raises LOAD_RUNNING."""
        lock = KindLock(self.pool, self.jobs, kind)
        if not await lock.take():
            raise LOAD_RUNNING.error(f"a load of {kind} is running already", kind=kind)
        try:
            yield lock
        finally:
            await lock.release()

    async def run(self, request: Request, begun: Callable[[int, LoadContext], None] = lambda *_: None) -> int:
        """Loads; returns the job's id. The job has the outcome: LoadError and failed units do not raise.

        `begun` gets the job's id and its context, whose progress it may follow. Raises ServiceError for a
        request that makes no load; cancelled it ends the job as CANCELLED.
        """
        if request.kind is Kind.METADATA and request.source != REST:
            raise INVALID_REQUEST.error("source: expected rest for metadata, which files do not have")
        files = None if request.source == REST else open_source(request.source, self.settings.flat_files)
        async with self._locked(request.kind) as lock:
            context = await self._prepare(request, files)
            context.store.when_back = lock.hold
            job_id = await self.jobs.begin(request, context.days[0].date, context.days[-1].date)
            begun(job_id, context)
            await self._follow(job_id, context, files)
        return job_id

    async def _prepare(self, request: Request, files: FlatFiles | None) -> LoadContext:
        store = HistoryStore(self.pool, self.wait_seconds)
        calendar = (await self.calendar()).with_changes(await UniverseStore(self.pool).holidays())
        if files is None:
            now = await self._vendor_now()
            newest = _newest_complete(request, now, calendar)
        else:
            # Files have no metadata.
            now, newest = utc_now(), await self._newest_file(request, files)
        days = days_of(request, calendar, newest)
        return LoadContext(request, self.settings, calendar, days, store, self.vendor, known_from(now))

    async def _newest_file(self, request: Request, files: FlatFiles) -> datetime.date:
        """The newest day that has a file, or the requested one."""
        if request.last is not None:
            return request.last
        try:
            newest = await files.newest(MINUTE_BARS_KIND if request.kind is Kind.SLOTS else DAILY_BARS_KIND)
        except FlatFileError as error:
            raise VENDOR_UNAVAILABLE.error(reason_of(error)) from error
        if newest is None:
            raise INVALID_REQUEST.error(f"source: expected daily files, found none in {request.source}")
        return newest

    async def _vendor_now(self) -> datetime.datetime:
        try:
            return server_time((await self.vendor.market_status()).server_time)
        except (VendorError, ValueError) as error:
            raise VENDOR_UNAVAILABLE.error(f"the vendor's time could not be fetched: {reason_of(error)}") from error

    async def _follow(self, job_id: int, context: LoadContext, files: FlatFiles | None) -> None:
        state, error = State.FAILED, None
        metrics.RUNNING.inc()
        storing = asyncio.create_task(self._keep_storing(job_id, context), name="historical.progress")
        try:
            await self._load(context, files)
            state, progress = State.SUCCEEDED, context.progress
            if progress.failed:
                state, error = State.FAILED, f"{progress.failed} of {progress.total} could not be had"
        except asyncio.CancelledError:
            state = State.CANCELLED
            raise
        except LoadError as problem:
            error = reason_of(problem)
        except DatabaseAwayError as problem:
            state, error = State.INTERRUPTED, reason_of(problem)
        except DATABASE_ERRORS as problem:
            error = f"database: {reason_of(problem)}"
        except Exception as problem:
            error = described(problem)
            log.exception("load failed", job_id=job_id)
            raise
        finally:
            metrics.RUNNING.dec()
            storing.cancel()
            await asyncio.gather(storing, return_exceptions=True)
            await asyncio.shield(self._end(job_id, context, state, error))

    async def _load(self, context: LoadContext, files: FlatFiles | None) -> None:
        match context.request.kind:
            case Kind.UNIVERSE:
                await load_universe(context, files)
            case Kind.METADATA:
                await load_metadata(context)
            case Kind.OHLC:
                await load_ohlc(context, files)
            case Kind.SLOTS:
                await load_slots(context, files)

    async def _end(self, job_id: int, context: LoadContext, state: State, error: str | None) -> None:
        context.state, context.error = state, error
        for attempt in range(1, END_ATTEMPTS + 1):
            try:
                await self.jobs.add_problems(job_id, context.problems)
                await self.jobs.update(job_id, context.progress, state, error)
                break
            except DATABASE_ERRORS as problem:
                if state is State.INTERRUPTED or attempt == END_ATTEMPTS:
                    # The next process that can load marks it as interrupted.
                    log.error("how a load ended is not stored", job_id=job_id, error=reason_of(problem))
                    break
            await asyncio.sleep(END_PAUSE_SECONDS)
        log.info("load ended", job_id=job_id, state=state, error=error, **context.progress._asdict())
        context.changed()

    async def _keep_storing(self, job_id: int, context: LoadContext) -> None:
        stored = None
        while True:
            await asyncio.sleep(STORE_EVERY_SECONDS)
            if context.progress != stored:
                stored = context.progress
                try:
                    await self.jobs.update(job_id, stored, State.RUNNING)
                except DATABASE_ERRORS as error:
                    log.warning("progress not stored", job_id=job_id, error=reason_of(error))


def _newest_complete(request: Request, now: datetime.datetime, calendar: Calendar) -> datetime.date:
    """The newest day that is over for the vendor; of symbols and companies, the newest that has begun."""
    today = now.astimezone(NEW_YORK).date()
    if request.kind in (Kind.UNIVERSE, Kind.METADATA):
        return calendar.before(today + datetime.timedelta(days=1)).date
    day = calendar.get(today)
    if day is None:
        return calendar.before(today).date
    # A daily bar is the regular session's; the day's minutes continue to the evening.
    end_ns = day.market_close_ns if request.kind is Kind.OHLC else day.post_market_end_ns
    is_over = ns_of(now) >= end_ns
    return today if is_over else calendar.before(today).date
