"""Many hashes and strings in one command: their values, what an empty one takes out, and how long keys live."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.kit.stores.redis import KEYS_AT_ONCE, BulkWriter, make_client
from tests.support.redis_server import RedisServer

FIELDS = ("high", "low")


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with RedisServer(tmp_path) as server, make_client(server.url) as client:
        yield client


async def test_more_keys_than_one_command_takes(redis: Redis) -> None:
    writer = BulkWriter(redis)
    keys = [f"k{number}" for number in range(KEYS_AT_ONCE + 3)]
    await writer.hashes(keys, FIELDS, [(f"1.{key}", "ö") for key in keys], 100)
    await writer.strings([f"s{key}" for key in keys], keys, 100)
    for key in (keys[0], keys[KEYS_AT_ONCE - 1], keys[KEYS_AT_ONCE], keys[-1]):
        assert await redis.hgetall(key) == {"high": f"1.{key}", "low": "ö"}
        assert await redis.get(f"s{key}") == key
    assert await redis.dbsize() == 2 * len(keys)


async def test_an_empty_value_takes_its_field_out_and_a_hash_without_fields_goes(redis: Redis) -> None:
    writer = BulkWriter(redis)
    await writer.hashes(["a", "b"], FIELDS, [("2", "1"), ("", "")], 100)
    assert await redis.keys() == ["a"]
    await writer.hashes(["a"], FIELDS, [("3", "")], 100)
    assert await redis.hgetall("a") == {"high": "3"}
    await writer.hashes(["a"], FIELDS, [("", "")], 100)
    assert await redis.keys() == []


async def test_a_hash_keeps_the_time_it_began_with_and_one_that_begins_again_gets_another(redis: Redis) -> None:
    writer = BulkWriter(redis)
    await writer.hashes(["a"], FIELDS, [("2", "1")], 100)
    await writer.hashes(["a"], FIELDS, [("3", "1")], 10_000)
    assert 0 < await redis.ttl("a") <= 100
    await writer.hashes(["a"], FIELDS, [("", "")], 100)
    await writer.hashes(["a"], FIELDS, [("3", "1")], 10_000)
    assert 100 < await redis.ttl("a") <= 10_000
    # A string is written with its time.
    await writer.strings(["s"], ["1"], 100)
    await writer.strings(["s"], ["1"], 10_000)
    assert 100 < await redis.ttl("s") <= 10_000
