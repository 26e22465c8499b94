"""Fetches the vendor's minute bars of a gap in a process of its own, so that thousands of answers delay no trade.

The child is this module run as a program. Its input is two lines of JSON, the settings and a
Request. It answers with messages of msgpack: GapBars as they come, then _End, and ends. It dies with us.
"""

import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

import msgspec
import uvloop

from fastcore.columns import BarColumns
from services.data_ingest.vendor_snapshot.rows import MAX_TIME_NS
from services.kit.runtime.clock import NS_PER_MINUTE, NS_PER_MS
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.patient_starts import start_worker_patiently
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.runtime.worker_messages import read_message, write_message
from services.kit.runtime.workers import end_worker
from services.kit.vendor.client import AggregateSource, VendorClient, VendorError
from services.kit.vendor.models import AggregateBar

log = get_logger(__name__)

WORKER: Final = "services.data_ingest.feed.gap_bars"
MINUTE_SPAN: Final = 2
# The vendor's rate is shared with everything else.
REQUESTS_AT_ONCE: Final = 4
# So many symbols enter the stream with one frame, which then costs less than they would alone.
BATCH_SYMBOLS: Final = 50
ATTEMPTS: Final = 3
RETRY_SECONDS: Final = 1.0


class GapBars(msgspec.Struct, tag="bars", array_like=True):
    """The bars of some symbols: an encoded BarBatch whose ids are indexes of `symbols`, empty when they have none.

    `failed`: why there are none of these symbols.
    """

    symbols: list[str]
    columns: bytes
    failed: dict[str, str]


class _End(msgspec.Struct, tag="end", array_like=True):
    """All symbols have been requested."""


class GapBarsSource(Protocol):
    """Where the bars of a gap come from."""

    def fetch(self, symbols: Sequence[str], first_minute: int, end_minute: int) -> AsyncGenerator[GapBars, None]:
        """The bars of the minutes since 1970 UTC, from the first to before the end; of each symbol once, or why not."""
        ...


class Request(msgspec.Struct):
    """The bars that the child has to fetch: those of the minutes [first, end) of these symbols."""

    symbols: list[str]
    first_minute: int
    end_minute: int


class GapBarsProcess:
    """A GapBarsSource with a child for each gap; one that ends early is started again for the rest, twice."""

    def __init__(self, settings: Settings, retry_seconds: float = RETRY_SECONDS) -> None:
        self.pid: int | None = None
        """The child's, while there is one."""
        self._settings = settings
        self._retry_seconds = retry_seconds

    async def fetch(self, symbols: Sequence[str], first_minute: int, end_minute: int) -> AsyncGenerator[GapBars, None]:
        """See GapBarsSource; the symbols of a child that fails three times failed."""
        left = dict.fromkeys(symbols)
        reason = ""
        for attempt in range(ATTEMPTS):
            try:
                async with contextlib.aclosing(self._fetch(Request(list(left), first_minute, end_minute))) as answers:
                    async for bars in answers:
                        for symbol in (*bars.symbols, *bars.failed):
                            left.pop(symbol, None)
                        yield bars
                return
            except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
                reason = f"the process that fetches them failed: {reason_of(error)}"
                log.error("bars of a gap: the process failed", reason=reason_of(error), attempt=attempt + 1)
                await asyncio.sleep(self._retry_seconds)
        yield GapBars([], b"", dict.fromkeys(left, reason))

    async def _fetch(self, request: Request) -> AsyncGenerator[GapBars, None]:
        lines = self._settings.model_dump_json().encode() + b"\n" + msgspec.json.encode(request) + b"\n"
        process = await start_worker_patiently(WORKER, lines)
        self.pid = process.pid
        try:
            while True:
                message = msgspec.msgpack.decode(await read_message(process), type=GapBars | _End)
                if isinstance(message, _End):
                    return
                yield message
        finally:
            self.pid = None
            await end_worker(process)


async def fetched(source: AggregateSource, request: Request) -> AsyncGenerator[GapBars, None]:
    """The bars of all symbols, some at a time; once the key is refused, no more are requested."""
    waiting = iter(request.symbols)
    columns = BarColumns(MINUTE_SPAN)
    batch = GapBars([], b"", {})
    batches: asyncio.Queue[GapBars | None] = asyncio.Queue(maxsize=1)
    refusal = ""

    def taken() -> GapBars:
        nonlocal batch
        full, batch = batch, GapBars([], b"", {})
        full.columns = columns.encode()
        columns.clear()
        return full

    async def work() -> None:
        nonlocal refusal
        for symbol in waiting:
            if refusal:
                batch.failed[symbol] = refusal
                continue
            try:
                bars = await _bars_of(source, symbol, request)
            except VendorError as error:
                batch.failed[symbol] = reason_of(error)
                if error.is_refusal:
                    refusal = reason_of(error)
            else:
                _append(columns, len(batch.symbols), bars)
                batch.symbols.append(symbol)
            if len(batch.symbols) + len(batch.failed) >= BATCH_SYMBOLS:
                await batches.put(taken())

    async def work_all() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(REQUESTS_AT_ONCE):
                    tasks.create_task(work())
        finally:
            await batches.put(None)

    working = asyncio.create_task(work_all())
    try:
        while (full := await batches.get()) is not None:
            yield full
        await working
        if batch.symbols or batch.failed:
            yield taken()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _bars_of(source: AggregateSource, symbol: str, request: Request) -> list[AggregateBar]:
    ms = NS_PER_MINUTE // NS_PER_MS
    bars = await source.aggs(symbol, 1, "minute", request.first_minute * ms, request.end_minute * ms - 1)
    for bar in bars:
        if not 0 <= bar.t * NS_PER_MS < MAX_TIME_NS:
            raise VendorError(f"expected bars of times in ms since 1970, was {bar.t}")
    return bars


def _append(columns: BarColumns, symbol_id: int, bars: Sequence[AggregateBar]) -> None:
    for bar in bars:
        start_ns = bar.t * NS_PER_MS
        columns.append(
            symbol_id,
            start_ns,
            start_ns + NS_PER_MINUTE,
            bar.o,
            bar.h,
            bar.l,
            bar.c,
            bar.v,
            vwap=bar.vw if bar.vw is not None else math.nan,
            average_size=bar.v / bar.n if bar.n else math.nan,
        )


# --- the child


async def run(settings: Settings, request: Request) -> None:
    """Fetches what the request wants, and writes it."""
    polygon = settings.polygon
    async with VendorClient(polygon.rest_url, polygon.api_key, concurrency=REQUESTS_AT_ONCE) as vendor:
        async for bars in fetched(vendor, request):
            # A full pipe holds up the requests, and is to: whoever puts the bars into the stream has no time for more.
            write_message(sys.stdout.buffer, msgspec.msgpack.encode(bars))
    write_message(sys.stdout.buffer, msgspec.msgpack.encode(_End()))


def main() -> None:
    """The child: ends after its answer, or when its parent closes the pipe."""
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure(settings, "data_ingest")
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    try:
        uvloop.run(run(settings, request))
    except BrokenPipeError:
        # The parent wants no more.
        sys.exit(1)


if __name__ == "__main__":
    main()
