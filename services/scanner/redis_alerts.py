"""The alerts as a stream in Redis, each one once, by the scanner that writes the lists.

An entry's id is the alert's position. A script compares each write with the newest entry, so that a scanner that took
over, or one that only thinks that it still may write, neither repeats an alert nor leaves one out.
"""

import asyncio
from typing import Final

from redis.asyncio import Redis

from services.kit.lists.alert_json import alert_json
from services.kit.rpc.ring import Position
from services.kit.runtime.logging import get_logger
from services.kit.stores.redis import check_cancelled
from services.scanner import metrics
from services.scanner.alert_log import AlertLog

log = get_logger(__name__)

STREAM: Final = "stream:alerts"
# About 15 MB.
STREAM_ENTRIES: Final = 5_000
BATCH: Final = 50
# So soon after a write alerts wait for each other: one write of ten costs Redis and us far less than ten.
GATHER_SECONDS: Final = 0.03
# Another scanner has written, and writes on: until this one knows that it may not.
REFUSED_PAUSE: Final = 1.0

# KEYS: stream. ARGV: entries to keep, the id of the newest entry ("" for none), then id, rule, symbol, epoch, sequence
# and payload of each alert. Returns 1, or 0 when another entry is the newest.
_ADD: Final = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if (newest[1] and newest[1][1] or '') ~= ARGV[2] then return 0 end
for i = 3, #ARGV, 6 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], ARGV[i], 'rule', ARGV[i + 1], 'symbol', ARGV[i + 2],
    'epoch', ARGV[i + 3], 'sequence', ARGV[i + 4], 'payload', ARGV[i + 5])
end
return 1
"""


class RedisAlerts:
    """Writes the alerts of `log` after those that Redis has."""

    def __init__(self, redis: Redis, alerts: AlertLog) -> None:
        self._redis = redis
        self._log = alerts
        self._add = redis.register_script(_ADD)
        self._has_more = asyncio.Event()
        alerts.listeners.append(self._has_more.set)

    async def follow(self) -> None:
        """Writes until cancelled. Raises RedisError, OSError."""
        while True:
            newest = await self._newest()
            check_cancelled()
            while True:
                self._has_more.clear()
                batch = self._next(newest)
                if not batch:
                    await self._has_more.wait()
                    continue
                is_written = await self._write(newest, batch)
                check_cancelled()
                if not is_written:
                    break
                newest = batch[-1]
                await asyncio.sleep(GATHER_SECONDS)
            await asyncio.sleep(REFUSED_PAUSE)

    async def _newest(self) -> Position | None:
        """The position of the newest entry."""
        entries = await self._redis.xrevrange(STREAM, count=1)
        if not entries:
            return None
        epoch, _, sequence = str(entries[0][0]).partition("-")
        return Position(int(epoch), int(sequence))

    def _next(self, newest: Position | None) -> list[Position]:
        """The positions of the alerts to be written after the newest entry, some at a time."""
        held = self._log
        epoch, last = held.position
        first = held.oldest
        if newest is not None:
            if newest.epoch > epoch:
                # Of a later sequencer, whose market this scanner does not have yet.
                return []
            if newest.epoch < epoch and (earlier := [each for each in held.earlier if each > newest]):
                self._note_missed(newest, earlier[0])
                return earlier[:BATCH]
            self._note_missed(newest, Position(epoch, first))
            if newest.epoch == epoch:
                first = max(first, newest.sequence + 1)
        first = max(first, last - STREAM_ENTRIES + 1)
        return [Position(epoch, sequence) for sequence in range(first, min(first + BATCH, last + 1))]

    def _note_missed(self, newest: Position, following: Position) -> None:
        """Says that nobody has alerts between two any more, as far as it is known: where an epoch ended is not."""
        after = newest.sequence if newest.epoch == following.epoch else 0
        if (missed := following.sequence - 1 - after) > 0 and following <= self._log.position:
            metrics.REDIS_ALERTS_MISSED.inc(missed)
            log.error("alerts are missing in redis", after=str(newest), before=str(following))

    async def _write(self, newest: Position | None, batch: list[Position]) -> bool:
        arguments: list[str | bytes | int] = [STREAM_ENTRIES, _id(newest) if newest is not None else ""]
        for position in batch:
            alert = self._log.at(position)
            arguments += [_id(position), alert.rule, alert.symbol, *position, alert_json(alert.encoded)]
        if not await self._add(keys=[STREAM], args=arguments):
            metrics.REDIS_LIST_REFUSED.inc()
            return False
        metrics.REDIS_ALERT_WRITES.inc(len(batch))
        return True


def _id(position: Position) -> str:
    return f"{position.epoch}-{position.sequence}"
