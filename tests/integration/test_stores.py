"""The embedded stores as tests start them, and the migrations on a real PostgreSQL."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.exceptions import ResponseError

from services.kit.runtime.errors import StartError
from services.kit.stores import database, redis
from services.kit.stores.migrate import migrate
from services.kit.stores.notifications import follow_notifications
from services.kit.stores.redis import open_redis
from tests.support.mesh import free_ports
from tests.support.redis_server import RedisServer
from tests.support.stores import Stores, module_stores


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


async def test_migrations_make_the_tables_once(stores: Stores) -> None:
    connection = await asyncpg.connect(stores.database_url)
    try:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        tables = {row["table_name"] for row in await connection.fetch(query)}
        assert {"scanner_filters", "ticker_metadata", "daily_ohlc", "ticker_atr", "volume_slots"} <= tables
        await connection.execute("UPDATE scanner_filters SET enabled = NOT enabled WHERE name = 'rvol_high'")
        assert await migrate(stores.database_url) == []
        assert await connection.fetchval("SELECT enabled FROM scanner_filters WHERE name = 'rvol_high'") is True
        assert await connection.fetchval("SELECT count(*) FROM scanner_filters") == 4
    finally:
        await connection.close()


async def test_companies_stored_before_get_their_sectors_types_and_dates(stores: Stores) -> None:
    """A database of the version before, whose sectors are divisions of the SIC."""
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute("CREATE DATABASE earlier")
    await connection.close()
    url = stores.other_database("earlier")
    await migrate(url, "0005_maintenance")
    connection = await asyncpg.connect(url)
    try:
        rows = [
            ("A", "Manufacturing", {"sic_code": "3674", "type": "CS", "list_date": "1999-01-22", "cik": "1"}),
            ("B", "Healthcare", {"sic_code": "3674"}),
            ("C", "Services", {}),
            ("D", None, {"type": "ETF", "list_date": "soon"}),
        ]
        await connection.executemany(
            "INSERT INTO ticker_metadata (symbol, sector, details) VALUES ($1, $2, $3)",
            [(symbol, sector, json.dumps(details)) for symbol, sector, details in rows],
        )
        assert "0006_companies" in await migrate(url)
        query = "SELECT symbol, sector, security_type, list_date, details FROM ticker_metadata ORDER BY symbol"
        found = [(*row[:4], json.loads(row[4])) for row in await connection.fetch(query)]
        division = {"sic_code": "3674", "sic_division": "Manufacturing"}
        assert found == [
            ("A", "Technology", "CS", "1999-01-22", {**division, "type": "CS", "cik": "1"}),
            ("B", "Healthcare", None, None, division),
            ("C", None, None, None, {}),
            ("D", None, "ETF", None, {"type": "ETF"}),
        ]
    finally:
        await connection.close()


async def test_what_an_earlier_version_applied_with_yoyo_is_not_applied_again(stores: Stores) -> None:
    connection = await asyncpg.connect(stores.database_url)
    url = stores.other_database("of_yoyo")
    try:
        await connection.execute("CREATE DATABASE of_yoyo")
        assert (await migrate(url, "0002_history")) == ["0001_spine", "0002_history"]
    finally:
        await connection.close()
    connection = await asyncpg.connect(url)
    try:
        # As yoyo-migrations 9 makes and fills it.
        await connection.execute(
            """
            DROP TABLE _yoyo_migration;
            CREATE TABLE "_yoyo_migration" ("migration_hash" VARCHAR(64), "migration_id" VARCHAR(255),
                "applied_at_utc" TIMESTAMP, PRIMARY KEY ("migration_hash"));
            INSERT INTO _yoyo_migration VALUES
                ('335693356a16c055418008fbf7ed8096cbb9f7d1d78b351a7abf41a1ff80a3de', '0001_spine', now()),
                ('eb3b50d24e768e63e6756e196e71385794f5a5f5d2b3c8cfbef02fcfa07a38d5', '0002_history', now());
            """
        )
        assert (await migrate(url, "0003_minute_bars")) == ["0003_minute_bars"]
        query = "SELECT migration_hash, migration_id FROM _yoyo_migration ORDER BY migration_id"
        assert tuple((await connection.fetch(query))[2]) == (
            "20912379661d4f1eea9c3c74d905dbcc9eed3b890ebd131e9f5afcbfcfe326f4",
            "0003_minute_bars",
        )
    finally:
        await connection.close()


async def test_a_migration_that_fails_leaves_nothing_and_says_which_it_is(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Folder:
        path = staticmethod(lambda: tmp_path)

    monkeypatch.setattr("services.kit.stores.migrate.MIGRATIONS", Folder)
    (tmp_path / "9001_good.sql").write_text("CREATE TABLE good (n INTEGER)")
    (tmp_path / "9002_bad.sql").write_text("CREATE TABLE half (n INTEGER); SELECT no_such_column FROM half")
    with pytest.raises(StartError, match='migration 9002_bad: column "no_such_column" does not exist'):
        await migrate(stores.database_url)
    connection = await asyncpg.connect(stores.database_url)
    try:
        assert await connection.fetchval("SELECT to_regclass('half') IS NULL AND to_regclass('good') IS NOT NULL")
    finally:
        await connection.execute("DROP TABLE good; DELETE FROM _yoyo_migration WHERE migration_id = '9001_good'")
        await connection.close()


async def test_several_processes_may_migrate_at_once(stores: Stores) -> None:
    connection = await asyncpg.connect(stores.database_url)
    try:
        await connection.execute("CREATE DATABASE another")
        url = stores.other_database("another")
        applied = await asyncio.gather(*(migrate(url) for _ in range(3)))
        assert sorted(applied)[:2] == [[], []] and len(sorted(applied)[2]) >= 1
    finally:
        await connection.close()


async def test_a_store_is_one_markets(stores: Stores) -> None:
    for claim, url in ((database.claim_market, stores.database_url), (redis.claim_market, stores.redis_url)):
        await claim(url, "simulator")
        await claim(url, "simulator")
        with pytest.raises(StartError, match="holds the simulator's data, this mesh's market is the vendor's"):
            await claim(url, "vendor")


async def test_redis_holds_no_more_than_its_limit(stores: Stores) -> None:
    """What expires is dropped first, and what does not is kept; then writes are refused."""
    client = await open_redis(stores.redis_url)
    try:
        assert await client.config_get("maxmemory") == {"maxmemory": str(1 << 30)}
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", used + 4_000_000)
        await client.set("lasting", "1")
        for number in range(100):
            await client.set(f"cached:{number}", "x" * 100_000, ex=60 + number)
        assert 0 < len(await client.keys("cached:*")) < 100
        assert await client.get("lasting") == "1"
        with pytest.raises(ResponseError, match="maxmemory"):
            for number in range(100):
                await client.set(f"lasting:{number}", "x" * 100_000)
        assert await client.keys("cached:*") == []
    finally:
        await client.config_set("maxmemory", 1 << 30)
        await client.delete(*await client.keys("lasting*"))
        await client.aclose()


async def test_a_node_of_a_redis_cluster_is_refused(tmp_path: Path) -> None:
    """It refuses commands on keys of several slots, which names of our contract cannot avoid."""
    port, bus_port = free_ports(2)
    cluster = ("--cluster-enabled", "yes", "--bind", "127.0.0.1", "--port", str(port), "--cluster-port", str(bus_port))
    async with RedisServer(tmp_path, *cluster) as server:
        await server.redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        with pytest.raises(StartError, match="was a node of a Redis Cluster"):
            await redis.claim_market(server.url, "simulator")
        with pytest.raises(StartError, match="was a node of a Redis Cluster"):
            await open_redis(server.url)


async def test_redis_answers(stores: Stores) -> None:
    client = await open_redis(stores.redis_url)
    try:
        await client.set("key", "value")
        assert await client.get("key") == "value"
    finally:
        await client.aclose()


async def test_notifications_are_followed_again_after_the_connection_was_cut(stores: Stores) -> None:
    payloads: asyncio.Queue[str] = asyncio.Queue()
    listening: asyncio.Queue[bool] = asyncio.Queue()
    failures: list[int] = []
    following = asyncio.create_task(
        follow_notifications(
            stores.database_url,
            "followed",
            payloads.put_nowait,
            on_listening=listening.put_nowait,
            check_seconds=0.1,
            on_failure=lambda: failures.append(1),
        )
    )
    connection = await asyncpg.connect(stores.database_url)
    try:
        async with asyncio.timeout(60):
            assert await listening.get() is False
            await connection.execute("NOTIFY followed, 'one'")
            assert await payloads.get() == "one" and not failures
            cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query IN ($1, $2)"
            while not await connection.fetchval(cut, "LISTEN followed", "SELECT 1"):
                await asyncio.sleep(0.05)
            assert await listening.get() is True and failures
            await connection.execute("NOTIFY followed, 'two'")
            assert await payloads.get() == "two"
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await connection.close()
