"""PostgreSQL goes away in the middle of a load: the load waits, goes on, or says that it was interrupted."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.historical.context import LoadContext
from services.historical.core import Kind, Request
from services.historical.runner import Runner
from services.historical.service import open_runner
from services.kit.runtime.settings import Settings
from tests.integration.test_historical import daily
from tests.support.flat_history import write
from tests.support.postgres_server import PostgresServer

FIRST, LAST = datetime.date(2025, 10, 1), datetime.date(2025, 10, 31)
TRADING_DAYS = 23


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[PostgresServer]:
    async with PostgresServer(tmp_path / "stores") as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for offset in range((LAST - FIRST).days + 1):
        day = FIRST + datetime.timedelta(offset)
        write(tmp_path, day, daily(day, [f"S{number},100,10,10.5,11,9,{{}},5" for number in range(50)]), "day_aggs_v1")
    return tmp_path


@contextlib.asynccontextmanager
async def runner(server: PostgresServer) -> AsyncIterator[Runner]:
    settings = Settings.load({"POLYGON_API_KEY": "k", "POLYGON_REST_URL": "http://127.0.0.1:9"})
    async with open_runner(settings, server.url, attempts=1) as running:
        yield running


def after_units(count: int, act: Callable[[], None]) -> tuple[Callable[[int, LoadContext], None], list[LoadContext]]:
    """For Runner.run(): acts once so many units are done; and the load's context."""
    contexts: list[LoadContext] = []

    def begun(_: int, context: LoadContext) -> None:
        contexts.append(context)

        def changed() -> None:
            if context.progress.done == count:
                act()
                context.changed = lambda: None

        context.changed = changed

    return begun, contexts


async def jobs_of(url: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url)
    try:
        return [dict(row) for row in await connection.fetch("SELECT * FROM load_jobs ORDER BY job_id")]
    finally:
        await connection.close()


async def bars_of(url: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [
            tuple(row) for row in await connection.fetch("SELECT date, count(*) FROM daily_ohlc GROUP BY 1 ORDER BY 1")
        ]
    finally:
        await connection.close()


async def test_a_load_goes_on_when_the_database_is_back(server: PostgresServer, files: Path) -> None:
    cut = asyncio.Event()

    def end() -> None:
        server.end_at_once()
        cut.set()

    begun, contexts = after_units(3, end)
    request = Request(Kind.OHLC, str(files), FIRST, LAST)
    async with asyncio.timeout(120), runner(server) as running:
        load = asyncio.create_task(running.run(request, begun))
        await cut.wait()
        await server.ended()
        await server.start()
        await load
        # Its lock was lost with the connection: nobody else could have begun meanwhile, and nobody can now.
        assert await running.run(request) > 1
    first, second = await jobs_of(server.url)
    assert (first["state"], first["done"], first["failed"], first["error"]) == ("SUCCEEDED", TRADING_DAYS, 0, None)
    assert (second["state"], second["skipped"]) == ("SUCCEEDED", TRADING_DAYS)
    assert [count for _, count in await bars_of(server.url)] == [50] * TRADING_DAYS
    assert contexts[0].state == "SUCCEEDED"


async def test_a_load_without_a_database_is_interrupted_and_says_so(server: PostgresServer, files: Path) -> None:
    begun, contexts = after_units(3, server.end_at_once)
    request = Request(Kind.OHLC, str(files), FIRST, LAST)
    async with asyncio.timeout(120), runner(server) as running:
        running.wait_seconds = 0.5
        await running.run(request, begun)
    assert contexts[0].state == "INTERRUPTED"
    assert contexts[0].error is not None and contexts[0].error.startswith("the database was away for 0.5 s: ")
    await server.ended()
    await server.start()
    # Nobody could be told. The next process closes it, and goes on where it was.
    assert [job["state"] for job in await jobs_of(server.url)] == ["RUNNING"]
    async with runner(server) as running:
        (job,) = await jobs_of(server.url)
        assert (job["state"], job["error"]) == ("INTERRUPTED", "its process was gone before it had ended")
        await running.run(request)
    assert [job["state"] for job in await jobs_of(server.url)] == ["INTERRUPTED", "SUCCEEDED"]
    assert [count for _, count in await bars_of(server.url)] == [50] * TRADING_DAYS


async def test_leftovers_of_a_load_that_runs_are_left_alone(server: PostgresServer, files: Path) -> None:
    states: list[str] = []
    asked = asyncio.Event()
    begun, _ = after_units(1, asked.set)
    async with asyncio.timeout(120), runner(server) as running:
        load = asyncio.create_task(running.run(Request(Kind.OHLC, str(files), FIRST, LAST), begun))
        await asked.wait()
        async with runner(server):
            states += [job["state"] for job in await jobs_of(server.url)]
        await load
    assert "INTERRUPTED" not in states
    assert [job["state"] for job in await jobs_of(server.url)] == ["SUCCEEDED"]
