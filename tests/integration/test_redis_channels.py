"""Pub/sub channels: only while somebody is subscribed, by name or by pattern; polygon_ws's and data_ingest's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from fastcore.columns import SnapshotColumns
from services.data_ingest.vendor_snapshot.channel import CHANNEL as SNAPSHOTS
from services.data_ingest.vendor_snapshot.channel import SnapshotChannel
from services.data_ingest.vendor_snapshot.rows import SnapshotPart
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import MAX_WAITING_BYTES, RedisChannels
from services.polygon_ws.feed_channels import AGGREGATES, TRADES
from tests.support.feed import message, running_feed, trade
from tests.support.redis_server import RedisServer
from tests.support.vendor_server import VendorServer

POLL_SECONDS = 0.005
WAIT_SECONDS = 60
NAMES = ("one", "two")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as running:
        yield running


@pytest.fixture
async def channels(server: RedisServer) -> AsyncIterator[RedisChannels]:
    async with make_client(server.url) as redis:
        running = RedisChannels(redis, NAMES, poll_seconds=0.01)
        task = asyncio.create_task(running.run())
        yield running
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(channels: RedisChannels, *wanted: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while tuple(name for name in NAMES if channels.is_wanted(name)) != wanted:
            await asyncio.sleep(POLL_SECONDS)


async def heard(pubsub: Any) -> Any:
    """The next message."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)) is None:
            pass
    return found["data"]


async def test_only_what_somebody_is_subscribed_to(server: RedisServer, channels: RedisChannels) -> None:
    async with server.redis.pubsub() as pubsub:
        await pubsub.subscribe("two")
        await until(channels, "two")
        channels.publish("one", b"nobody hears this")
        channels.publish("two", b"[1]")
        channels.publish("two", b"[2]")
        assert [await heard(pubsub) for _ in range(2)] == ["[1]", "[2]"]
        await pubsub.unsubscribe("two")
        await until(channels)


async def test_patterns_count(server: RedisServer, channels: RedisChannels) -> None:
    async with server.redis.pubsub() as pubsub:
        await pubsub.psubscribe("o*")
        await until(channels, *NAMES)
        channels.publish("one", b"[1]")
        assert await heard(pubsub) == "[1]"


async def test_a_server_that_goes_and_comes_back(server: RedisServer, channels: RedisChannels) -> None:
    async with server.redis.pubsub() as pubsub:
        await pubsub.subscribe("one")
        await until(channels, "one")
        await server.kill()
        await until(channels)
        await server.start()
    async with make_client(server.url).pubsub() as again:
        await again.subscribe("one")
        await until(channels, "one")
        channels.publish("one", b"[1]")
        assert await heard(again) == "[1]"


async def test_what_waits_is_bounded(server: RedisServer, channels: RedisChannels) -> None:
    async with server.redis.pubsub() as pubsub:
        await pubsub.subscribe("one")
        await until(channels, "one")

        def dropped() -> float:
            return REGISTRY.get_sample_value("tradeul_channel_messages_dropped_total", {"channel": "one"}) or 0.0

        before = dropped()
        for number in range(3):
            channels.publish("one", b"%d" % number * (MAX_WAITING_BYTES // 2))
        assert dropped() == before + 1
        assert (await heard(pubsub))[0] == "1"


async def test_trades_as_they_come_and_bars_once_a_second(server: RedisServer) -> None:
    environment = {"TRADEUL_REDIS_URL": server.url, "TRADEUL_SUBSCRIPTIONS": "T.*,A.*"}
    async with VendorServer(key="test-key") as vendor, running_feed(vendor, environment) as feed:
        await vendor.joins(1)
        channels = feed.service._channels
        assert channels is not None
        async with server.redis.pubsub() as trades, server.redis.pubsub() as bars:
            await trades.subscribe(TRADES)
            await bars.subscribe(AGGREGATES)
            async with asyncio.timeout(WAIT_SECONDS):
                while not (channels.is_wanted(TRADES) and channels.is_wanted(AGGREGATES)):
                    await asyncio.sleep(POLL_SECONDS)
            second = {"ev": "A", "sym": "AAPL", "o": 1, "h": 1, "l": 1, "v": 5, "s": 1, "e": 2}
            await vendor.send('{"ev":')
            await vendor.send('[{"ev":"T"},{"no":"kind"}]')
            await vendor.send(message({**second, "c": 1}, trade("AAPL", 1), trade("MSFT", 2)))
            await vendor.send(message(trade("AAPL", 3), {**second, "c": 2}))
            assert [[row["sym"] for row in json.loads(await heard(trades))] for _ in range(2)] == [
                ["AAPL", "MSFT"],
                ["AAPL"],
            ]
            assert json.loads(await heard(bars))[-1] == {**second, "c": 2}


async def test_the_vendors_snapshot(server: RedisServer) -> None:
    async with make_client(server.url) as redis:
        channels = RedisChannels(redis, (SNAPSHOTS,), poll_seconds=0.01)
        task = asyncio.create_task(channels.run())
        columns = SnapshotColumns()
        columns.append(0, 5_000_000, last_trade_ns=3, last_trade_price=10.5, bid=10.0, ask=11.0)
        columns.append(1, 6_000_000, day_open=1.0, accumulated_volume=500, minute_start_ns=60_000_000_000)
        parts = [SnapshotPart(["AAA", "BBB"], columns.encode())]
        await SnapshotChannel(channels).publish(parts)
        async with server.redis.pubsub() as pubsub:
            await pubsub.subscribe(SNAPSHOTS)
            async with asyncio.timeout(WAIT_SECONDS):
                while not channels.is_wanted(SNAPSHOTS):
                    await asyncio.sleep(POLL_SECONDS)
            await SnapshotChannel(channels).publish(parts)
            assert json.loads(await heard(pubsub)) == [
                {
                    "ticker": "AAA",
                    "updated": 5_000_000,
                    "lastTrade": {"p": 10.5, "t": 3},
                    "lastQuote": {"p": 10.0, "P": 11.0},
                },
                {"ticker": "BBB", "updated": 6_000_000, "day": {"o": 1.0}, "min": {"av": 500.0, "t": 60_000}},
            ]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
