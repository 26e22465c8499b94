"""The Redis contract (section 8): the older system's keys, their types, fields and times to live, and channels."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from tradeul.v1 import ticker_pb2, ticker_row_pb2

from services.analytics.redis_mirror import AGGREGATES_CHANNEL
from services.data_ingest.stream import redis_stream as journal_stream
from services.data_ingest.vendor_snapshot import channel as vendor_snapshots
from services.kit.lists.definitions import load_lists
from services.kit.stores.redis import make_client
from services.market_session.redis_copy import RedisCopy
from services.polygon_ws import feed_channels
from services.scanner import redis_lists
from services.ticker.redis_cache import RedisCache
from tests.integration.test_analytics import SYMBOLS, volume_curve
from tests.support.redis_server import RedisServer
from tests.support.running_analytics import running_analytics
from tests.support.running_scanner import running_scanner
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.tape import EPOCH, Tape

WAIT_SECONDS = 60
DAY: Final = 24 * 3600
RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
LISTS: Final = [spec.name for spec in load_lists()]

# key -> type, and the time to live in seconds that it may have; None for one that stays.
KEYS: Final = {
    "rvol:S01": ("hash", DAY),
    "intraday:S01": ("hash", DAY),
    "slot:S01:72": ("string", DAY),
    "scanner:list:gappers_up:snapshot": ("string", None),
    "scanner:list:gappers_up:sequence": ("string", None),
    "scanner:ranked:gappers_up": ("zset", None),
    "session:current": ("string", 60),
    "ticker:data:S01": ("string", 5),
    "ticker:metadata:S01": ("string", DAY),
    **{f"stream:scanner:{name}": ("stream", None) for name in LISTS},
}
RVOL: Final = {"rvol", "rvol_slot", "slot", "session", "volume_today", "baseline", "days", "updated_at"}
INTRADAY: Final = {"high", "low", "high_time", "low_time"}
ENTRY: Final = {"type", "list", "epoch", "sequence", "payload"}


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Any]:
    """A Redis that everything has written to."""
    tape = Tape(SYMBOLS)
    async with RedisServer(tmp_path) as server, ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening(), volume_curve(tape))
        sequencer.trade({"S01": 105.0, "S02": 103.0})
        environment = {"TRADEUL_REDIS_URL": server.url}
        session = RedisCopy(server.url)
        session.put('{"current_session": "MARKET_OPEN"}')
        async with (
            make_client(server.url) as client,
            running_scanner(sequencer, environment),
            running_analytics(sequencer, environment),
        ):
            cache = RedisCache(client, write_every=0.01)
            await cache.store_metadata(ticker_pb2.TickerMetadata(symbol="S01", company_name="One Inc."))
            working = (session.run(), cache.run(), keep_row(cache))
            tasks = [asyncio.create_task(each) for each in working]
            async with asyncio.timeout(WAIT_SECONDS):
                while await server.redis.exists(*KEYS) < len(KEYS):
                    await asyncio.sleep(POLL_SECONDS)
            yield server.redis
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def keep_row(cache: RedisCache) -> None:
    """Stores a row again and again: its five seconds may be over before the rest is there, or has been read."""
    while True:
        cache.store_row(ticker_row_pb2.TickerRow(symbol="S01", price=105))
        await asyncio.sleep(0.5)


async def test_keys_types_and_contents(redis: Any) -> None:
    for key, (kind, longest) in KEYS.items():
        assert await redis.type(key) == kind, key
        ttl = await redis.ttl(key)
        assert ttl == -1 if longest is None else 0 < ttl <= longest, key
    rvol = await redis.hgetall("rvol:S01")
    assert rvol.keys() == RVOL
    assert rvol["session"] == "MARKET_OPEN" and RFC_3339.fullmatch(rvol["updated_at"])
    assert all(float(rvol[name]) > 0 for name in RVOL - {"session", "updated_at"})
    intraday = await redis.hgetall("intraday:S01")
    assert intraday.keys() == INTRADAY
    assert (intraday["high"], intraday["low"]) == ("105", "105")
    assert all(RFC_3339.fullmatch(intraday[name]) for name in ("high_time", "low_time"))
    assert await redis.get("slot:S01:72") == "100"
    snapshot = json.loads(await redis.get("scanner:list:gappers_up:snapshot"))
    assert snapshot.keys() == {"type", "list", "epoch", "sequence", "rows", "count", "timestamp"}
    assert [(row["rank"], row["symbol"], row["gap_percent"]) for row in snapshot["rows"]] == [
        (1, "S01", 5),
        (2, "S02", 3),
    ]
    assert await redis.get("scanner:list:gappers_up:sequence") == str(snapshot["sequence"]) == "1"
    assert await redis.zrevrange("scanner:ranked:gappers_up", 0, -1, withscores=True) == [("S01", 5.0), ("S02", 3.0)]
    for name in LISTS:
        (entry_id, fields), *_ = await redis.xrange(f"stream:scanner:{name}")
        assert fields.keys() == ENTRY
        assert (fields["type"], fields["list"], fields["epoch"]) == ("snapshot", name, str(EPOCH))
        assert entry_id == f"{fields['epoch']}-{fields['sequence']}"
    assert json.loads(await redis.get("ticker:data:S01"))["price"] == 105
    assert json.loads(await redis.get("ticker:metadata:S01"))["company_name"] == "One Inc."
    assert json.loads(await redis.get("session:current")) == {"current_session": "MARKET_OPEN"}
    # Symbols that have not traded have no keys.
    assert not await redis.exists("rvol:S19", "intraday:S19", "slot:S19:72")


def test_the_journals_stream() -> None:
    # What is in it: tests/integration/test_journal_stream.py.
    assert journal_stream.KEY == "stream:sequencer:journal"


def test_channels_have_the_older_systems_names() -> None:
    ours = {feed_channels.TRADES, feed_channels.AGGREGATES, vendor_snapshots.CHANNEL, redis_lists.CHANNEL}
    assert ours | {AGGREGATES_CHANNEL} == {
        "polygon:trades",
        "polygon:aggregates",
        "polygon:snapshots",
        "scanner:snapshots",
        "analytics:aggregates",
    }
