"""The time series' tables on plain PostgreSQL, and on TimescaleDB where there is one to test with.

TRADEUL_TEST_TIMESCALE_URL names a server with TimescaleDB preloaded, and a role that may
create databases: postgresql://user@host:port/postgres.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from services.historical.core import Kind
from services.historical.history_store import HistoryStore, Unit
from services.kit.stores.database import open_pool
from services.kit.stores.merge_writer import MergeTable
from tests.support.stores import Stores, database_server, fresh_database, module_stores

WEEK = timedelta(days=7)
NOW = datetime(2026, 3, 11, 15, tzinfo=UTC)
BAR_COLUMNS = ("symbol", "time", "open", "high", "low", "close", "volume", "vwap", "trades")
BAR_MERGE = (
    "INSERT INTO aggregates_1min SELECT * FROM incoming ON CONFLICT (symbol, time)"
    " DO UPDATE SET close = excluded.close, volume = excluded.volume"
)
ROW = tuple[object, ...]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture(params=["plain", "timescale"])
async def url(request: pytest.FixtureRequest, stores: Stores) -> AsyncIterator[str]:
    """A fresh database with the tables, on either kind of server."""
    async with fresh_database(database_server(request.param, stores)) as fresh:
        yield fresh


@pytest.fixture
async def database(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def has_timescale(database: asyncpg.Connection) -> bool:
    return bool(await database.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"))


def bar(symbol: str, time: datetime, close: float = 10.0, volume: float = 100.0) -> ROW:
    return (symbol, time, 10.0, 11.0, 9.0, close, volume, 10.0, 3)


async def test_series_are_hypertables_or_partitioned(database: asyncpg.Connection) -> None:
    names = {"aggregates_1min", "scan_results", "daily_ohlc", "alert_events"}
    if not await has_timescale(database):
        query = "SELECT relname FROM pg_partitioned_table JOIN pg_class ON pg_class.oid = partrelid"
        assert {row["relname"] for row in await database.fetch(query)} == names
        return
    query = "SELECT hypertable_name AS name, compression_enabled FROM timescaledb_information.hypertables"
    found = {row["name"]: row["compression_enabled"] for row in await database.fetch(query)}
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, True)
    # Nothing is dropped or compressed by the wall's clock.
    jobs = {row["proc_name"] for row in await database.fetch("SELECT proc_name FROM timescaledb_information.jobs")}
    assert "policy_refresh_continuous_aggregate" in jobs
    assert not jobs & {"policy_retention", "policy_compression"}


async def test_rows_of_any_day_can_be_written_again(url: str, database: asyncpg.Connection) -> None:
    """Also those for which nobody made a partition, and those compressed since."""
    times = [NOW - 60 * WEEK, NOW - WEEK, NOW, NOW + 30 * WEEK]
    table = MergeTable(url, "aggregates_1min", BAR_COLUMNS, BAR_MERGE)
    rows = [bar("AAPL", time) for time in times]
    assert await table.write(rows) == 4
    if await has_timescale(database):
        await database.execute("SELECT compress_chunk(c) FROM show_chunks('aggregates_1min') c")
    assert await table.write([bar("AAPL", time, close=12.0) for time in times] + [bar("MSFT", NOW)]) == 5
    table.disconnect()
    stored = await database.fetch("SELECT symbol, close FROM aggregates_1min ORDER BY symbol, time")
    assert [tuple(row) for row in stored] == [("AAPL", 12.0)] * 4 + [("MSFT", 10.0)]


async def test_scan_results_once(url: str, database: asyncpg.Connection) -> None:
    columns = ("time", "symbol", "list", "session", "rank", "price", "is_entry")
    table = MergeTable(
        url, "scan_results", columns, "INSERT INTO scan_results SELECT * FROM incoming ON CONFLICT DO NOTHING"
    )
    rows = [(NOW + at * WEEK, "AAPL", "winners", "MARKET_OPEN", 1, 2.0, True) for at in range(3)]
    assert await table.write(rows) == 3
    assert await table.write(rows) == 0
    table.disconnect()
    assert await database.fetchval("SELECT count(*) FROM scan_results") == 3


async def test_five_minutes(database: asyncpg.Connection) -> None:
    start = datetime(2026, 3, 11, 14, 30, tzinfo=UTC)
    rows = [
        ("AAPL", start, 1.0, 5.0, 1.0, 4.0, 100.0, 2.0, 3),
        ("AAPL", start + timedelta(minutes=4), 4.0, 9.0, 0.5, 8.0, 300.0, 6.0, 4),
        ("AAPL", start + timedelta(minutes=5), 8.0, 8.0, 8.0, 8.0, 10.0, None, None),
    ]
    await database.copy_records_to_table("aggregates_1min", records=rows, columns=BAR_COLUMNS)
    if await has_timescale(database):
        await database.execute("CALL refresh_continuous_aggregate('aggregates_5min', NULL, NULL)")
    query = "SELECT time, symbol, open, high, low, close, volume, vwap, trades FROM aggregates_5min ORDER BY time"
    assert [tuple(row) for row in await database.fetch(query)] == [
        (start, "AAPL", 1.0, 9.0, 0.5, 8.0, 400.0, 5.0, 7),
        (start + timedelta(minutes=5), "AAPL", 8.0, 8.0, 8.0, 8.0, 10.0, None, None),
    ]


KEEP = '{"aggregates_1min": 90}'


async def test_housekeeping_drops_what_is_old(database: asyncpg.Connection) -> None:
    """Partitions, rows without one, chunks; and nothing that no setting names."""
    old, kept = NOW - timedelta(days=100), NOW - timedelta(days=80)
    if not await has_timescale(database):
        assert await database.fetchval("SELECT make_partitions('aggregates_1min', $1, $2)", old, old + WEEK) == 2
    times = [NOW - timedelta(days=400), old, kept, NOW]
    records = [bar("AAPL", time) for time in times]
    await database.copy_records_to_table("aggregates_1min", records=records, columns=BAR_COLUMNS)
    scans = ("time", "symbol", "list", "session", "rank", "is_entry")
    scan = (NOW - timedelta(days=3000), "AAPL", "winners", "MARKET_OPEN", 1, True)
    await database.copy_records_to_table("scan_results", records=[scan], columns=scans)
    for nothing in ("{}", '{"aggregates_1min": 0}'):
        await database.fetch("SELECT * FROM housekeeping($1, $2)", NOW + 500 * WEEK, nothing)
        assert await database.fetchval("SELECT count(*) FROM aggregates_1min") == 4
    done = {(row[0], row[1]): row[2] for row in await database.fetch("SELECT * FROM housekeeping($1, $2)", NOW, KEEP)}
    left = [row["time"] for row in await database.fetch("SELECT time FROM aggregates_1min ORDER BY time")]
    assert left == [kept, NOW]
    assert await database.fetchval("SELECT count(*) FROM scan_results") == 1
    assert done["aggregates_1min", "chunks dropped" if await has_timescale(database) else "partitions dropped"] >= 1
    if not await has_timescale(database):
        assert await database.fetchval("SELECT count(*) FROM aggregates_1min_default") == 0
    assert [tuple(row) for row in await database.fetch("SELECT * FROM housekeeping($1, $2)", NOW, KEEP)] == []


async def test_a_load_into_compressed_days_writes_plain(url: str, database: asyncpg.Connection) -> None:
    """On either kind of server: nothing is lost, and only the chunks of the day are decompressed."""
    days = [date(2022, 3, 7) + timedelta(offset) for offset in range(200)]
    records = [(day, "AAPL", 1.0, 2.0, 0.5, 1.5, 100.0) for day in days]
    columns = ("date", "symbol", "open", "high", "low", "close", "volume")
    await database.copy_records_to_table("daily_ohlc", records=records, columns=columns)
    timescale = await has_timescale(database)
    if timescale:
        await database.execute("SELECT compress_chunk(c) FROM show_chunks('daily_ohlc') c")
    compressed = (
        "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'daily_ohlc' AND is_compressed"
    )
    before = await database.fetchval(compressed) if timescale else 0
    pool = await open_pool(url)
    store = HistoryStore(pool)
    for day in (days[100], days[100] + timedelta(1)):
        row = (day, "MSFT", 1.0, 2.0, 0.5, 1.5, 100.0, None, 5)
        again = (day, "AAPL", 1.0, 2.0, 0.5, 1.75, 100.0, None, 5)
        await store.write_ohlc([row, again], Unit(Kind.OHLC, str(day), "files", "1", 2, 0))
    await pool.close()
    if timescale:
        assert before - await database.fetchval(compressed) in (1, 2)
    assert await database.fetchval("SELECT count(*) FROM daily_ohlc") == 202
    assert (
        await database.fetchval("SELECT close FROM daily_ohlc WHERE symbol = 'AAPL' AND date = $1", days[100]) == 1.75
    )


async def test_housekeeping_locks_a_table_before_its_rows(url: str, database: asyncpg.Connection) -> None:
    """A writer that has the table, and then wants a row that is about to go, ends; so does housekeeping."""
    if await has_timescale(database):
        return
    old, new = NOW - timedelta(days=400), NOW + timedelta(days=400)
    await database.copy_records_to_table(
        "aggregates_1min", records=[bar("AAPL", time) for time in (old, new)], columns=BAR_COLUMNS
    )
    writer = await asyncpg.connect(url)
    keeper = await asyncpg.connect(url)
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
    upsert = (
        "INSERT INTO aggregates_1min VALUES ($1, 'AAPL', 1, 1, 1, 1, 1)"
        " ON CONFLICT (symbol, time) DO UPDATE SET close = excluded.close"
    )
    async with writer.transaction():
        await writer.execute(upsert, NOW)
        keeping = asyncio.create_task(keeper.fetch("SELECT * FROM housekeeping($1, $2)", NOW, KEEP))
        async with asyncio.timeout(60):
            while not await database.fetchval(waits, keeper.get_server_pid()):
                await asyncio.sleep(0.01)
        await writer.execute(upsert, old)
    await keeping
    times = [row["time"] for row in await database.fetch("SELECT time FROM aggregates_1min ORDER BY time")]
    assert times == [NOW, new]
    await writer.close()
    await keeper.close()


async def test_chunks_are_compressed_by_the_markets_clock(database: asyncpg.Connection) -> None:
    """Daily bars later than the nightly work looks for days that a year lacks; without TimescaleDB none are."""
    times = [NOW - timedelta(days=days) for days in (30, 1)]
    records = [bar("AAPL", time) for time in times]
    await database.copy_records_to_table("aggregates_1min", records=records, columns=BAR_COLUMNS)
    for days in (1200, 300, 1):
        await database.execute(
            "INSERT INTO daily_ohlc VALUES ($1, 'AAPL', 1, 1, 1, 1, 5)", NOW.date() - timedelta(days=days)
        )

    async def due(moment: datetime) -> int:
        return len(await database.fetch("SELECT chunks_to_compress($1)", moment))

    if not await has_timescale(database):
        assert await due(NOW + 100 * WEEK) == 0
        return
    assert await due(NOW) == 2
    assert await due(NOW - 300 * WEEK) == 0
    await database.execute("SELECT compress_chunk(c::regclass) FROM chunks_to_compress($1) AS c", NOW)
    assert await due(NOW) == 0


async def test_partitions_take_over_the_rows_that_came_before_them(database: asyncpg.Connection) -> None:
    if await has_timescale(database):
        return
    day = date(2019, 5, 6)
    await database.execute("INSERT INTO daily_ohlc VALUES ($1, 'AAPL', 1, 1, 1, 1, 5)", day)
    moment = datetime(2019, 5, 6, tzinfo=UTC)
    # In whichever zone a session is.
    await database.execute("SET timezone = 'Asia/Tokyo'")
    assert await database.fetchval("SELECT make_partitions('daily_ohlc', $1, $2)", moment, moment + WEEK) == 1
    assert await database.fetchval("SELECT make_partitions('daily_ohlc', $1, $2)", moment, moment + WEEK) == 0
    assert await database.fetchval("SELECT tableoid::regclass::text FROM daily_ohlc") != "daily_ohlc_default"
    with pytest.raises(asyncpg.UniqueViolationError):
        await database.execute("INSERT INTO daily_ohlc VALUES ($1, 'AAPL', 1, 1, 1, 1, 5)", day)
