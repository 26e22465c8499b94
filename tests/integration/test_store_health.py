"""A database that takes nothing is named, with since when and why, until it takes what it is given again."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from services.data_ingest import store_health
from services.data_ingest.store_health import DatabaseProbe
from tests.support.stores import Stores, module_stores

WAIT_SECONDS = 60


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as found:
        yield found


@pytest.fixture
async def probe(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DatabaseProbe]:
    monkeypatch.setattr(store_health, "PROBE_SECONDS", 0.05)
    probe = DatabaseProbe(stores.database_url)
    running = asyncio.create_task(probe.run())
    yield probe
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def until(probe: DatabaseProbe, text: str | None) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while probe.state.warning is not None if text is None else text not in (probe.state.warning or ""):
            await asyncio.sleep(0.02)


async def test_a_database_that_refuses_to_write_is_named_until_it_writes_again(
    stores: Stores, probe: DatabaseProbe
) -> None:
    connection = await asyncpg.connect(stores.database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await connection.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                           "AND datname = current_database()")  # fmt: skip
    await until(probe, "cannot execute UPDATE in a read-only transaction")
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    await until(probe, None)
    await connection.close()


async def test_a_database_that_does_not_answer_is_named(
    stores: Stores, probe: DatabaseProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_health, "ANSWER_SECONDS", 0.2)
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute("INSERT INTO market_source (market) VALUES ('simulator') ON CONFLICT DO NOTHING")
    async with connection.transaction():
        # As one whose disk hangs: it takes connections, and ends no statement that writes.
        await connection.execute("LOCK TABLE market_source")
        await until(probe, "PostgreSQL takes nothing since")
    await until(probe, None)
    await connection.close()
