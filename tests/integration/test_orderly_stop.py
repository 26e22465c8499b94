"""A writer that is stopped anywhere stores everything that it had accepted, once: tried at each of its awaits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest

from fastcore.minute_bars import Bar
from services.analytics.bar_queue import BarQueue, Mark
from services.analytics.bar_writer import BarWriter
from services.analytics.core import AnalyticsCore
from services.kit.rpc.ring import Position
from services.scanner import record_writer
from services.scanner.record_spool import RecordSpool
from services.scanner.scan_results import ScanWriter
from tests.support.scripted_sequencer import POLL_SECONDS
from tests.support.stopping import Moment, Stopped
from tests.support.stores import Stores, module_stores
from tests.support.tape import SECOND, Tape, at
from tests.unit.test_scan_results import Replica

SYMBOLS = ["AAA", "BBB", "CCC"]
HOUR = 3600.0
# Without an await for so long, it sleeps.
STILL_SECONDS = 0.5


class Writer(Protocol):
    """What both writers are."""

    async def run(self) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stores.database_url)
    yield connection
    await connection.close()


async def count_awaits(writer: Writer, is_stored: Callable[[], Awaitable[bool]]) -> int:
    """How many awaits it takes to store everything that waits; one more is the pause after it."""
    steps = Stopped(writer.run())
    task = asyncio.create_task(steps.run())
    async with asyncio.timeout(60):
        while not await is_stored():
            await asyncio.sleep(POLL_SECONDS)
        counted = -1
        while counted != steps.awaits:
            # It sleeps for an hour once it is done.
            counted = steps.awaits
            await asyncio.sleep(20 * POLL_SECONDS)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await writer.close()
    return counted - 1


def stops(total: int) -> Iterator[tuple[int, Moment]]:
    """Every await at which a stop can come."""
    yield from ((number, moment) for moment in Moment for number in range(1, total + 1))
    yield total + 1, Moment.WAITING


async def stop_at(writer: Writer, number: int, moment: Moment) -> None:
    """As a service does it: cancelled, awaited, then closed.

    How many awaits it takes may differ from one time to the next, by how the server's answers are cut: a writer that
    is done before its stop is stopped in the pause after it.
    """
    steps = Stopped(writer.run(), number, moment)
    task = asyncio.create_task(steps.run())
    async with asyncio.timeout(60):
        before = -1
        while not (await asyncio.wait({task}, timeout=STILL_SECONDS))[0]:
            if before == steps.awaits:
                task.cancel()
            before = steps.awaits
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError)
        await writer.close()


async def test_scan_results(
    stores: Stores, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Several batches, so that one is stopped between them, too.
    monkeypatch.setattr(record_writer, "BATCH_RECORDS", 2)

    def accepted() -> ScanWriter:
        tape, replica = Tape(SYMBOLS), Replica()
        replica.apply(*tape.opening())
        for symbol in SYMBOLS:
            replica.apply(tape.trades({symbol: 101.0}), tape.watermark())
        return ScanWriter(stores.database_url, replica.recorder, RecordSpool(tmp_path), HOUR)

    async def stored() -> list[str]:
        return [row["symbol"] for row in await database.fetch("SELECT symbol FROM scan_results ORDER BY time")]

    async def is_stored() -> bool:
        return await stored() == SYMBOLS

    await database.execute("TRUNCATE scan_results")
    total = await count_awaits(accepted(), is_stored)
    assert total > 10
    for number, moment in stops(total):
        await database.execute("TRUNCATE scan_results")
        await stop_at(accepted(), number, moment)
        assert await stored() == SYMBOLS, f"stopped {moment.value} at await {number} of {total}"


async def test_minute_bars(stores: Stores, database: asyncpg.Connection) -> None:
    mark = Mark(Position(7, 70), None, 0)
    before = Mark(Position(7, 50), None, 0)
    read: list[Mark] = []

    def accepted() -> BarWriter:
        core = AnalyticsCore(BarQueue())
        for place, symbol in enumerate(SYMBOLS):
            start = at("10:00:00") + place * 60 * SECOND
            core.queue.put(symbol, Bar(place, start, 1.0, 2.0, 0.5, 1.5, 100.0, 1.2, 3, False))
        core.queue.mark = mark
        return BarWriter(stores.database_url, core, read.append, HOUR)

    async def stored() -> list[str]:
        return [row["symbol"] for row in await database.fetch("SELECT symbol FROM aggregates_1min ORDER BY time")]

    async def sequence() -> int:
        return int(await database.fetchval("SELECT sequence FROM stream_marks WHERE name = 'minute_bars'"))

    async def is_stored() -> bool:
        return await stored() == SYMBOLS and await sequence() == mark.position.sequence

    async def reset() -> None:
        await database.execute("TRUNCATE aggregates_1min, stream_marks")
        await database.execute(
            "INSERT INTO stream_marks (name, epoch, sequence) VALUES ('minute_bars', $1, $2)", *before.position
        )
        read.clear()

    await reset()
    total = await count_awaits(accepted(), is_stored)
    assert total > 10
    for number, moment in stops(total):
        await reset()
        await stop_at(accepted(), number, moment)
        where = f"stopped {moment.value} at await {number} of {total}"
        assert await stored() == SYMBOLS, where
        # A mark that nobody has read is not written over: the next process reads again from there.
        assert (read, await sequence()) in (([], 50), ([before], 70)), where
