"""Alerts under faults: a client that follows them by position, and what both stores have in the end."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import grpc.aio
import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tradeul.v1 import alerts_pb2, alerts_pb2_grpc

from services.kit.runtime.clock import monotonic
from services.kit.stores.database import DATABASE_ERRORS
from services.scanner.redis_alerts import STREAM
from tests.support.watchers import AGAIN_SECONDS, LOST

STORED_SECONDS: Final = 30.0
AWAY: Final = (*DATABASE_ERRORS, RedisError, httpx.HTTPError)

# Epoch and sequence.
At = tuple[int, int]


class Alert(NamedTuple):
    """What tells one alert from another at the same position."""

    rule: str
    symbol: str


class AlertWatcher:
    """Follows all alerts over gRPC until cancelled. `seen`: by position; `on_broken` gets what no server may do."""

    def __init__(self, address: str, on_broken: Callable[[str], None]) -> None:
        self.seen: dict[At, Alert] = {}
        self.resets: list[str] = []
        self._address = address
        self._on_broken = on_broken
        self._position: At | None = None

    async def run(self) -> None:
        while True:
            try:
                await self._watch()
            except LOST:
                pass
            await asyncio.sleep(AGAIN_SECONDS)

    async def _watch(self) -> None:
        request = alerts_pb2.WatchAlertsRequest()
        if self._position is not None:
            request.epoch, request.sequence = self._position
        async with grpc.aio.insecure_channel(self._address) as channel:
            call = alerts_pb2_grpc.AlertsServiceStub(channel).WatchAlerts(request)
            while isinstance(response := await call.read(), alerts_pb2.WatchAlertsResponse):
                self.take(response)

    def take(self, response: alerts_pb2.WatchAlertsResponse) -> None:
        """Takes note of a message."""
        kind = response.WhichOneof("response")
        if kind == "alert":
            alert = response.alert
            epoch, sequence = self._position or (alert.epoch, alert.sequence - 1)
            if (alert.epoch, alert.sequence) != (epoch, sequence + 1):
                what = "a repeat" if (alert.epoch, alert.sequence) in self.seen else "a hole"
                self._on_broken(f"alerts: {what}: {alert.epoch}/{alert.sequence} after {epoch}/{sequence}")
            self._position = (alert.epoch, alert.sequence)
            self.seen[self._position] = Alert(alert.rule, alert.symbol)
        elif kind == "reset":
            self.resets.append(response.reset.reason)
            self._position = (response.reset.position.epoch, response.reset.position.sequence)
        elif kind == "opened" and self._position is None:
            self._position = (response.opened.position.epoch, response.opened.position.sequence)


async def compare_alerts(
    http: httpx.AsyncClient, database_url: str, redis_url: str, seen: Mapping[At, Alert]
) -> list[str]:
    """Waits until both stores have all alerts of now, each once and in order; returns what is missing or different."""
    problems = ["not compared"]
    deadline = monotonic() + STORED_SECONDS
    newest: At | None = None
    while problems and monotonic() < deadline:
        try:
            if newest is None:
                position = (await http.get("/api/v1/alerts?limit=1")).json()["position"]
                newest = (position["epoch"], position["sequence"])
            problems = alert_problems(await _stored(database_url), await _streamed(redis_url), newest, dict(seen))
        except (*AWAY, ValueError, KeyError) as error:
            problems = [f"not compared: {type(error).__name__}: {error}"]
        await asyncio.sleep(0.5)
    return problems


async def _stored(url: str) -> list[tuple[At, Alert]]:
    connection = await asyncpg.connect(url, timeout=2)
    try:
        rows = await connection.fetch("SELECT epoch, sequence, rule, symbol FROM alert_events", timeout=5)
    finally:
        await connection.close(timeout=2)
    return sorted(((row["epoch"], row["sequence"]), Alert(row["rule"], row["symbol"])) for row in rows)


async def _streamed(url: str) -> list[tuple[At, Alert]]:
    redis: Any = Redis.from_url(url, decode_responses=True, socket_timeout=5)
    try:
        entries = await redis.xrange(STREAM)
    finally:
        await redis.aclose()
    return [
        ((int(entry["epoch"]), int(entry["sequence"])), Alert(entry["rule"], entry["symbol"])) for _, entry in entries
    ]


def alert_problems(
    stored: Sequence[tuple[At, Alert]], streamed: Sequence[tuple[At, Alert]], newest: At, seen: Mapping[At, Alert]
) -> list[str]:
    """How the table (all alerts from the first on) and the stream (the newest ones) differ from what they have to be.

    `newest`: of the alerts that both have at least; `seen`: what a client was sent.
    """
    problems = [f"{at} is stored {times} times" for at, times in Counter(at for at, _ in stored).items() if times > 1]
    by_epoch: defaultdict[int, set[int]] = defaultdict(set)
    for epoch, sequence in (*(at for at, _ in stored), *seen, newest):
        # Later ones are perhaps on their way.
        if (epoch, sequence) <= newest:
            by_epoch[epoch].add(sequence)
    table, entries = dict(stored), dict(streamed)
    expected = [(epoch, n) for epoch, found in sorted(by_epoch.items()) for n in range(1, max(found) + 1)]
    problems += _missing("the table", (at for at in expected if at not in table))
    first = streamed[0][0] if streamed else newest
    problems += _missing("the stream", (at for at in expected if at >= first and at[1] and at not in entries))
    if [at for at, _ in streamed] != sorted(entries):
        problems.append("the stream has alerts twice, or not in order")
    for name, other in (("stream", entries), ("client", seen)):
        problems += [f"{at}: {alert} in the table, {other[at]} of the {name}" for at, alert in table.items()
                     if at in other and other[at] != alert]  # fmt: skip
    return problems


def _missing(where: str, positions: Iterable[At]) -> list[str]:
    missing = list(positions)
    return [f"{where} lacks {len(missing)} alerts, the first is {missing[0]}"] if missing else []
