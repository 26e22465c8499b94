"""The built-in lists in a real Redis: keys, sorted sets, streams; two scanners; Redis killed and back."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.kit.lists.definitions import load_lists
from services.scanner.redis_entries import keys_of, stream_key
from services.scanner.redis_lists import CHANNEL, LEASE_KEY
from tests.support.redis_server import RedisServer
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.tape import EPOCH, Tape

SYMBOLS = [f"S{i:02}" for i in range(40)]
WAIT_SECONDS = 60


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as running:
        yield running


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening())
        running.trade({"S01": 105.0, "S02": 92.0, "S03": 103.0})
        yield running


def environment(server: RedisServer) -> dict[str, str]:
    return {"TRADEUL_REDIS_URL": server.url}


async def snapshot(redis: Any, name: str) -> dict[str, Any]:
    text = await redis.get(keys_of(name)[1])
    return json.loads(text) if text else {}


async def until_written(redis: Any, sequencer: ScriptedSequencer, *names: str) -> None:
    """Waits until Redis has the lists as the sequencer has them."""
    async with asyncio.timeout(WAIT_SECONDS):
        for name in names:
            wanted = (sequencer.market.epoch, sequencer.market.list_sequence(name))
            while True:
                found = await snapshot(redis, name)
                if (found.get("epoch"), found.get("sequence")) == wanted:
                    break
                await asyncio.sleep(POLL_SECONDS)


async def entries(redis: Any, name: str) -> list[dict[str, Any]]:
    """A stream's entries: their fields, the payload read, and that their ids say their positions."""
    result = []
    for entry_id, fields in await redis.xrange(stream_key(name)):
        assert set(fields) == {"type", "list", "epoch", "sequence", "payload"}
        assert entry_id == f"{fields['epoch']}-{fields['sequence']}"
        payload = json.loads(fields["payload"])
        assert (payload["type"], payload["list"]) == (fields["type"], fields["list"]) == (fields["type"], name)
        assert (payload["epoch"], payload["sequence"]) == (int(fields["epoch"]), int(fields["sequence"]))
        result.append(payload)
    return result


def replayed(payloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a consumer has who applied a stream's entries from its first snapshot on."""
    rows: dict[str, dict[str, Any]] = {}
    sequence = None
    for payload in payloads:
        if payload["type"] == "snapshot":
            rows = {row["symbol"]: row for row in payload["rows"]}
        elif sequence is not None:
            assert payload["previous_sequence"] == sequence, "a hole"
            assert payload["change_count"] == len(payload["deltas"]) > 0
            for change in payload["deltas"]:
                if change["action"] == "remove":
                    del rows[change["symbol"]]
                elif change["action"] == "rerank":
                    rows[change["symbol"]] |= {"rank": change["new_rank"]}
                else:
                    rows[change["symbol"]] = change["data"]
        sequence = payload["sequence"]
    return sorted(rows.values(), key=lambda row: row["rank"])


async def check(redis: Any, sequencer: ScriptedSequencer, name: str) -> None:
    """Every key of a list says the same, and what the list is."""
    stream, _, sequence_key, epoch_key, ranked = keys_of(name)
    shown = await snapshot(redis, name)
    market = sequencer.market
    assert (shown["type"], shown["list"], shown["count"]) == ("snapshot", name, len(shown["rows"]))
    assert (shown["epoch"], shown["sequence"]) == (market.epoch, market.list_sequence(name))
    assert (await redis.get(sequence_key), await redis.get(epoch_key)) == (str(shown["sequence"]), str(shown["epoch"]))
    assert replayed(await entries(redis, name)) == shown["rows"]
    assert set(await redis.zrange(ranked, 0, -1)) == {row["symbol"] for row in shown["rows"]}
    assert [row["rank"] for row in shown["rows"]] == list(range(1, len(shown["rows"]) + 1))
    assert await redis.ttl(stream) == -1


async def test_every_list_is_there_and_follows(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    redis = server.redis
    async with running_scanner(sequencer, environment(server)):
        names = [spec.name for spec in load_lists()]
        await until_written(redis, sequencer, *names)
        for name in names:
            await check(redis, sequencer, name)
        assert await redis.zrange("scanner:ranked:gappers_up", 0, -1, desc=True, withscores=True) == [
            ("S01", 5.0),
            ("S03", 3.0),
        ]
        for price in (106.0, 107.0, 104.0):
            sequencer.trade({"S01": price, "S04": price - 1, "S02": 100.0}, seconds=1)
            await until_written(redis, sequencer, "gappers_up", "gappers_down", "filtered")
        for name in names:
            await check(redis, sequencer, name)
        up = await entries(redis, "gappers_up")
        assert [payload["type"] for payload in up] == ["snapshot", "delta", "delta", "delta"]
        # Ten minutes without a trade: nobody passes the base filter.
        sequencer.send(sequencer.tape.watermark(700))
        await until_written(redis, sequencer, "gappers_up")
        assert (await snapshot(redis, "gappers_up"))["rows"] == []
        await check(redis, sequencer, "gappers_up")
        assert await redis.exists("scanner:ranked:gappers_up") == 0
    # It leaves at once what another scanner may take over.
    assert await redis.exists(LEASE_KEY) == 0


async def test_two_scanners_write_every_entry_once(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    redis = server.redis
    async with running_scanner(sequencer, environment(server)) as second:
        await until_written(redis, sequencer, "filtered")
        async with running_scanner(sequencer, environment(server)) as first:
            for step in range(3):
                sequencer.trade({"S01": 106.0 + step, f"S{step + 5:02}": 104.0}, seconds=1)
                await until_written(redis, sequencer, "filtered", "gappers_up")
            await both_at(sequencer, first, second)
        # One has gone; whoever it was, the other goes on.
        sequencer.trade({"S09": 109.0}, seconds=1)
        await until_written(redis, sequencer, "filtered", "gappers_up")
        for name in ("filtered", "gappers_up"):
            await check(redis, sequencer, name)
            sequences = [payload["sequence"] for payload in await entries(redis, name)]
            assert sequences == sorted(set(sequences))


async def test_the_lease_passes_on(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    """The holder stops: the one that waited writes, from a snapshot on."""
    redis = server.redis
    first = running_scanner(sequencer, environment(server))
    await first.__aenter__()
    await until_written(redis, sequencer, "filtered")
    async with running_scanner(sequencer, environment(server)):
        await first.__aexit__(None, None, None)
        sequencer.trade({"S09": 109.0}, seconds=1)
        await until_written(redis, sequencer, "filtered")
        await check(redis, sequencer, "filtered")
        # Its snapshot is none that is there already: that of before, if it wrote before the trade came.
        types = [payload["type"] for payload in await entries(redis, "filtered")]
        assert types in (["snapshot", "snapshot"], ["snapshot", "delta"])


async def test_a_lease_of_a_clock_that_was_ahead_holds_nobody_off(
    server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    """Its holder died, and the clock was set right, an hour back."""
    await server.redis.set(LEASE_KEY, "somebody who is gone", px=3_600_000)
    async with running_scanner(sequencer, environment(server)):
        await until_written(server.redis, sequencer, "filtered")


async def test_one_that_lost_the_lease_without_knowing_changes_nothing(
    server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    redis = server.redis
    async with running_scanner(sequencer, environment(server)):
        await until_written(redis, sequencer, "filtered")
        # Somebody else has been further, in this epoch.
        await redis.set("scanner:list:filtered:sequence", 1000)
        before = await entries(redis, "filtered")
        sequencer.trade({"S09": 109.0}, seconds=1)
        await until_written(redis, sequencer, "gappers_up")
        assert await entries(redis, "filtered") == before
        # What is less than ours is what was lost.
        await redis.set("scanner:list:filtered:sequence", 0)
        await until_written(redis, sequencer, "filtered")
        assert replayed(await entries(redis, "filtered")) == (await snapshot(redis, "filtered"))["rows"]


async def test_a_later_epoch_goes_on_in_the_same_stream(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    redis = server.redis
    async with running_scanner(sequencer, environment(server)):
        await until_written(redis, sequencer, "filtered")
        await sequencer.die()
        tape = Tape(SYMBOLS, epoch=EPOCH + 60)
        await sequencer.start(tape)
        sequencer.send(*tape.opening())
        sequencer.trade({"S11": 111.0})
        await until_written(redis, sequencer, "filtered", "gappers_up")
        await check(redis, sequencer, "filtered")


async def test_redis_killed_costs_no_update_and_comes_back_right(
    server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    async with running_scanner(sequencer, environment(server)) as scanner:
        await until_written(server.redis, sequencer, "filtered", "gappers_up")
        reader = scanner.watch("filtered")
        await reader.until("current")
        await server.kill()
        for step in range(20):
            sequencer.trade({"S01": 106.0 + step / 10, f"S{step + 10:02}": 104.0}, seconds=1)
            await reader.until_sequence(sequencer.market.list_sequence("filtered"))
        reader.call.cancel()
        await server.start()
        names = [spec.name for spec in load_lists()]
        await until_written(server.redis, sequencer, *names)
        for name in names:
            await check(server.redis, sequencer, name)


@pytest.mark.parametrize("lose", [RedisServer.restart, RedisServer.empty])
async def test_keys_that_were_lost_are_written_again(
    server: RedisServer, sequencer: ScriptedSequencer, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    """Redis starts again so soon that nobody was refused, or was emptied, and no list changes."""
    async with running_scanner(sequencer, environment(server)):
        await until_written(server.redis, sequencer, "filtered")
        await lose(server)
        await until_written(server.redis, sequencer, "filtered", "gappers_up")
        await check(server.redis, sequencer, "filtered")


async def test_snapshots_are_published_while_somebody_is_subscribed(
    server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    async with running_scanner(sequencer, environment(server)) as scanner:
        await scanner.until_at(sequencer)
        async with server.redis.pubsub() as pubsub:
            await pubsub.subscribe(CHANNEL)
            rows = await heard(pubsub)
            # A new subscriber gets whatever has traded, and what has not.
            assert {row["symbol"] for row in rows} == set(SYMBOLS)
            assert [row["price"] for row in rows if row["symbol"] == "S01"] == [105.0]
            sequencer.trade({"S05": 101.0}, seconds=1)
            rows = await heard(pubsub)
            assert [(row["symbol"], row["price"]) for row in rows] == [("S05", 101.0)]
            assert "rank" not in rows[0]


async def heard(pubsub: Any) -> list[dict[str, Any]]:
    """The next message of a channel."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                rows: list[dict[str, Any]] = json.loads(message["data"])
                return rows


async def both_at(sequencer: ScriptedSequencer, *scanners: RunningScanner) -> None:
    for scanner in scanners:
        await scanner.until_at(sequencer)
