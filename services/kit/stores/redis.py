"""Redis or Valkey: the one way to connect, whose market's data it holds, and many small values in one command."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError

from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of, redact
from services.kit.stores.database import other_market

log = get_logger(__name__)

RETRY_SECONDS = 0.25
# The market whose data Redis holds; set by the first start.
MARKET_KEY = "market:source"
# A random text, set by whoever finds it missing: a server that was emptied has another.
CONTENTS_KEY = "market:contents"
# Of a script, so that Redis is never busy with one for long.
KEYS_AT_ONCE: Final = 256

# ARGV: seconds to live, then fields and each key's values of them, in MessagePack. A key's life begins with its first
# field: what is written later ends when the key does.
_HASHES: Final = """
local ttl, fields, rows = ARGV[1], unpack(cmsgpack.unpack(ARGV[2]))
local call, put = redis.call, {}
for i = 1, #KEYS do
  local row, size, out = rows[i], 0, nil
  for j = 1, #fields do
    local value = row[j]
    if value == '' then
      out = out or {}
      out[#out + 1] = fields[j]
    else
      put[size + 1] = fields[j]
      put[size + 2] = value
      size = size + 2
    end
  end
  if out then call('HDEL', KEYS[i], unpack(out)) end
  if size > 0 and call('HSET', KEYS[i], unpack(put, 1, size)) > 0 then call('EXPIRE', KEYS[i], ttl) end
end
return #KEYS
"""
# ARGV: seconds to live, then each key's value, in MessagePack.
_STRINGS: Final = """
local values = cmsgpack.unpack(ARGV[2])
for i = 1, #KEYS do redis.call('SET', KEYS[i], values[i], 'EX', ARGV[1]) end
return #KEYS
"""

_packed: Final = msgspec.msgpack.Encoder().encode


def make_client(url: str, *, decode_responses: bool = True) -> Redis:
    """A client that connects when it is first used. A command that meets a broken connection is tried again
    three times, then raises RedisError; one that is not answered is not, for whoever hangs would be asked for minutes.
    `await client.aclose()`.

    Raises StartError for a URL with a parameter that the client does not have, or with a wrong value of one.
    """
    try:
        client = Redis.from_url(
            url,
            decode_responses=decode_responses,
            socket_timeout=5,
            socket_connect_timeout=5,
            health_check_interval=30,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 3, (ConnectionError, BusyLoadingError)),
            retry_on_error=[ConnectionError, BusyLoadingError],
        )
        # Makes an object, which has the parameters, and connects it nowhere.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        named = re.search("argument '(.+)'", str(error))
        problem = f"there is no parameter {named[1]!r} with {url.partition(':')[0]}://" if named else str(error)
        raise StartError(f"TRADEUL_REDIS_URL {redact(url)}: {problem}") from error
    return client


async def open_redis(url: str, *, decode_responses: bool = True, wait_seconds: float = 10.0) -> Redis:
    """A client whose server has answered, waiting up to `wait_seconds` for it to come.

    Raises StartError when no server answers, no URL is set, or the server is a node of a Redis Cluster.
    `await client.aclose()`.
    """
    if not url:
        raise StartError("expected TRADEUL_REDIS_URL to be set, was empty")
    client = make_client(url, decode_responses=decode_responses)
    deadline = monotonic() + wait_seconds
    while True:
        try:
            await check_keyspace(client, url)
        except StartError:
            await client.aclose()
            raise
        except (RedisError, OSError) as error:
            if monotonic() >= deadline:
                await client.aclose()
                raise StartError(f"no Redis at {redact(url)}: {reason_of(error)}") from error
            log.warning("redis not there yet", error=reason_of(error))
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return client


async def check_keyspace(redis: Redis, url: str) -> None:
    """Raises StartError when the server is a node of a Redis Cluster, which refuses commands on keys of several slots.

    Raises RedisError, OSError when it does not answer.
    """
    if (await redis.info("cluster")).get("cluster_enabled"):
        raise StartError(f"expected one Redis that holds all keys at {redact(url)}, was a node of a Redis Cluster")


async def contents_id(redis: Redis) -> str:
    """Returns an id of what the server holds: another one after a restart, which may lose writes, and after a FLUSHALL.

    Raises RedisError, OSError.
    """
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.set(CONTENTS_KEY, uuid.uuid4().hex, nx=True)
        pipeline.get(CONTENTS_KEY)
        pipeline.info("server")
        _, contents, information = await pipeline.execute()
    return f"{information['run_id']}/{contents}"


def check_cancelled() -> None:
    """Raises CancelledError in a task that was cancelled: redis-py may answer a cancelled command as if nothing was.

    For loops that would otherwise continue for good.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def note_market(redis: Redis, market: str) -> str:
    """Notes that what Redis holds is this market's, if nothing is noted, and returns the market noted.

    Raises RedisError, OSError.
    """
    await redis.set(MARKET_KEY, market, nx=True)
    return str(await redis.get(MARKET_KEY))


async def claim_market(url: str, market: str) -> None:
    """Notes that Redis's data are this market's; raises StartError when they are another's, or it is a Redis Cluster.

    Redis being away is logged only: it holds copies, and the mesh starts without it.
    """
    client = make_client(url)
    try:
        await check_keyspace(client, url)
        holder = await note_market(client, market)
    except (RedisError, OSError) as error:
        log.warning("redis is away: whose data it holds is unknown", error=reason_of(error))
        return
    finally:
        await client.aclose()
    if holder != market:
        raise StartError(other_market(f"the Redis at {redact(url)}", holder, market))


class BulkWriter:
    """Writes hashes and strings that live for a while. Its methods raise RedisError, OSError.

    By scripts of a few hundred keys, with all their values in one argument: the cost of a pipeline of commands is
    Python's, for each command, and that of a command for each argument.
    """

    def __init__(self, redis: Redis) -> None:
        self._hashes = redis.register_script(_HASHES)
        self._strings = redis.register_script(_STRINGS)

    async def hashes(
        self, keys: Sequence[str], fields: Sequence[str], values: Sequence[Sequence[str]], ttl_seconds: int
    ) -> None:
        """Sets `fields` of each key to its `values`; an empty value takes the field out.

        A key that is there keeps the time it has left.
        """
        for first in range(0, len(keys), KEYS_AT_ONCE):
            part = slice(first, first + KEYS_AT_ONCE)
            await self._hashes(keys[part], [ttl_seconds, _packed((fields, values[part]))])

    async def strings(self, keys: Sequence[str], values: Sequence[str], ttl_seconds: int) -> None:
        for first in range(0, len(keys), KEYS_AT_ONCE):
            part = slice(first, first + KEYS_AT_ONCE)
            await self._strings(keys[part], [ttl_seconds, _packed(values[part])])
