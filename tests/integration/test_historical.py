"""Loads into a real PostgreSQL: from files, from the simulator's REST, from an S3-compatible store; over gRPC."""

import asyncio
import contextlib
import datetime
import random
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest
from aiohttp import web
from tradeul.v1 import historical_pb2, historical_pb2_grpc

from services.historical import flat_bars, load_slots
from services.historical.core import REST, Kind, Request
from services.historical.runner import Runner
from services.historical.service import Historical, open_runner
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.errors import ServiceError
from services.kit.runtime.setting_groups import SimSettings
from services.kit.runtime.settings import Settings
from services.kit.vendor.client import VendorClient
from services.simulator import flat_files
from services.simulator.market import Market
from tests.support.flat_history import (
    NEW_YORK,
    Minute,
    cells,
    path_of,
    random_day,
    text,
    twin_baselines,
    twin_day,
    write,
)
from tests.support.running_simulator import running_simulator
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

date = datetime.date
DAYS = [date(2025, 10, 30), date(2025, 10, 31), date(2025, 11, 3), date(2025, 11, 4)]
NEXT = date(2025, 11, 5)
SYMBOLS = ["A", "AAPL", "BACpL", "BRK.A"]
TABLES = (
    "slot_days, volume_slots, daily_ohlc, ticker_universe, ticker_metadata, load_units, load_jobs, load_problems,"
    " market_holidays"
)
SIM = {"symbols": 40, "start": "2025-12-01T20:30"}
SIM_FIRST, SIM_LAST = date(2025, 11, 24), date(2025, 11, 28)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute(f"TRUNCATE {TABLES}")
    yield connection
    await connection.close()


@contextlib.asynccontextmanager
async def runner(stores: Stores, **environment: str) -> AsyncIterator[Runner]:
    """Without a vendor, unless `environment` names one."""
    settings = Settings.load({"POLYGON_API_KEY": "k", "POLYGON_REST_URL": "http://127.0.0.1:9", **environment})
    async with open_runner(settings, stores.database_url, attempts=1) as running:
        yield running


def month(folder: Path, seed: int = 1) -> dict[date, list[Minute]]:
    """Some days' files."""
    rng = random.Random(seed)
    days = {day: random_day(rng, day, SYMBOLS, 20) for day in DAYS}
    for day, bars in days.items():
        write(folder, day, text(map(cells, bars)))
    return days


def slots_of(folder: Path, first: date = DAYS[0], last: date = DAYS[-1], again: bool = False) -> Request:
    return Request(Kind.SLOTS, str(folder), first, last, is_raw=True, again=again)


async def stored_baselines(database: asyncpg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    query = "SELECT * FROM volume_slots ORDER BY symbol, slot_number"
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in await database.fetch(query):
        found.setdefault(row["symbol"], []).append(tuple(row)[1:])
    return found


async def check_baselines(database: asyncpg.Connection, days: dict[date, list[Minute]], day: date = NEXT) -> None:
    expected = twin_baselines({each: twin_day(bars, each) for each, bars in days.items()}, lambda *_: 1.0)
    stored = await stored_baselines(database)
    assert stored.keys() == expected.keys()
    for symbol, (count, volume, trades, sd) in expected.items():
        for slot, row in enumerate(stored[symbol]):
            assert row[0] == slot and row[4:] == (count, day)
            assert row[1:4] == pytest.approx((volume[slot], trades[slot], sd[slot]), rel=1e-9, abs=1e-9)


async def job(database: asyncpg.Connection, job_id: int) -> asyncpg.Record:
    return await database.fetchrow("SELECT * FROM load_jobs WHERE job_id = $1", job_id)


async def test_files_make_baselines_and_are_read_once(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    days = month(tmp_path)
    async with runner(stores) as running:
        first = await job(database, await running.run(slots_of(tmp_path)))
        assert (first["state"], first["done"], first["skipped"]) == ("SUCCEEDED", 4, 0)
        assert first["rows"] == sum(map(len, days.values()))
        await check_baselines(database, days)
        second = await job(database, await running.run(slots_of(tmp_path)))
        assert (second["done"], second["skipped"]) == (0, 4)
        # A file that came again is another file.
        days[DAYS[1]] = days[DAYS[1]][: len(days[DAYS[1]]) // 2]
        write(tmp_path, DAYS[1], text(map(cells, days[DAYS[1]])))
        third = await job(database, await running.run(slots_of(tmp_path)))
        assert (third["done"], third["skipped"]) == (1, 3)
        await check_baselines(database, days)
        # A day later only the new day is read.
        days[NEXT] = random_day(random.Random(5), NEXT, SYMBOLS, 20)
        write(tmp_path, NEXT, text(map(cells, days[NEXT])))
        fourth = await job(database, await running.run(slots_of(tmp_path, last=NEXT)))
        assert (fourth["done"], fourth["skipped"], fourth["rows"]) == (1, 4, len(days[NEXT]))
        await check_baselines(database, days, date(2025, 11, 6))


async def test_broken_files_do_not_stop_a_load(stores: Stores, database: asyncpg.Connection, tmp_path: Path) -> None:
    days = month(tmp_path)
    path = path_of(tmp_path, DAYS[0])
    path.write_bytes(path.read_bytes()[:-20])
    lines = text(map(cells, days[DAYS[2]])).decode().splitlines()
    lines[3] = "A,oops"
    write(tmp_path, DAYS[2], "\n".join(lines).encode())
    path_of(tmp_path, DAYS[3]).unlink()
    async with runner(stores) as running:
        job_id = await running.run(slots_of(tmp_path))
    record = await job(database, job_id)
    assert (record["state"], record["done"], record["failed"], record["set_aside"]) == ("FAILED", 2, 2, 1)
    problems = await database.fetch("SELECT * FROM load_problems WHERE job_id = $1", job_id)
    told = {(Path(row["place"].split()[0]).name, row["line"]) for row in problems}
    assert (f"{DAYS[2]}.csv.gz", 4) in told and ("minute_aggs_v1", 0) in told
    broken = next(row for row in problems if str(DAYS[0]) in row["place"])
    assert "gzip" in broken["reason"] and broken["line"] > 0
    assert await database.fetchval("SELECT count(*) FROM slot_days WHERE date = $1", DAYS[0]) == 0
    assert await database.fetchval("SELECT count(*) FROM slot_days WHERE date = $1", DAYS[2]) > 0
    # Two days are no baseline.
    assert await stored_baselines(database) == {}


def daily(day: date, rows: list[str], of: date | None = None) -> bytes:
    """A file of daily bars; {} in a row is the day's beginning."""
    midnight = datetime.datetime.combine(of or day, datetime.time(), NEW_YORK)
    head = "ticker,volume,open,close,high,low,window_start,transactions"
    return "\n".join([head, *(row.format(int(midnight.timestamp()) * 10**9) for row in rows), ""]).encode()


async def test_each_broken_file_is_told_in_one_line_and_the_others_are_loaded(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    good = "A,100,10,10.5,11,9,{},5"
    files = {
        DAYS[0]: daily(DAYS[0], [good, 'AAPL,100,"10,10.5,11,9,{},5', *[good] * 20_000]),
        DAYS[1]: daily(DAYS[1], [good, "AAPL,1,1,1,1,1,{},1"], of=DAYS[0]),
        DAYS[2]: daily(DAYS[2], []),
        DAYS[3]: daily(
            DAYS[3],
            [
                good,
                "B,nan,10,10,11,9,{},5",
                "C,1,10,nan,11,9,{},5",
                "D,1,nan,10,11,9,{},5",
                "E,1,10,10,inf,9,{},5",
                good,
            ],
        ),
    }
    for day, content in files.items():
        write(tmp_path, day, content, "day_aggs_v1")
    async with runner(stores) as running:
        job_id = await running.run(Request(Kind.OHLC, str(tmp_path), DAYS[0], DAYS[-1]))
    record = await job(database, job_id)
    assert (record["state"], record["done"], record["failed"], record["set_aside"]) == ("FAILED", 1, 3, 4)
    problems = await database.fetch("SELECT * FROM load_problems WHERE job_id = $1 ORDER BY place, line", job_id)
    told = [(Path(row["place"]).name, row["line"], row["reason"]) for row in problems]
    assert told[:3] == [
        (f"{DAYS[0]}.csv.gz", 3, "expected a closing quote on the line, was none"),
        (f"{DAYS[1]}.csv.gz", 0, f"expected bars of {DAYS[1]}, 2 of 2 are of another day ({DAYS[0]})"),
        (f"{DAYS[2]}.csv.gz", 0, "expected bars of a trading day, were none"),
    ]
    assert [line for _, line, _ in told[3:]] == [3, 4, 5, 6]
    assert [reason.partition(":")[0] for _, _, reason in told[3:]] == ["volume", "prices", "prices", "prices"]
    assert [row["symbol"] for row in await database.fetch("SELECT symbol FROM daily_ohlc")] == ["A"]


async def test_minutes_of_another_day_are_not_this_days(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    days = month(tmp_path)
    write(tmp_path, DAYS[0], text(map(cells, days[DAYS[1]])))
    write(tmp_path, DAYS[1], text([]))
    # A single one is set aside by itself.
    write(tmp_path, DAYS[2], text(map(cells, [*days[DAYS[2]], days[DAYS[1]][0]])))
    async with runner(stores) as running:
        record = await job(database, await running.run(slots_of(tmp_path)))
    assert (record["done"], record["failed"], record["set_aside"]) == (2, 2, 1)
    stored = {row["date"] for row in await database.fetch("SELECT DISTINCT date FROM slot_days")}
    assert stored == {DAYS[2], DAYS[3]}


async def test_a_cancelled_load_goes_on_where_it_was(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = month(tmp_path)
    reached, reads = asyncio.Event(), []
    real, loop = flat_bars.read_minutes, asyncio.get_running_loop()

    def read(*arguments: Any) -> Any:
        reads.append(arguments)
        if len(reads) == 3:
            loop.call_soon_threadsafe(reached.set)
        return real(*arguments)

    monkeypatch.setattr(load_slots, "read_minutes", read)
    async with runner(stores) as running:
        numbers: list[int] = []
        task = asyncio.create_task(running.run(slots_of(tmp_path), lambda job_id, _: numbers.append(job_id)))
        await reached.wait()
        with pytest.raises(ServiceError, match="running"):
            await running.run(slots_of(tmp_path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stopped = await job(database, numbers[0])
        assert (stopped["state"], stopped["done"]) == ("CANCELLED", 2)
        assert await database.fetchval("SELECT count(DISTINCT date) FROM slot_days") == 2
        assert await stored_baselines(database) == {}
        rest = await job(database, await running.run(slots_of(tmp_path)))
        assert (rest["done"], rest["skipped"]) == (2, 2)
        await check_baselines(database, days)


async def test_without_the_splits_there_are_no_baselines(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    month(tmp_path)
    async with runner(stores) as running:
        record = await job(database, await running.run(slots_of(tmp_path)._replace(is_raw=False)))
    assert record["state"] == "FAILED" and "splits" in record["error"] and record["done"] == 4
    assert await stored_baselines(database) == {}
    split = {"ticker": "AAPL", "execution_date": "2025-11-03", "split_from": 1, "split_to": 4}

    def rest(path: str, _: dict[str, str]) -> Any:
        return {"status": "OK", "results": [split]} if path == "/v3/reference/splits" else None

    async with VendorServer(rest) as vendor, runner(stores, POLYGON_REST_URL=vendor.rest_url) as running:
        record = await job(database, await running.run(slots_of(tmp_path)._replace(is_raw=False)))
        assert (record["state"], record["skipped"]) == ("SUCCEEDED", 4)
    days = {day: twin_day(bars, day) for day, bars in month(tmp_path).items()}
    expected = twin_baselines(days, lambda symbol, day: 4.0 if symbol == "AAPL" and day < DAYS[2] else 1.0)
    stored = await stored_baselines(database)
    assert [row[1] for row in stored["AAPL"]] == pytest.approx(expected["AAPL"][1])


async def test_rest_and_files_of_the_same_market_are_the_same(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    market = await asyncio.to_thread(Market, SimSettings(symbols=40, start=datetime.datetime(2025, 12, 1, 20, 30)))
    dates = [SIM_FIRST + datetime.timedelta(at) for at in range((SIM_LAST - SIM_FIRST).days + 1)]
    paths = list(flat_files.write(market, tmp_path, dates))
    assert len(paths) == 8  # Thanksgiving is none
    loaded = {}
    async with running_simulator(**SIM) as simulator:
        async with runner(stores, POLYGON_REST_URL=simulator.rest_url) as running:
            for source in (str(tmp_path), REST):
                await database.execute(f"TRUNCATE {TABLES}")
                for kind in (Kind.UNIVERSE, Kind.OHLC, Kind.SLOTS):
                    record = await job(database, await running.run(Request(kind, source, SIM_FIRST, SIM_LAST)))
                    assert record["state"] == "SUCCEEDED", (kind, source, record["error"])
                ohlc = await database.fetch(
                    "SELECT date, symbol, open, high, low, close, volume, trades FROM daily_ohlc"
                )
                loaded[source] = (
                    await stored_baselines(database),
                    sorted(tuple(row) for row in ohlc),
                    sorted(row["symbol"] for row in await database.fetch("SELECT symbol FROM ticker_universe")),
                )
            record = await job(database, await running.run(Request(Kind.METADATA)))
            assert (record["state"], record["done"]) == ("SUCCEEDED", 40)
            assert await database.fetchval("SELECT count(*) FROM ticker_metadata WHERE company_name <> ''") == 40
            record = await job(database, await running.run(Request(Kind.METADATA)))
            assert (record["done"], record["skipped"]) == (0, 40)
            # The day after, only what is new is asked for; by default up to the newest day that is over.
            record = await job(database, await running.run(Request(Kind.SLOTS, REST, SIM_FIRST)))
            assert record["last_date"] == date(2025, 12, 1) and record["done"] == 40
            assert await database.fetchval("SELECT count(DISTINCT date) FROM slot_days") == 5
    files, rest = loaded.values()
    assert files[0].keys() == rest[0].keys() and files[0]
    for symbol, rows in files[0].items():
        for ours, theirs in zip(rows, rest[0][symbol], strict=True):
            assert ours == pytest.approx(theirs) if ours[4:] else False
    assert files[1] == rest[1] and len(files[1]) > 100
    assert set(files[2]) <= set(rest[2])


async def test_the_universe_remembers_who_left(stores: Stores, database: asyncpg.Connection) -> None:
    listed, today = ["A", "AAPL", "BRK.A"], ["2025-11-03T22:00:00-05:00"]

    def rest(path: str, query: dict[str, str]) -> Any:
        if path == "/v1/marketstatus/now":
            return {"market": "closed", "serverTime": today[0]}
        if path == "/v1/marketstatus/upcoming":
            return [{"date": "2025-11-27", "exchange": "NYSE", "name": "Thanksgiving", "status": "closed"}]
        gone = [{"ticker": "A", "active": False, "delisted_utc": "2025-11-04T00:00:00Z"}]
        return {"results": [{"ticker": each} for each in listed] if query["active"] == "true" else gone}

    async def universe() -> dict[str, tuple[Any, ...]]:
        record = await job(database, await running.run(Request(Kind.UNIVERSE)))
        assert record["state"] == "SUCCEEDED", record["error"]
        query = "SELECT symbol, is_active, first_seen, last_seen, reason_removed FROM ticker_universe"
        return {row["symbol"]: tuple(row)[1:] for row in await database.fetch(query)}

    first, second = date(2025, 11, 3), date(2025, 11, 4)
    async with VendorServer(rest) as vendor, runner(stores, POLYGON_REST_URL=vendor.rest_url) as running:
        assert await universe() == {symbol: (True, first, first, None) for symbol in listed}
        listed[:] = ["AAPL", "BRK.A", "NEW"]
        today[0] = "2025-11-04T22:00:00-05:00"
        assert await universe() == {
            "A": (False, first, first, "delisted 2025-11-04"),
            "AAPL": (True, first, second, None),
            "BRK.A": (True, first, second, None),
            "NEW": (True, second, second, None),
        }
        listed[:] = ["AAPL"]
        record = await job(database, await running.run(Request(Kind.UNIVERSE)))
        assert record["state"] == "FAILED" and "nothing is changed" in record["error"]
        assert await database.fetchval("SELECT count(*) FROM ticker_universe WHERE is_active") == 3
    assert [tuple(row)[::2] for row in await database.fetch("SELECT date, name, close FROM market_holidays")] == [
        (date(2025, 11, 27), None)
    ]


@pytest.mark.parametrize("is_refused", [False, True])
async def test_the_second_source_fills_what_is_absent(
    stores: Stores, database: asyncpg.Connection, is_refused: bool
) -> None:
    """Its sector goes first when it is one of the eleven, its float last; a plan without floats goes on."""

    def rest(path: str, query: dict[str, str]) -> Any:
        if path == "/v1/marketstatus/now":
            return {"market": "open", "serverTime": "2025-11-03T12:00:00-05:00"}
        if path == "/v3/reference/tickers/A":
            details = {"ticker": "A", "name": "Agilent\0\u00a0\u2028Inc.", "sic_code": "3825", "market_cap": 5.0}
            return {"results": {**details, "type": "CS", "list_date": "1999-11-18"}}
        if path == "/v3/reference/tickers/C":
            return {"results": {"ticker": "C", "name": "Citi", "sic_code": "6021", "type": "CS", "list_date": "soon"}}
        if path == "/stocks/vX/float":
            return HTTPStatus.FORBIDDEN if is_refused else {"results": [{"ticker": "A", "free_float": 2.8e8}]}
        if path == "/api/v4/shares_float":
            return [{"symbol": query["symbol"], "floatShares": 7e6}] if query["symbol"] in "AB" else []
        if path == "/api/v3/profile/A":
            assert query == {"apikey": "secret"}
            if is_refused:
                return [{"symbol": "A", "sector": "Conglomerates"}]
            return [{"symbol": "A", "companyName": "Other", "sector": "Healthcare", "beta": 1.2, "mktCap": 9.0}]
        return [{"symbol": "B", "companyName": "Only there", "isEtf": True}] if path == "/api/v3/profile/B" else None

    await database.execute(
        "INSERT INTO ticker_universe SELECT name, TRUE, now(), now() FROM unnest('{A,B,C}'::text[]) AS name"
    )
    async with VendorServer(rest) as vendor:
        urls = {"POLYGON_REST_URL": vendor.rest_url, "FMP_URL": vendor.rest_url, "FMP_API_KEY": "secret"}
        async with runner(stores, **urls) as running:
            record = await job(database, await running.run(Request(Kind.METADATA)))
    assert (record["state"], record["done"]) == ("SUCCEEDED", 3)
    query = "SELECT symbol, company_name, sector, beta, market_cap, is_etf FROM ticker_metadata ORDER BY symbol"
    sector, beta = ("Technology", None) if is_refused else ("Healthcare", 1.2)
    assert [tuple(row) for row in await database.fetch(query)] == [
        ("A", "Agilent Inc.", sector, beta, 5.0, False),
        ("B", "Only there", None, None, None, True),
        ("C", "Citi", "Financial Services", None, None, False),
    ]
    query = (
        "SELECT float_shares, security_type, list_date, details->>'sic_division' FROM ticker_metadata ORDER BY symbol"
    )
    assert [tuple(row) for row in await database.fetch(query)] == [
        (7e6 if is_refused else 2.8e8, "CS", "1999-11-18", "Manufacturing"),
        (7e6, None, None, None),
        (None, "CS", None, "Finance, Insurance, and Real Estate"),
    ]


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.csv.gz"))


@contextlib.asynccontextmanager
async def object_store(folder: Path) -> AsyncIterator[str]:
    """What of S3 is needed to read, over a folder; refuses what is not signed."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "AWS4-HMAC-SHA256 Credential=key/" not in request.headers.get("Authorization", ""):
            return web.Response(status=403)
        if "list-type" in request.query:
            prefix = request.query.get("prefix", "")
            keys = await asyncio.to_thread(names_below, folder)
            contents = "".join(
                f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>2025-11-03T00:00:00.000Z</LastModified>"
                f'<ETag>"x"</ETag></Contents>'
                for key in keys
                if key.startswith(prefix)
            )
            return web.Response(text=f"<ListBucketResult>{contents}</ListBucketResult>", content_type="application/xml")
        path = folder / request.match_info["key"]
        return web.FileResponse(path) if path.is_file() else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/flatfiles/{key:.*}", answer)
    app.router.add_get("/flatfiles", answer)
    serving = web.AppRunner(app)
    await serving.setup()
    site = web.TCPSite(serving, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{serving.addresses[0][1]}"
    finally:
        await serving.cleanup()


async def test_a_bucket_is_as_good_as_a_folder(stores: Stores, database: asyncpg.Connection, tmp_path: Path) -> None:
    days = month(tmp_path)
    async with object_store(tmp_path) as endpoint:
        settings = {
            "TRADEUL_FLAT_FILES_S3_ENDPOINT": endpoint,
            "TRADEUL_FLAT_FILES_S3_KEY": "key",
            "TRADEUL_FLAT_FILES_S3_SECRET": "secret",
        }
        request = Request(Kind.SLOTS, "s3://flatfiles", DAYS[0], None, is_raw=True)
        async with runner(stores, **settings) as running:
            record = await job(database, await running.run(request))
            assert (record["state"], record["done"], record["last_date"]) == ("SUCCEEDED", 4, DAYS[-1])
            await check_baselines(database, days)
            record = await job(database, await running.run(request))
            assert record["skipped"] == 4
        async with runner(stores, **settings | {"TRADEUL_FLAT_FILES_S3_KEY": "wrong"}) as running:
            record = await job(database, await running.run(request._replace(last=DAYS[-1], again=True)))
            assert (record["state"], record["failed"]) == ("FAILED", 4)


async def test_readers_of_baselines_see_the_old_or_the_new(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    month(tmp_path)
    counts: set[int] = set()
    async with runner(stores) as running:
        await running.run(slots_of(tmp_path))
        for _ in range(3):
            loading = asyncio.create_task(running.run(slots_of(tmp_path, again=True)))
            while not loading.done():
                counts.add(await database.fetchval("SELECT count(*) FROM volume_slots"))
            await loading
    assert counts == {len(SYMBOLS) * 192}


# --- over gRPC -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def service(stores: Stores) -> AsyncIterator[tuple[Host, Any]]:
    settings = Settings.load(
        {
            **stores.environment(),
            "TRADEUL_HISTORICAL_ADDRESS": "127.0.0.1:0",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "POLYGON_API_KEY": "k",
            "POLYGON_REST_URL": "http://127.0.0.1:9",
        }
    )
    host = Host(Historical(settings))
    await host.start()
    try:
        async with open_channel(f"127.0.0.1:{host.port}") as channel:
            yield host, historical_pb2_grpc.HistoricalServiceStub(channel)
    finally:
        await host.stop()


def start_request(folder: Path) -> historical_pb2.StartLoadRequest:
    request = historical_pb2.StartLoadRequest(kind="slots", source=str(folder), to=str(DAYS[-1]), no_splits=True)
    setattr(request, "from", str(DAYS[0]))
    return request


async def test_a_load_is_started_watched_and_listed(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    days = month(tmp_path)
    async with service(stores) as (_, stub):
        started = await stub.StartLoad(start_request(tmp_path))
        answers = [each async for each in stub.WatchLoad(historical_pb2.WatchLoadRequest(job_id=started.job_id))]
        kinds = [each.WhichOneof("response") for each in answers]
        assert (kinds[0], kinds[-1]) == ("opened", "ended") and set(kinds[1:-1]) <= {"job", "heartbeat"}
        ended = answers[-1].ended
        assert (ended.state, ended.total, ended.done) == (historical_pb2.LOAD_STATE_SUCCEEDED, 4, 4)
        assert [problem.place for problem in ended.problems] == ["volume_slots"]
        await check_baselines(database, days)
        listed = await stub.ListLoads(historical_pb2.ListLoadsRequest(kind="slots"))
        assert [each.job_id for each in listed.loads] == [started.job_id]
        assert (await stub.GetLoad(historical_pb2.GetLoadRequest(job_id=started.job_id))).rows == ended.rows

        opening = historical_pb2.SubscribeLoadRequest(open=historical_pb2.WatchLoadRequest(job_id=started.job_id))
        again = [each.WhichOneof("response") async for each in stub.SubscribeLoad(iter([opening]))]
        assert again == ["opened", "ended"]


async def test_refusals(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As often as ever, but soon.
    monkeypatch.setattr("services.historical.service.VendorClient", partial(VendorClient, retry_base_s=0.001))
    async with service(stores) as (_, stub):
        for request, code in (
            (historical_pb2.StartLoadRequest(kind="trades"), grpc.StatusCode.INVALID_ARGUMENT),
            (historical_pb2.StartLoadRequest(kind="slots", to="yesterday"), grpc.StatusCode.INVALID_ARGUMENT),
            (
                historical_pb2.StartLoadRequest(kind="slots", source=str(tmp_path / "no")),
                grpc.StatusCode.INVALID_ARGUMENT,
            ),
            (historical_pb2.StartLoadRequest(kind="slots", source=str(tmp_path)), grpc.StatusCode.INVALID_ARGUMENT),
            (historical_pb2.StartLoadRequest(kind="slots"), grpc.StatusCode.UNAVAILABLE),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.StartLoad(request)
            assert refused.value.code() is code, refused.value.details()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetLoad(historical_pb2.GetLoadRequest(job_id=4_000_000))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert await database.fetchval("SELECT count(*) FROM load_jobs") == 0


async def test_a_load_whose_process_is_gone_ends_for_its_watchers(
    stores: Stores, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.historical.loads.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("services.historical.loads.HEARTBEAT_SECONDS", 0.2)
    async with service(stores) as (_, stub):
        # A process that has its lock, and dies.
        other = await asyncpg.connect(stores.database_url)
        await other.execute("SELECT pg_advisory_lock(hashtext('load'), hashtext('ohlc'))")
        job_id = await other.fetchval(
            "INSERT INTO load_jobs (kind, source, first_date, last_date) VALUES ('ohlc', 'rest', $1, $1)"
            " RETURNING job_id",
            DAYS[0],
        )
        watching = aiter(stub.WatchLoad(historical_pb2.WatchLoadRequest(job_id=job_id)))
        kinds = [(await anext(watching)).WhichOneof("response") for _ in range(4)]
        assert kinds == ["opened", "job", "heartbeat", "heartbeat"]
        other.terminate()
        async with asyncio.timeout(60):
            answers = [each async for each in watching]
        assert answers[-1].ended.state == historical_pb2.LOAD_STATE_INTERRUPTED
        assert answers[-1].ended.error == "its process was gone before it had ended"


async def test_a_stopping_service_says_so_and_its_loads_can_go_on(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = month(tmp_path)
    reached = asyncio.Event()

    async def write_never(*_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr("services.historical.history_store.HistoryStore.write_slots", write_never)
        async with service(stores) as (host, stub):
            started = await stub.StartLoad(start_request(tmp_path))
            await reached.wait()
            stopping, kinds = None, []
            async for answer in stub.WatchLoad(historical_pb2.WatchLoadRequest(job_id=started.job_id)):
                kinds.append(answer.WhichOneof("response"))
                stopping = stopping or asyncio.create_task(host.stop())
            assert (kinds[0], kinds[-1]) == ("opened", "going_away") and stopping is not None
            await stopping
    record = await job(database, started.job_id)
    assert (record["state"], record["done"]) == ("CANCELLED", 0)
    async with service(stores) as (_, stub):
        started = await stub.StartLoad(start_request(tmp_path))
        answers = [each async for each in stub.WatchLoad(historical_pb2.WatchLoadRequest(job_id=started.job_id))]
        assert answers[-1].ended.done == 4
    await check_baselines(database, days)
