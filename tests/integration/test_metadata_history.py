"""Companies by date: each change is kept from its day on, and a replay of a past day uses what was known then."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime
from typing import Any

import asyncpg
import pytest
from tradeul.v1 import ticker_pb2

from services.data_ingest.reference.load import HistoryDays
from services.data_ingest.reference.loader import ReferenceLoader
from services.data_ingest.reference.stores import metadata_of_day
from services.historical.core import Kind, Request
from services.historical.history_store import HistoryStore
from services.historical.runner import Runner
from services.historical.universe import UniverseStore
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.kit.vendor.client import VendorClient
from services.kit.vendor.companies import known_from
from services.ticker.store import Queries, TickerStore
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

MONDAY, TUESDAY, WEDNESDAY = date(2025, 11, 3), date(2025, 11, 4), date(2025, 11, 5)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def pool(stores: Stores) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(stores.database_url)
    tables = "ticker_metadata, ticker_metadata_history, ticker_universe, load_units, daily_ohlc, volume_slots"
    await pool.execute(f"TRUNCATE {tables}")
    yield pool
    await pool.close()


async def history(pool: asyncpg.Pool) -> list[tuple[Any, ...]]:
    query = "SELECT symbol, valid_from, market_cap, sector FROM ticker_metadata_history ORDER BY symbol, valid_from"
    return [tuple(row) for row in await pool.fetch(query)]


def company(symbol: str, market_cap: float, **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "sector": "Energy", "market_cap": market_cap, **more}


async def test_a_row_for_each_change_whoever_writes_and_however_often(pool: asyncpg.Pool) -> None:
    store = HistoryStore(pool)
    for _ in range(2):
        await store.write_metadata([company("A", 1.0), company("B", 5.0)], [], MONDAY)
    # The same again is no change; a second word of a day replaces the first.
    await store.write_metadata([company("A", 1.0), company("B", 6.0)], [], TUESDAY)
    await store.write_metadata([company("B", 7.0)], [], TUESDAY)
    # Averages are of bars, not of the company.
    await pool.execute("UPDATE ticker_metadata SET avg_volume_30d = 5")
    await store.write_metadata([company("A", 2.0)], [], WEDNESDAY)
    assert await history(pool) == [
        ("A", MONDAY, 1.0, "Energy"),
        ("A", WEDNESDAY, 2.0, "Energy"),
        ("B", MONDAY, 5.0, "Energy"),
        ("B", TUESDAY, 7.0, "Energy"),
    ]
    found = await metadata_of_day(pool, TUESDAY, None, Counter())
    caps = {symbol: values["market_cap"] for symbol, values in found.values.items()}
    assert (caps, found.known_later) == ({"A": 1.0, "B": 7.0}, 0)
    # Before the first row: the earliest that is known.
    found = await metadata_of_day(pool, date(2025, 10, 1), ["B"], Counter())
    assert ({symbol: values["market_cap"] for symbol, values in found.values.items()}, found.known_later) == (
        {"B": 5.0},
        1,
    )


async def test_a_lookup_and_the_end_of_a_listing_are_kept_too(pool: asyncpg.Pool) -> None:
    ticker = TickerStore(Queries(pool))
    await ticker.save_metadata(ticker_pb2.TickerMetadata(symbol="A", market_cap=3.0, sector="Energy"), MONDAY)
    await ticker.save_metadata(ticker_pb2.TickerMetadata(symbol="A", market_cap=4.0, beta=1.0), TUESDAY)
    universe = UniverseStore(pool)
    await universe.take_list(MONDAY, ["A", "B"], lambda symbol: "gone", MONDAY)
    await universe.take_list(WEDNESDAY, ["B"], lambda symbol: "gone", WEDNESDAY)
    query = "SELECT valid_from, market_cap, beta, is_actively_trading FROM ticker_metadata_history ORDER BY valid_from"
    assert [tuple(row) for row in await pool.fetch(query)] == [
        (MONDAY, 3.0, None, None),
        (TUESDAY, 3.0, 1.0, None),
        (WEDNESDAY, 3.0, 1.0, False),
    ]
    assert (await metadata_of_day(pool, TUESDAY, None, Counter())).values.keys() == {"A"}
    assert not (await metadata_of_day(pool, WEDNESDAY, None, Counter())).values


class Companies:
    """A vendor whose companies change from day to day; `now` is its clock."""

    def __init__(self, now: str) -> None:
        self.now = now
        self.shares = {"A": 1e6, "B": 5e6}
        self.sic_code = "1311"

    def rest(self, path: str, query: dict[str, str]) -> Any:
        if path == "/v1/marketstatus/now":
            return {"market": "open", "serverTime": self.now}
        if path == "/v3/reference/tickers":
            return {"results": [{"ticker": ticker, "name": f"{ticker} now"} for ticker in self.shares]}
        if path == "/stocks/vX/float":
            return {"results": [{"ticker": ticker, "free_float": shares} for ticker, shares in self.shares.items()]}
        if path.startswith("/v3/reference/tickers/"):
            ticker = path.rpartition("/")[2]
            return {"results": {"ticker": ticker, "name": f"{ticker} Corp", "sic_code": self.sic_code, "type": "CS"}}
        return {"results": []} if path.startswith(("/v3/", "/v2/")) else None


async def test_a_replay_of_the_day_before_the_change_shows_the_old(stores: Stores, pool: asyncpg.Pool) -> None:
    vendor = Companies("2025-11-03T02:00:00-05:00")
    listed = "INSERT INTO ticker_universe SELECT name, TRUE, $1, $1 FROM unnest('{A,B}'::text[]) AS name"
    await pool.execute(listed, MONDAY)
    async with VendorServer(vendor.rest) as server, VendorClient(server.rest_url, "KEY", attempts=1) as client:
        settings = Settings.load({**stores.environment(), **server.environment})

        async def load() -> None:
            runner = Runner(settings, pool, client)
            job = await runner.jobs.get(await runner.run(request))
            assert job is not None and job["state"] == "SUCCEEDED", job

        request = Request(Kind.METADATA)
        await load()
        vendor.now, vendor.sic_code = "2025-11-04T02:00:00-05:00", "3674"
        vendor.shares = {"A": 2e6, "B": 5e6, "C": 9e6}
        await load()

        async def replayed(day: date) -> dict[str, tuple[Any, ...]]:
            environment = {**stores.environment(), **server.environment, "TRADEUL_REPLAY_DATE": str(day)}
            loader = ReferenceLoader(
                Settings.load({**environment, "TRADEUL_CLOCK": "feed"}), pool, None, client, retry_pause_s=0.01
            )
            found: dict[str, dict[str, Any]] = {}
            async for batch in loader.load(day, None, HistoryDays((date(2025, 10, 31),), frozenset())):
                columns = {**batch.texts, **{name: values.tolist() for name, values in batch.numbers.items()}}
                for name, values in columns.items():
                    for symbol, value in zip(batch.symbols, values, strict=True):
                        found.setdefault(symbol, {})[name] = value
            assert not +loader.failed
            names = ("company_name", "sector", "float_shares")
            return {symbol: tuple(values[name] for name in names) for symbol, values in sorted(found.items())}

        # Of C nothing was kept: what the vendor knows now is the earliest.
        known_now = ("C now", "Technology", 9e6)
        monday = {"A": ("A Corp", "Energy", 1e6), "B": ("B Corp", "Energy", 5e6), "C": known_now}
        assert await replayed(MONDAY) == monday
        assert await replayed(date(2025, 10, 31)) == monday
        assert await replayed(TUESDAY) == {
            "A": ("A Corp", "Technology", 2e6),
            "B": ("B Corp", "Technology", 5e6),
            "C": known_now,
        }


def test_what_is_learnt_in_the_evening_is_of_the_next_date() -> None:
    for now, day in (
        ("2025-11-03T02:00:00-05:00", MONDAY),
        ("2025-11-03T19:59:59-05:00", MONDAY),
        ("2025-11-03T20:00:00-05:00", TUESDAY),
        ("2025-11-04T03:00:00+00:00", TUESDAY),
    ):
        assert known_from(datetime.fromisoformat(now)) == day
