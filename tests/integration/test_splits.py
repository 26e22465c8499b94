"""Splits: whatever comes from the stores as it was and from the vendor as it is, a row's history is in today's shares.

Each seed is some weeks of symbols that split before the day, on it, and after it.
What has to come out is computed by plain sums (tests/support/split_market.py).
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, cast

import asyncpg
import pytest
from redis.asyncio import Redis

from services.data_ingest.reference.load import HistoryDays
from services.data_ingest.reference.loader import ReferenceLoader
from services.data_maintenance.context import Job, Task, TaskError
from services.data_maintenance.daily_values import Averages, CalculateATR
from services.data_maintenance.redis_sync import SyncRedis
from services.data_maintenance.run_store import Run, RunStore
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient
from services.market.calendar import Calendar, TradingDay, nyse_calendar
from services.market.levels import LEVELS
from tests.support.scripted_day import DAY
from tests.support.split_market import SplitMarket
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

SEEDS = range(3)
NUMBERS = ("PREV_CLOSE", "PREV_VOLUME", "AVG_VOLUME_10D", "AVG_VOLUME_30D", "AVG_PRICE_30D", "ATR",
           *(name.upper() for name in LEVELS))  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


class Place:
    """Stores and a vendor that tells a SplitMarket."""

    def __init__(
        self, stores: Stores, market: SplitMarket, pool: asyncpg.Pool, redis: Redis, vendor: VendorClient
    ) -> None:
        self.stores, self.market, self.pool, self.redis, self.vendor = stores, market, pool, redis, vendor
        days = nyse_calendar(DAY).between(date(2025, 3, 10), date(2026, 3, 31))
        self.calendar = Calendar(TradingDay(*day) for day in days)

    async def store_bars(self, days: list[date], names: set[str]) -> None:
        rows = [
            (day, symbol.name, *symbol.raw[day])
            for symbol in self.market.symbols
            for day in days
            if symbol.name in names and day in symbol.raw
        ]
        await self.pool.executemany("INSERT INTO daily_ohlc VALUES ($1, $2, $3, $4, $5, $6, $7)", rows)

    async def store_slots(self, data_date: date) -> None:
        """As the loader made them for that day, in its shares."""
        rows = [
            (symbol.name, slot, value, None, None, 30, data_date)
            for symbol in self.market.symbols
            for slot, value in enumerate(symbol.baseline(self.market.history, data_date))
        ]
        await self.pool.executemany("INSERT INTO volume_slots VALUES ($1, $2, $3, $4, $5, $6, $7)", rows)

    async def run(self, name: str, task: Task, day: date) -> Run:
        store = RunStore(self.pool, "test")
        claimed = await store.claim(name, day, None)
        assert claimed is not None
        job = Job(claimed, self.calendar)
        try:
            await task(job)
        except TaskError as error:
            return await store.end(claimed, job.progress, "FAILED", str(error))
        return await store.end(claimed, job.progress, "SUCCEEDED")

    async def load(self, kinds: Any = None) -> tuple[dict[str, dict[str, float]], dict[str, list[float]]]:
        """What reaches the sequencer for `DAY`: numbers and baselines by symbol, the later ones winning."""
        loader = ReferenceLoader(Settings.load({}), self.pool, self.redis, self.vendor, retry_pause_s=0.01)
        numbers: dict[str, dict[str, float]] = {}
        slots: dict[str, list[float]] = {}
        days = HistoryDays(tuple(self.market.history), frozenset())
        async for batch in loader.load(DAY, None, days, kinds):
            for name, values in batch.numbers.items():
                for symbol, value in zip(batch.symbols, values.tolist(), strict=True):
                    if value == value:
                        numbers.setdefault(symbol, {})[name.upper()] = value
            if batch.baselines is not None:
                for symbol, curve in zip(batch.symbols, batch.baselines.avg_volume.tolist(), strict=True):
                    slots[symbol] = curve
        assert not +loader.failed and not +loader.set_aside
        return numbers, slots

    def assert_numbers(self, found: dict[str, dict[str, float]]) -> None:
        for symbol in self.market.symbols:
            expected = symbol.reference(self.market.history)
            mine = {name: value for name, value in found[symbol.name].items() if name in NUMBERS}
            assert mine == pytest.approx(expected, rel=1e-9), (symbol.name, symbol.splits)

    def assert_slots(self, found: dict[str, list[float]]) -> None:
        for symbol in self.market.symbols:
            assert found[symbol.name] == pytest.approx(symbol.baseline(self.market.history), rel=1e-9), symbol.splits


@asynccontextmanager
async def place(stores: Stores, seed: int) -> AsyncIterator[Place]:
    market = SplitMarket(seed)
    pool, redis = await open_pool(stores.database_url), await open_redis(stores.redis_url)
    try:
        tables = "ticker_metadata, daily_ohlc, ticker_atr, volume_slots, maintenance_runs"
        await pool.execute(f"TRUNCATE {tables}")
        await redis.flushall()
        async with (
            VendorServer(market.rest) as server,
            VendorClient(server.rest_url, "KEY", attempts=2, retry_base_s=0.001, retry_max_s=0.01) as vendor,
        ):
            yield Place(stores, market, pool, redis, vendor)
    finally:
        await redis.aclose()
        await pool.close()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stored", ["nothing", "all", "newest days", "oldest days", "half of the symbols"])
async def test_the_stores_raw_bars_and_the_vendors_adjusted_ones(stores: Stores, seed: int, stored: str) -> None:
    async with place(stores, seed) as here:
        history, names = here.market.history, set(here.market.by_name)
        days = {"nothing": [], "newest days": history[-9:], "oldest days": history[:-9]}.get(stored, history)
        await here.store_bars(days, {"SA", "SC", "SE"} if stored == "half of the symbols" else names)
        numbers, slots = await here.load()
        here.assert_numbers(numbers)
        here.assert_slots(slots)


@pytest.mark.parametrize("stored", ["nothing", "all"])
async def test_two_splits_of_one_date_both_apply(stores: Stores, stored: str) -> None:
    """1000 for 1 and 1 for 1000 on one date are nothing, from the stores as from the vendor."""
    async with place(stores, 0) as here:
        history, twice = here.market.history, here.market.by_name["SA"]
        here.market.symbols = [twice]
        twice.splits = [(history[-20], 1000, 1), (history[-20], 1, 1000)]
        twice.raw = dict.fromkeys(history, (1.0, 1.0, 1.0, 1.0, 960_000.0))
        await here.store_bars(history if stored == "all" else [], {"SA"})
        numbers, _ = await here.load()
        here.assert_numbers(numbers)
        assert (numbers["SA"]["AVG_PRICE_30D"], numbers["SA"]["AVG_VOLUME_30D"]) == (1.0, 960_000.0)


@pytest.mark.parametrize("seed", SEEDS)
async def test_atr_and_baselines_stored_before_the_split(stores: Stores, seed: int) -> None:
    """ATR of the evening before is in that day's shares; baselines made for the day itself are in its own."""
    async with place(stores, seed) as here:
        history = here.market.history
        await here.store_bars(history, set(here.market.by_name))
        run = await here.run("calculate_atr", CalculateATR(stores.database_url, here.pool, here.vendor), history[-1])
        assert (run.state, run.counts["atr"]) == ("SUCCEEDED", len(here.market.symbols)), run
        rows = {row["symbol"]: row for row in await here.pool.fetch("SELECT * FROM ticker_atr")}
        for symbol in here.market.symbols:
            row = rows[symbol.name]
            assert (row["date"], row["period"]) == (history[-1], 14)
            assert row["atr"] == pytest.approx(cast(float, symbol.atr(history[-1])), rel=1e-9)
            assert row["atr_percent"] == pytest.approx(100 * row["atr"] / symbol.raw[history[-1]][3])
        # Nothing changes when it is run again.
        again = await here.run("calculate_atr", CalculateATR(stores.database_url, here.pool, here.vendor), history[-1])
        assert again.counts["changed"] == 0
        await here.store_slots(DAY)
        numbers, slots = await here.load()
        here.assert_numbers(numbers)
        here.assert_slots(slots)
        numbers, slots = await here.load(["daily", "atr", "baselines"])
        here.assert_numbers(numbers)
        here.assert_slots(slots)


@pytest.mark.parametrize("seed", SEEDS)
async def test_baselines_made_on_a_day_without_trading(stores: Stores, seed: int) -> None:
    """They count for the day that follows, whose splits are not in them yet."""
    async with place(stores, seed) as here:
        eve = here.market.history[-1]
        here.market.close_on(eve)
        await here.store_slots(eve)
        _, slots = await here.load()
        here.assert_slots(slots)
        assert not await here.redis.keys("volume_slot:*")


@pytest.mark.parametrize("seed", SEEDS)
async def test_atr_of_who_has_not_traded_for_days(stores: Stores, seed: int) -> None:
    """Its day is that of the last bar, and splits since are for whoever reads it."""
    async with place(stores, seed) as here:
        history = here.market.history
        quiet = here.market.by_name["SA"]
        for day in history[-4:]:
            quiet.raw.pop(day, None)
        quiet.splits.append((history[-2], 1, 5))
        quiet_since = max(quiet.raw)
        await here.store_bars(history, set(here.market.by_name))
        await here.run("calculate_atr", CalculateATR(stores.database_url, here.pool, here.vendor), history[-1])
        row = await here.pool.fetchrow("SELECT date, atr FROM ticker_atr WHERE symbol = 'SA'")
        assert row["date"] == quiet_since
        assert row["atr"] == pytest.approx(cast(float, quiet.atr(quiet_since)), rel=1e-9)
        numbers, _ = await here.load()
        here.assert_numbers(numbers)


async def test_a_day_without_bars_and_a_vendor_without_splits_are_told(stores: Stores) -> None:
    async with place(stores, 1) as here:
        history = here.market.history
        task = CalculateATR(stores.database_url, here.pool, here.vendor)
        run = await here.run("calculate_atr", task, history[-1])
        assert (run.state, run.error) == ("FAILED", f"daily_ohlc holds no bars of {history[-1]}")
        await here.store_bars([day for day in history if day != history[-16]], set(here.market.by_name))
        run = await here.run("calculate_atr", task, history[-1])
        # 15 bars after the hole are 14 true ranges; a symbol that did not trade on one of them has fewer.
        assert (run.state, run.counts["missing_days"]) == ("SUCCEEDED", 1)
        assert run.counts.get("atr", 0) + run.counts["too_few_days"] == len(here.market.symbols)
        run = await here.run("calculate_atr", task, date(2026, 3, 8))
        assert run.state == "FAILED" and "expected a trading day" in (run.error or "")
        here.market.rest = lambda path, query: None  # type: ignore[method-assign]
        async with (
            VendorServer(lambda path, query: None) as down,
            VendorClient(down.rest_url, "K", attempts=1) as vendor,
        ):
            run = await here.run("calculate_atr", CalculateATR(stores.database_url, here.pool, vendor), history[-1])
        assert run.state == "FAILED" and (run.error or "").startswith("the vendor's splits could not be fetched")


@pytest.mark.parametrize("seed", SEEDS)
async def test_averages_of_metadata_on_the_effective_day(stores: Stores, seed: int) -> None:
    async with place(stores, seed) as here:
        await here.store_bars(here.market.history, set(here.market.by_name))
        await here.pool.executemany(
            "INSERT INTO ticker_metadata (symbol) VALUES ($1)", [(name,) for name in [*here.market.by_name, "OTHER"]]
        )
        run = await here.run("enrich_metadata", Averages(here.pool, here.vendor), DAY)
        assert (run.state, run.counts["averages"]) == ("SUCCEEDED", len(here.market.symbols))
        rows = {row["symbol"]: row for row in await here.pool.fetch("SELECT * FROM ticker_metadata")}
        for symbol in here.market.symbols:
            expected = symbol.reference(here.market.history)
            for name in ("avg_volume_10d", "avg_volume_30d", "avg_price_30d"):
                assert rows[symbol.name][name] == pytest.approx(expected[name.upper()], rel=1e-9)
        assert rows["OTHER"]["avg_volume_30d"] is None
        again = await here.run("enrich_metadata", Averages(here.pool, here.vendor), DAY)
        assert again.counts["averages"] == 0


@pytest.mark.parametrize("seed", SEEDS)
async def test_redis_has_todays_shares(stores: Stores, seed: int) -> None:
    async with place(stores, seed) as here:
        history = here.market.history
        await here.store_bars(history, set(here.market.by_name))
        await here.run("calculate_atr", CalculateATR(stores.database_url, here.pool, here.vendor), history[-1])
        await here.store_slots(history[-1])
        sync = SyncRedis(here.pool, here.redis, here.vendor)
        counts = []
        for day in (history[-1], DAY, DAY):
            run = await here.run("sync_redis", sync, day)
            counts.append((run.counts.get("atr", 0), run.counts.get("volume_slots", 0)))
            for symbol in here.market.symbols:
                atr = json.loads(str(await here.redis.get(f"ticker:atr:{symbol.name}")))
                until = symbol.factor(history[-1], day)
                # Six decimals are shown.
                assert atr["atr"] == pytest.approx(cast(float, symbol.atr(history[-1])) / until, rel=1e-9, abs=5.1e-7)
                assert atr["atr"] == round(atr["atr"], 6)
                texts = await here.redis.mget([f"volume_slot:{symbol.name}:{slot}" for slot in range(192)])
                expected = [value * until for value in symbol.baseline(history, history[-1])]
                assert [float(str(text)) for text in texts] == pytest.approx(expected, rel=1e-9, abs=5.1e-7)
        split_today = sum(any(executed == DAY for executed, _, _ in symbol.splits) for symbol in here.market.symbols)
        assert counts == [(6, 6 * 192), (split_today, split_today * 192), (0, 0)]
