"""The built-in lists in Redis, for consumers of the older system: keys, sorted sets, streams and a channel of rows.

The scanner that holds the lease writes. A script compares each write with what
Redis has and makes it as a whole, so that two scanners that both think they hold
the lease can neither repeat a stream's entry nor leave one out.
"""

import asyncio
import contextlib
import uuid
from array import array
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from fastcore.measures import touched_since
from services.kit.lists.kept_rows import ListHole
from services.kit.lists.list_json import unranked_rows_json
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import check_cancelled, contents_id
from services.kit.stores.redis_channels import RedisChannels
from services.scanner import metrics
from services.scanner.core import ScannerCore
from services.scanner.list_hub import ListHub
from services.scanner.redis_entries import ListEntries

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
LEASE_KEY: Final = "scanner:lists:writer"
LEASE_SECONDS: Final = 5.0
# Another writer has been where this one would go: it may not know yet that it lost the lease.
REFUSED_PAUSE: Final = 1.0
CHANNEL: Final = "scanner:snapshots"
CHANNEL_EVERY_SECONDS: Final = 1.0
# Of one message; other rows wait for the next.
MAX_CHANNEL_ROWS: Final = 1000

# Extends the lease of ARGV[1] or takes one that is free, for ARGV[2] ms. One that lasts for longer than that was taken
# by a clock that was ahead, and holds nobody off.
_LEASE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
if holder and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"
# KEYS: stream, snapshot, sequence, epoch, ranked.
# ARGV: epoch, sequence, the sequence before ("" for a snapshot, which may follow anything that is
# older), entries to keep, list, type, payload, snapshot, and [score, symbol] of each row, as MessagePack.
# Returns 1, or 0 when it does not follow what is there.
_WRITE: Final = """
local epoch, sequence = tonumber(ARGV[1]), tonumber(ARGV[2])
local old_epoch = tonumber(redis.call('GET', KEYS[4]) or '0')
local old_sequence = tonumber(redis.call('GET', KEYS[3]) or '-1')
if ARGV[3] == '' then
  if old_epoch > epoch or (old_epoch == epoch and old_sequence > sequence) then return 0 end
elseif old_epoch ~= epoch or old_sequence ~= tonumber(ARGV[3]) then
  return 0
end
if old_epoch ~= epoch or old_sequence ~= sequence or redis.call('EXISTS', KEYS[1]) == 0 then
  local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], ARGV[1] .. '-' .. ARGV[2],
    'type', ARGV[6], 'list', ARGV[5], 'epoch', ARGV[1], 'sequence', ARGV[2], 'payload', ARGV[7])
  if type(added) == 'table' and added.err then return 0 end
end
redis.call('SET', KEYS[2], ARGV[8])
redis.call('SET', KEYS[3], ARGV[2])
redis.call('SET', KEYS[4], ARGV[1])
redis.call('DEL', KEYS[5])
local rows = cmsgpack.unpack(ARGV[9])
for i = 1, #rows, 500 do
  local members = {}
  for j = i, math.min(i + 499, #rows) do
    members[#members + 1] = rows[j][1]
    members[#members + 1] = rows[j][2]
  end
  redis.call('ZADD', KEYS[5], unpack(members))
end
return 1
"""


class RedisLists:
    """Writes every list that changed, at most once a second; never in the way of the lists' subscribers."""

    def __init__(
        self,
        redis: Redis,
        hub: ListHub,
        write_every: float = WRITE_EVERY_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        also_write: Sequence[Callable[[], Coroutine[None, None, None]]] = (),
    ) -> None:
        """`also_write`: what else the scanner that writes the lists writes, until cancelled."""
        self._redis = redis
        self._hub = hub
        self._write_every = write_every
        self._lease_seconds = lease_seconds
        self._name = uuid.uuid4().hex
        self._lease = redis.register_script(_LEASE)
        self._release = redis.register_script(_RELEASE)
        self._write = redis.register_script(_WRITE)
        self._also_write = also_write
        self._is_away = False

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            check_cancelled()
            try:
                await self._serve()
            except* (RedisError, OSError) as errors:
                metrics.REDIS_LIST_FAILURES.inc()
                if not self._is_away:
                    log.warning("redis is away: lists are written later", error=reason_of(errors))
                self._is_away = True
            await asyncio.sleep(self._write_every)

    async def _serve(self) -> None:
        """Waits for the lease and writes while it holds. Raises a group of RedisError, OSError."""
        if not await self._hold():
            return
        contents = await contents_id(self._redis)
        if self._is_away:
            log.info("redis is back: lists are written again")
        self._is_away = False
        metrics.REDIS_LISTS_WRITING.set(1)
        async with asyncio.TaskGroup() as tasks:
            writers = [
                tasks.create_task(self._follow(name), name=f"redis.{name}") for name in self._hub.core.definitions
            ]
            writers += [tasks.create_task(write(), name="redis.also") for write in self._also_write]
            try:
                # A server that was started again has perhaps lost what was written, one that was emptied all of it.
                while await self._hold() and await contents_id(self._redis) == contents:
                    check_cancelled()
                    await asyncio.sleep(min(self._write_every, self._lease_seconds / 3))
            finally:
                metrics.REDIS_LISTS_WRITING.set(0)
                for writer in writers:
                    writer.cancel()

    async def _hold(self) -> bool:
        """Takes the lease or extends it; a scanner that does not follow the sequencer leaves it to others."""
        if self._hub.unhealthy_reason:
            await self._release(keys=[LEASE_KEY], args=[self._name])
            return False
        held = await self._lease(keys=[LEASE_KEY], args=[self._name, int(self._lease_seconds * 1000)])
        return bool(held)

    async def close(self) -> None:
        """Lets another scanner write at once. After run() was cancelled."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._release(keys=[LEASE_KEY], args=[self._name])

    async def _follow(self, name: str) -> None:
        """Writes one list until cancelled, from a snapshot on, again and again."""
        while True:
            check_cancelled()
            if self._hub.core.is_loaded:
                await self._write_list(name)
            await asyncio.sleep(REFUSED_PAUSE * self._write_every)

    async def _write_list(self, name: str) -> None:
        """From a snapshot on, until a write does not follow what Redis has, or the scanner stops."""
        entries = ListEntries(name, self._hub.core.definitions[name].order_by)
        interval_ms = int(self._write_every * 1000)
        messages: AsyncGenerator[bytes, None] = self._hub.tap(name, interval_ms).messages()
        async with contextlib.aclosing(messages):
            async for message in messages:
                arguments = None
                began = monotonic()
                try:
                    for part in entries.take(message):
                        arguments = part
                        metrics.REDIS_LIST_SECONDS.observe(monotonic() - began)
                        await asyncio.sleep(0)
                        began = monotonic()
                except ListHole as hole:
                    log.error("list for redis begins again", list=name, reason=reason_of(hole))
                    return
                if arguments is None:
                    continue
                if not await self._write(keys=entries.keys, args=arguments):
                    metrics.REDIS_LIST_REFUSED.inc()
                    return
                metrics.REDIS_LIST_WRITES.labels(name).inc()
                check_cancelled()


class SnapshotChannel:
    """Publishes the rows that changed as a JSON array, once a second, while CHANNEL has subscribers.

    A new subscriber gets every row that has traded, a part a second.
    """

    def __init__(self, core: ScannerCore, channels: RedisChannels) -> None:
        self._core = core
        self._channels = channels
        self._seen = array("I")
        self._due: dict[int, None] = {}
        self._epoch = 0

    async def run(self) -> None:
        """Publishes until cancelled."""
        while True:
            await asyncio.sleep(CHANNEL_EVERY_SECONDS)
            if not self._channels.is_wanted(CHANNEL) or not self._core.is_loaded:
                self._seen, self._due = array("I"), {}
            elif message := self.take():
                self._channels.publish(CHANNEL, message)

    def take(self) -> bytes:
        """Returns the next message; b"" when nothing has changed."""
        market = self._core.market
        if market.epoch != self._epoch:
            self._seen, self._due, self._epoch = array("I"), {}, market.epoch
        state = market.state
        self._due.update(dict.fromkeys(touched_since(state, self._seen)))
        ids = list(self._due)[:MAX_CHANNEL_ROWS]
        for symbol_id in ids:
            del self._due[symbol_id]
        state.refresh()
        return unranked_rows_json([state.encode_row(symbol_id) for symbol_id in ids]) if ids else b""
