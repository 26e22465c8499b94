"""What analytics writes to a real Redis and PostgreSQL: right, once, and right again after either was away."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from tradeul.v1 import market_data_pb2

from services.analytics import redis_mirror, redis_values
from services.analytics.bar_queue import BarQueue
from services.analytics.core import AnalyticsCore
from services.analytics.redis_mirror import AGGREGATES_CHANNEL as CHANNEL
from services.cli.local.embedded import postgres_url
from services.kit.rpc.ring import Position
from tests.integration.test_analytics import SYMBOLS, volume_curve
from tests.support.redis_server import RedisServer
from tests.support.running_analytics import running_analytics
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.stores import Stores, module_stores, running_stores
from tests.support.tape import SECOND, Tape, at

WAIT_SECONDS = 60


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening(), volume_curve(tape))
        running.trade({"S01": 105.0, "S02": 92.0})
        yield running


def counter(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


# --- Redis


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as running:
        yield running


def redis_of(server: RedisServer) -> dict[str, str]:
    return {"TRADEUL_REDIS_URL": server.url}


async def until_hash(redis: Any, key: str, **wanted: str) -> dict[str, str]:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found: dict[str, str] = await redis.hgetall(key)
            if wanted.items() <= found.items():
                return found
            await asyncio.sleep(POLL_SECONDS)


async def until_texts(redis: Any, **wanted: str | None) -> None:
    """Waits until the slot keys, `S01_72` for slot:S01:72, have these values; None for no key."""
    keys = ["slot:" + name.replace("_", ":") for name in wanted]
    async with asyncio.timeout(WAIT_SECONDS):
        while await redis.mget(keys) != list(wanted.values()):
            await asyncio.sleep(POLL_SECONDS)


async def check_redis(redis: Any, sequencer: ScriptedSequencer, slot: int) -> None:
    """Every key is what the state says; only symbols that have traded have any."""
    state = sequencer.market.state
    state.refresh()
    for symbol in SYMBOLS:
        row = state.row(symbol)
        rvol, intraday = await redis.hgetall(f"rvol:{symbol}"), await redis.hgetall(f"intraday:{symbol}")
        if "volume_today" not in row:
            assert (rvol, intraday) == ({}, {})
            continue
        assert float(rvol["volume_today"]) == row["volume_today"]
        assert (float(intraday["high"]), float(intraday["low"])) == (row["intraday_high"], row["intraday_low"])
        assert float(await redis.get(f"slot:{symbol}:{slot}")) == row["volume_today"]
        for key in (f"rvol:{symbol}", f"intraday:{symbol}", f"slot:{symbol}:{slot}"):
            assert 0 < await redis.ttl(key) <= 24 * 3600


async def test_keys_of_the_symbols_that_have_changed(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    redis = server.redis
    async with running_analytics(sequencer, redis_of(server)):
        rvol = await until_hash(redis, "rvol:S01", volume_today="100")
        assert (rvol["slot"], rvol["session"], rvol["days"]) == ("72", "MARKET_OPEN", "30")
        assert (rvol["rvol"], rvol["rvol_slot"]) == ("0.138889", "0.136986")
        assert rvol["updated_at"] == "2026-03-10T14:00:00.001Z"
        # The texts are the last to be written.
        await until_texts(redis, S01_72="100", S02_72="100")
        assert await redis.hgetall("intraday:S02") == {
            "high": "92",
            "low": "92",
            "high_time": "2026-03-10T14:00:00.001Z",
            "low_time": "2026-03-10T14:00:00.001Z",
        }
        await check_redis(redis, sequencer, 72)
        # Nobody else's keys are touched.
        await redis.hset("rvol:S02", "volume_today", "mine")
        sequencer.trade({"S01": 110.0}, seconds=1)
        await until_hash(redis, "rvol:S01", volume_today="200")
        await until_hash(redis, "intraday:S01", high="110")
        assert (await redis.hget("rvol:S02", "volume_today")) == "mine"


async def test_what_is_due_is_written_in_parts(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    """The rest of it waits for its turn in the interval, and what has changed meanwhile is written as it is then."""
    sequencer.trade(dict.fromkeys(SYMBOLS, 10.0))
    core = AnalyticsCore(BarQueue())
    core.load(sequencer.market.to_bytes(), Position(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_values, "SYMBOLS_AT_ONCE", 2)
        mirror = redis_mirror.RedisMirror(server.redis, core, write_every=6.0)
        writing = asyncio.create_task(mirror.run())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                seen: list[int] = []
                while len(seen) < len(SYMBOLS) // 2:
                    written = len(await server.redis.keys("rvol:*"))
                    if written and written not in seen:
                        seen.append(written)
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    assert seen == list(range(2, len(SYMBOLS) + 1, 2))


async def test_a_slots_last_volume_stays(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    redis = server.redis
    async with running_analytics(sequencer, redis_of(server)):
        await until_hash(redis, "rvol:S01", volume_today="100")
        # The slot's last trade and the next slot's first come between two writes.
        sequencer.trade({"S01": 106.0})
        sequencer.send(sequencer.tape.watermark(301))
        sequencer.trade({"S01": 107.0, "S03": 1.0})
        await until_hash(redis, "rvol:S01", volume_today="300", slot="73")
        await until_texts(redis, S01_72="200", S01_73="300", S03_72=None, S03_73="100")


async def keys_of_the_day(redis: Any) -> set[str]:
    found = [await redis.keys(pattern) for pattern in ("slot:*", "rvol:*", "intraday:*")]
    return {key.decode() if isinstance(key, bytes) else key for keys in found for key in keys}


async def test_a_new_trading_day_has_no_key_of_the_day_before(
    server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    redis, tape = server.redis, sequencer.tape
    # Whoever wrote them, and however long they would live by the wall clock.
    await redis.mset({"slot:OLD:7": "1", "slot:S19:191": "2", "volume_slot:S19:191": "3", "slots": "4"})
    async with running_analytics(sequencer, redis_of(server)):
        await until_texts(redis, S01_72="100", S02_72="100")
        assert await keys_of_the_day(redis) == {
            f"{kind}:{symbol}{end}"
            for symbol in ("S01", "S02")
            for kind, end in (("rvol", ""), ("intraday", ""), ("slot", ":72"))
        }
        sequencer.send(tape.next_day())
        async with asyncio.timeout(WAIT_SECONDS):
            while await keys_of_the_day(redis):
                await asyncio.sleep(POLL_SECONDS)
        sequencer.trade({"S03": 50.0})
        await until_texts(redis, S03_72="100", S01_72=None, S02_72=None)
        assert await keys_of_the_day(redis) == {"rvol:S03", "intraday:S03", "slot:S03:72"}
        assert await redis.get("volume_slot:S19:191") and await redis.get("slots")
    # The next process finds today's keys, and leaves them.
    await redis.set("slot:S03:71", "1")
    async with running_analytics(sequencer, redis_of(server)):
        sequencer.trade({"S04": 50.0})
        await until_texts(redis, S04_72="100", S03_71="1", S03_72="100")


async def test_redis_killed_and_back_empty(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    async with running_analytics(sequencer, redis_of(server)) as analytics:
        await until_hash(server.redis, "rvol:S01", volume_today="100")
        failures = counter("tradeul_analytics_redis_failures_total")
        await server.kill()
        sequencer.trade({"S05": 3.0}, seconds=1)
        sequencer.send(sequencer.tape.watermark(301))
        sequencer.trade({"S06": 4.0})
        async with asyncio.timeout(WAIT_SECONDS):
            while counter("tradeul_analytics_redis_failures_total") == failures:
                await asyncio.sleep(POLL_SECONDS)
        # Nobody waits for Redis.
        await analytics.until_at(sequencer)
        assert (await analytics.rvol("S05")).volume_today == 100
        await server.start()
        await until_hash(server.redis, "rvol:S06", volume_today="100")
        await until_hash(server.redis, "rvol:S01", volume_today="100", slot="73")
        await until_texts(server.redis, S05_72="100", S06_73="100")
        await check_redis_of_now(server.redis, sequencer)


@pytest.mark.parametrize("lose", [RedisServer.restart, RedisServer.empty])
async def test_a_redis_that_lost_everything_in_between(
    server: RedisServer, sequencer: ScriptedSequencer, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    """None of the symbols trades again."""
    async with running_analytics(sequencer, redis_of(server)):
        await until_texts(server.redis, S01_72="100", S02_72="100")
        before = await server.redis.get("analytics:trading_date")
        await lose(server)
        await until_texts(server.redis, S01_72="100", S02_72="100")
        await check_redis(server.redis, sequencer, 72)
        assert await server.redis.get("analytics:trading_date") == before


async def check_redis_of_now(redis: Any, sequencer: ScriptedSequencer) -> None:
    for symbol in ("S01", "S02", "S05", "S06"):
        row = sequencer.market.state.row(symbol)
        assert float(await redis.hget(f"rvol:{symbol}", "volume_today")) == row["volume_today"]
        assert float(await redis.hget(f"intraday:{symbol}", "high")) == row["intraday_high"]


async def test_bars_are_published_while_somebody_is_subscribed(
    server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    async with running_analytics(sequencer, redis_of(server)) as analytics, server.redis.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        aggregates = analytics.service.copy.aggregates
        assert aggregates is not None
        channels = aggregates.channels
        async with asyncio.timeout(WAIT_SECONDS):
            while not channels.is_wanted(CHANNEL):
                await asyncio.sleep(POLL_SECONDS)
        sequencer.send(bar(sequencer.tape, "S01", "10:00:00", 11.0), bar(sequencer.tape, "S01", "10:00:01", 12.0))
        newest = {"c": 11.0}
        async with asyncio.timeout(WAIT_SECONDS):
            # Of both in one message; the first may just be on its way when the second comes.
            while newest["c"] == 11.0:
                if message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1):
                    (newest,) = json.loads(message["data"])
        assert (newest["ev"], newest["sym"], newest["c"], newest["v"]) == ("A", "S01", 12.0, 500.0)
        assert newest["e"] - newest["s"] == 1000
        await pubsub.unsubscribe(CHANNEL)
        async with asyncio.timeout(WAIT_SECONDS):
            while channels.is_wanted(CHANNEL):
                await asyncio.sleep(POLL_SECONDS)


# --- PostgreSQL


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute("TRUNCATE aggregates_1min, stream_marks")
    yield connection
    await connection.close()


def database_of(stores: Stores) -> Mapping[str, str]:
    return {"TRADEUL_DATABASE_URL": stores.database_url}


def bar(tape: Tape, symbol: str, clock: str, close: float, seconds: int = 1, **more: float) -> bytes:
    nan = [float("nan")]
    batch = market_data_pb2.BarBatch(
        span=market_data_pb2.MINUTE if seconds == 60 else market_data_pb2.SECOND,
        symbol_id=[tape.symbols.index(symbol)],
        start_ns=[at(clock)],
        end_ns=[at(clock) + seconds * SECOND],
        open=[10],
        high=[20],
        low=[5],
        close=[close],
        volume=[500],
        accumulated_volume=nan,
        day_vwap=nan,
        official_open=nan,
        vwap=[more.get("vwap", 10.5)],
        average_size=[more.get("average_size", 10.0)],
    )
    return tape.frame(bars=batch)


async def until_bars(database: asyncpg.Connection, **closes: float) -> list[Any]:
    """Waits until the newest close of each symbol is that; all rows."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            rows = await database.fetch("SELECT * FROM aggregates_1min ORDER BY time, symbol")
            if closes.items() <= {row["symbol"]: row["close"] for row in rows}.items():
                return list(rows)
            await asyncio.sleep(POLL_SECONDS)


async def until_write_fails() -> None:
    """Waits until bars could not be stored, from now on."""
    failures = counter("tradeul_minute_bar_write_failures_total")
    async with asyncio.timeout(WAIT_SECONDS):
        while counter("tradeul_minute_bar_write_failures_total") == failures:
            await asyncio.sleep(POLL_SECONDS)


async def until_mark(database: asyncpg.Connection, sequencer: ScriptedSequencer) -> None:
    """Waits until everything that was sent has been stored."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await database.fetchval("SELECT sequence FROM stream_marks") != sequencer.market.sequence:
            await asyncio.sleep(POLL_SECONDS)


async def test_bars_once_a_minute_the_latest_of_the_vendors_first(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer
) -> None:
    tape = sequencer.tape
    async with running_analytics(sequencer, database_of(stores)):
        sequencer.send(bar(tape, "S01", "10:00:00", 12, 60))
        (row,) = await until_bars(database, S01=12)
        assert [row[name] for name in ("open", "high", "low", "close", "volume", "vwap", "trades", "is_made")] == [
            *(10, 20, 5, 12, 500, 10.5, 50, False)
        ]
        assert row["time"].timestamp() * SECOND == at("10:00:00")
        # Sent again.
        sequencer.send(bar(tape, "S01", "10:00:00", 13, 60))
        assert len(await until_bars(database, S01=13)) == 1
        # A minute without one is made of its trades, until one comes.
        tape.now_ns = at("10:01:10")
        sequencer.trade({"S03": 3.0, "S04": 4.0})
        tape.now_ns = at("10:02:11")
        sequencer.send(tape.watermark())
        rows = await until_bars(database, S03=3, S04=4)
        assert [(row["symbol"], row["is_made"]) for row in rows] == [("S01", False), ("S03", True), ("S04", True)]
        sequencer.send(bar(tape, "S03", "10:01:00", 33, 60))
        rows = await until_bars(database, S03=33)
        assert [(row["symbol"], row["is_made"]) for row in rows] == [("S01", False), ("S03", False), ("S04", True)]


async def test_a_restart_misses_nothing_and_repeats_nothing(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer
) -> None:
    """Bars that came while nobody was there, and a minute whose trades came before and after."""
    tape = sequencer.tape
    # What was there before anybody looked is in no whole minute.
    for clock in ("10:00:50", "10:01:05", "10:02:05", "10:03:05"):
        tape.now_ns = at(clock)
        sequencer.send(tape.watermark())
    async with running_analytics(sequencer, database_of(stores)):
        for clock in ("10:04:05", "10:05:05", "10:06:05"):
            tape.now_ns = at(clock)
            sequencer.trade({"S07": 7.0})
        await until_bars(database, S07=7)
        await until_mark(database, sequencer)
    sequencer.send(bar(tape, "S01", "10:05:00", 12, 60))
    tape.now_ns = at("10:06:30")
    sequencer.trade({"S07": 8.0})
    caught_up = counter("tradeul_minute_bar_catch_ups_total", outcome="whole")
    async with running_analytics(sequencer, database_of(stores)):
        tape.now_ns = at("10:07:30")
        sequencer.trade({"S08": 1.0})
        rows = await until_bars(database, S01=12, S07=8)
    assert counter("tradeul_minute_bar_catch_ups_total", outcome="whole") == caught_up + 1
    last = [row for row in rows if row["symbol"] == "S07"][-1]
    assert last["time"].timestamp() * SECOND == at("10:06:00")
    assert (last["open"], last["close"], last["volume"], last["trades"], last["is_made"]) == (7, 8, 200, 2, True)
    keys = [(row["symbol"], row["time"]) for row in rows]
    assert len(keys) == len(set(keys))


async def test_a_restart_after_the_sequencer_forgot(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer
) -> None:
    tape = sequencer.tape
    async with running_analytics(sequencer, database_of(stores)):
        sequencer.send(bar(tape, "S01", "10:00:00", 12, 60))
        await until_bars(database, S01=12)
        await until_mark(database, sequencer)
    sequencer.send(bar(tape, "S02", "10:00:00", 12, 60))
    sequencer.forget_before(sequencer.market.sequence + 1)
    lost = counter("tradeul_minute_bar_catch_ups_total", outcome="lost")
    async with running_analytics(sequencer, database_of(stores)):
        # What comes meanwhile waits, and is stored.
        sequencer.send(bar(tape, "S03", "10:00:00", 13, 60))
        await until_bars(database, S03=13)
        # The bar may have come before the mark was read, and be stored before what is missing is given up.
        async with asyncio.timeout(WAIT_SECONDS):
            while counter("tradeul_minute_bar_catch_ups_total", outcome="lost") == lost:
                await asyncio.sleep(POLL_SECONDS)
    assert counter("tradeul_minute_bar_catch_ups_total", outcome="lost") == lost + 1


async def test_the_database_away(tmp_path: Path, sequencer: ScriptedSequencer) -> None:
    """Bars wait, the latest of a minute, and are stored when it is there."""
    tape = sequencer.tape
    async with running_analytics(sequencer, {"TRADEUL_DATABASE_URL": postgres_url(tmp_path)}) as analytics:
        sequencer.send(bar(tape, "S01", "10:00:00", 12, 60), bar(tape, "S01", "10:00:00", 13, 60))
        await until_write_fails()
        async with running_stores(tmp_path) as stores:
            database = await asyncpg.connect(stores.database_url)
            with contextlib.closing(_Terminated(database)):
                assert len(await until_bars(database, S01=13)) == 1
                await analytics.service.stop()


async def test_a_restart_while_the_database_is_away(tmp_path: Path, sequencer: ScriptedSequencer) -> None:
    """What was missed, and what came since, is stored once the database says what an earlier process had stored."""
    tape = sequencer.tape
    settings = {"TRADEUL_DATABASE_URL": postgres_url(tmp_path)}
    async with running_stores(tmp_path) as stores, running_analytics(sequencer, settings) as analytics:
        sequencer.send(bar(tape, "S01", "10:00:00", 12, 60))
        database = await asyncpg.connect(stores.database_url)
        with contextlib.closing(_Terminated(database)):
            await until_bars(database, S01=12)
            await until_mark(database, sequencer)
        await analytics.service.stop()
    sequencer.send(bar(tape, "S02", "10:00:00", 13, 60))
    async with running_analytics(sequencer, settings) as analytics:
        sequencer.send(bar(tape, "S03", "10:00:00", 14, 60))
        await until_write_fails()
        async with running_stores(tmp_path) as stores:
            database = await asyncpg.connect(stores.database_url)
            with contextlib.closing(_Terminated(database)):
                assert len(await until_bars(database, S01=12, S02=13, S03=14)) == 3
                await until_mark(database, sequencer)
            await analytics.service.stop()


class _Terminated:
    """Closes a connection before its server stops."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.terminate()
