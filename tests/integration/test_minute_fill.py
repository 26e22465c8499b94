"""A mesh that starts during the day has the bars from before: with its own, they are the whole day's."""

import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from services.kit.runtime.clock import utc_time
from services.kit.runtime.setting_groups import SimSettings
from services.kit.stores.database import open_pool
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import AggregateBar
from services.simulator.market import Market
from services.ticker import minute_fill
from services.ticker.minute_fill import MinuteFill
from services.ticker.requests import INTERVALS
from services.ticker.store import Queries, TickerStore
from tests.support.flat_trades import ns_at
from tests.support.running_simulator import RunningSimulator, running_simulator
from tests.support.running_ticker import connected, empty, insert
from tests.support.stores import Stores, module_stores

START = datetime(2025, 11, 24, 8, 30)
NOW = utc_time(ns_at("09:34:20"))
DAY_BEGINS = datetime(2025, 11, 24, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VALUES = ("open", "high", "low", "close", "volume", "vwap")
SYMBOLS = 40
SEED = 4


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    await empty(stores)
    async with connected(stores) as connection:
        yield connection


@pytest.fixture
async def store(stores: Stores) -> AsyncIterator[TickerStore]:
    pool = await open_pool(stores.database_url)
    yield TickerStore(Queries(pool))
    await pool.close()


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(symbols=SYMBOLS, seed=SEED, start="2025-11-24T09:36", speed=0.01) as running:
        yield running


@pytest.fixture
async def vendor(simulator: RunningSimulator) -> AsyncIterator[VendorClient]:
    async with VendorClient(simulator.rest_url, "key", attempts=1) as client:
        yield client


@pytest.fixture(scope="module")
def streamed() -> dict[str, dict[datetime, tuple[float, ...]]]:
    """The feed's minute bars from 08:30 on, by symbol and time, as sent last: prices, shares, average price."""
    market = Market(SimSettings(seed=SEED, symbols=SYMBOLS, start=START))
    bars: dict[str, dict[datetime, tuple[float, ...]]] = {}
    while market.next_event_ns() < ns_at("09:36:00"):
        for event in market.step():
            if event.kind.name == "AM":
                bar = json.loads(event.text)
                time = utc_time(bar["s"] * 1_000_000)
                # Some events are malformed on purpose.
                if bar["s"] % 60_000 == 0 and time <= NOW - MINUTE:
                    values = (bar["o"], bar["h"], bar["l"], bar["c"], float(bar.get("dv", bar["v"])), bar["vw"])
                    bars.setdefault(bar["sym"], {})[time] = values
    return bars


async def shown(store: TickerStore, symbol: str) -> dict[datetime, tuple[float, ...]]:
    """Rounded as in an answer."""
    records = await store.bars_until_now(symbol, INTERVALS["1m"], DAY_BEGINS, NOW, 10_000)
    return {each["time"]: tuple(round(each[name], 6) for name in VALUES) for each in records}


def row(symbol: str, time: datetime, values: tuple[float, ...], is_made: bool = False) -> dict[str, Any]:
    return {"symbol": symbol, "time": time, **dict(zip(VALUES, values, strict=True)), "is_made": is_made}


async def test_what_is_stored_and_what_is_filled_are_the_bars_of_an_uninterrupted_run(
    database: asyncpg.Connection,
    store: TickerStore,
    vendor: VendorClient,
    streamed: dict[str, dict[datetime, tuple[float, ...]]],
) -> None:
    chance = random.Random(SEED)
    symbols = sorted(streamed, key=lambda name: -len(streamed[name]))[:12]
    for symbol in symbols:
        # The mesh starts within some minute, is away for some, and has made a bar of the trades that it saw.
        times = sorted(streamed[symbol])
        start, gap = chance.choice(times), chance.choice(times)
        kept = [time for time in times if time >= start and not gap <= time < gap + 5 * MINUTE]
        await insert(database, "aggregates_1min", *(row(symbol, time, streamed[symbol][time]) for time in kept))
        if start not in kept:
            part = tuple(value * 0.5 for value in streamed[symbol][start])
            await insert(database, "aggregates_1min", row(symbol, start, part, is_made=True))
        fill = MinuteFill(store, vendor)
        await fill.complete(symbol, NOW)
        found = await shown(store, symbol)
        assert {time: found[time] for time in times} == streamed[symbol]
        # Also what the feed sent before this test listened, from 04:00 on; nothing that is not over.
        assert found.keys() >= streamed[symbol].keys()
        assert max(found) + MINUTE <= NOW
        uninterrupted = await vendor.aggs(symbol, 1, "minute", "2025-11-24", "2025-11-24")
        expected = {utc_time(bar.t * 1_000_000): bar.v for bar in uninterrupted}
        assert {time: values[4] for time, values in found.items()} == {
            time: volume for time, volume in expected.items() if time + MINUTE <= NOW
        }
        # Once more changes nothing.
        await MinuteFill(store, vendor).complete(symbol, NOW)
        assert await shown(store, symbol) == found


async def test_a_corrected_bar_of_the_feed_stays(
    database: asyncpg.Connection, store: TickerStore, vendor: VendorClient, streamed: dict[str, dict[datetime, Any]]
) -> None:
    symbol = max(streamed, key=lambda name: len(streamed[name]))
    time = max(streamed[symbol])
    corrected = (9.0, 9.5, 8.5, 9.25, 100.0, 9.1)
    await insert(database, "aggregates_1min", row(symbol, time, corrected))
    await MinuteFill(store, vendor).complete(symbol, NOW)
    assert (await shown(store, symbol))[time] == corrected


class Source:
    """A vendor that counts, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.requests = 0
        self.failures = failures

    async def aggs(self, ticker: str, n: int, unit: str, start: int, end: int) -> list[AggregateBar]:
        self.requests += 1
        if self.requests <= self.failures:
            raise VendorError("away")
        minute = ns_at("09:30:00") // 1_000_000
        return [AggregateBar(1.0, 1.0, 1.0, 1.0, 100.0, minute + i * 60_000, 1.0, 1) for i in range(6)]


async def test_bars_are_requested_once_and_again_after_a_while_or_another_day(
    database: asyncpg.Connection, store: TickerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(minute_fill, "monotonic", lambda: clock[0])
    source = Source(failures=1)
    fill = MinuteFill(store, source)
    await fill.complete("AAA", NOW)
    assert await shown(store, "AAA") == {}
    await fill.complete("AAA", NOW)
    assert source.requests == 1
    clock[0] += minute_fill.RETRY_SECONDS
    await fill.complete("AAA", NOW)
    # The minute of now is not over.
    assert len(await shown(store, "AAA")) == 4
    clock[0] += minute_fill.RETRY_SECONDS
    await fill.complete("AAA", NOW)
    assert source.requests == 2
    clock[0] += minute_fill.AGAIN_SECONDS
    await fill.complete("AAA", NOW)
    await fill.complete("AAA", NOW + timedelta(days=1))
    assert source.requests == 4
    # Before 04:00 there is nothing to request.
    await MinuteFill(store, source).complete("AAA", DAY_BEGINS - MINUTE)
    assert source.requests == 4
