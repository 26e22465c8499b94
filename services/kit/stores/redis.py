"""Redis or Valkey: one way to connect."""

import asyncio

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError

from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of, redact
from services.kit.stores.database import other_market

log = get_logger(__name__)

RETRY_SECONDS = 0.25
# Whose market's data these are; set by the first start.
MARKET_KEY = "market:source"


def make_client(url: str, *, decode_responses: bool = True) -> Redis:
    """A client that connects when it is first used. A command that meets a broken connection is tried again
    three times, then raises RedisError. `await client.aclose()`.
    """
    return Redis.from_url(
        url,
        decode_responses=decode_responses,
        socket_timeout=5,
        socket_connect_timeout=5,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 3),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError],
    )


async def open_redis(url: str, *, decode_responses: bool = True, wait_seconds: float = 10.0) -> Redis:
    """A client whose server has answered, waiting up to `wait_seconds` for it to come.

    Raises StartError when no server answers or no URL is set. `await client.aclose()`.
    """
    if not url:
        raise StartError("expected TRADEUL_REDIS_URL to be set, was empty")
    client = make_client(url, decode_responses=decode_responses)
    deadline = monotonic() + wait_seconds
    while True:
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            if monotonic() >= deadline:
                await client.aclose()
                raise StartError(f"no Redis at {redact(url)}: {reason_of(error)}") from error
            log.warning("redis not there yet", error=reason_of(error))
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return client


async def server_start(redis: Redis) -> str:
    """Names this start of the server: another one may have lost what was written. Raises RedisError, OSError."""
    information = await redis.info("server")
    return str(information["run_id"])


def check_cancelled() -> None:
    """Raises CancelledError in a task that was cancelled: redis-py may answer a cancelled command as if nothing was.

    For loops that would otherwise go on for good.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def claim_market(url: str, market: str) -> None:
    """Says that Redis's data are this market's; raises StartError when they are another's.

    While it is away nobody knows: what it holds is a copy, and the mesh starts without it.
    """
    client = make_client(url)
    try:
        await client.set(MARKET_KEY, market, nx=True)
        holder = await client.get(MARKET_KEY)
    except (RedisError, OSError) as error:
        log.warning("redis is away: whose data it holds is not known", error=reason_of(error))
        return
    finally:
        await client.aclose()
    if holder != market:
        raise StartError(other_market(f"the Redis at {redact(url)}", str(holder), market))
