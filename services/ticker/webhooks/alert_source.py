"""The alerts of one webhook, in order: streamed by the scanner, and from alert_events where it holds them no more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import grpc.aio
from tradeul.v1 import alerts_pb2

from fastcore.row_filter import row_filter
from services.kit.alerts.alert_rows import row_of
from services.kit.rpc.channel import Connection, StreamEnded, error_info
from services.kit.rpc.ring import Position
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import UNKNOWN_ALERT_RULE, ServiceError
from services.kit.runtime.logging import get_logger
from services.ticker.store import Queries, Record
from services.ticker.webhooks.messages import Missed
from services.ticker.webhooks.store import Hook

log = get_logger(__name__)

# The scanner sends a heartbeat at least every 10 s.
SILENCE_SECONDS: Final = 25.0
# A rule that is not there may be soon: it takes some seconds until a new one is in force.
REFUSED_SECONDS: Final = 15.0
# A scanner that is behind the webhook's position, as after its restart, has so long to get there.
BEHIND_SECONDS: Final = 60.0
AT_ONCE: Final = 200
# The scanner stores alerts every second, and after an outage of the database within ten.
SETTLING_SECONDS: Final = 3.0
STORING_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.5

# The epochs with alerts after one position and up to another, with the last of each.
_EPOCHS: Final = """
    SELECT epoch, max(sequence) AS last FROM alert_events
    WHERE (epoch, sequence) > ($1::bigint, $2::bigint) AND (epoch, sequence) <= ($3::bigint, $4::bigint)
    GROUP BY epoch ORDER BY epoch
"""
# All of some, and the message of those that are selected by rule and quality.
_STORED: Final = """
    SELECT sequence, CASE WHEN (cardinality($4::text[]) = 0 OR rule = ANY ($4))
        AND ($5::float8 IS NULL OR quality >= $5) THEN alert END AS alert
    FROM alert_events WHERE epoch = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence
"""


class Item(NamedTuple):
    """The next one for a webhook: an alert, or alerts that are missed, or nothing up to a position."""

    position: Position
    content: alerts_pb2.Alert | Missed | None


class AlertSource:
    """`watch`: AlertsService.WatchAlerts of the scanner; `problem`: what keeps alerts from the webhook, or ""."""

    def __init__(self, watch: Any, queries: Queries, hook: Hook) -> None:
        self.problem = ""
        self._watch = watch
        self._queries = queries
        self._hook = hook
        self._passes = row_filter(hook.filter)
        # Named rules that are not there.
        self._absent: set[str] = set()
        self._behind_since: float | None = None

    async def items(self, position: Position | None) -> AsyncGenerator[Item, None]:
        """Yields all that come after a position, or from now on, until closed."""
        backoff = Backoff()
        while True:
            try:
                async with aclosing(self._connected(position)) as items:
                    async for item in items:
                        backoff.reset()
                        position = item.position
                        yield item
                reason = "ended by the scanner"
            except StreamEnded as ended:
                reason = str(ended)
                if ended.is_refusal and ended.error is not None:
                    if not self._without_absent(ended.error):
                        if position is not None:
                            # Whoever reads this learns of the problem.
                            yield Item(position, None)
                        await asyncio.sleep(REFUSED_SECONDS)
                    continue
            except ServiceError as error:
                # The database is away.
                reason = error.message
            pause = backoff.next()
            log.info("alerts for a webhook interrupted", webhook=self._hook.id, reason=reason, again_in=pause)
            await asyncio.sleep(pause)

    def _without_absent(self, error: grpc.aio.AioRpcError) -> bool:
        """True if alerts of other rules can be watched at once, without one that is not there."""
        info = error_info(error)
        if info.reason == UNKNOWN_ALERT_RULE.name and info.metadata["rule"] in self._hook.rules:
            self._absent.add(info.metadata["rule"])
            self.problem = f"there is no alert rule {', '.join(map(repr, sorted(self._absent)))}"
            if len(self._absent) < len(self._hook.rules):
                return True
            self._absent.clear()
        else:
            self.problem = f"the scanner refuses: {error.details()}"
        return False

    async def _connected(self, position: Position | None) -> AsyncGenerator[Item, None]:
        """Yields what one connection brings. Raises StreamEnded, and STORE_UNAVAILABLE."""
        hook, absent = self._hook, frozenset(self._absent)
        request = alerts_pb2.WatchAlertsRequest(
            rules=",".join(rule for rule in hook.rules if rule not in absent),
            filter=hook.filter,
            min_quality=hook.min_quality,
        )
        if position is not None:
            request.epoch, request.sequence = position
        tried_at = monotonic()
        with Connection[alerts_pb2.WatchAlertsResponse](self._watch(request), SILENCE_SECONDS) as connection:
            while True:
                response = await connection.read()
                kind = response.WhichOneof("response")
                if not absent:
                    self.problem = ""
                elif monotonic() - tried_at > REFUSED_SECONDS:
                    # Once more with all rules.
                    self._absent.clear()
                    return
                if kind == "going_away":
                    return
                content = response.alert if kind == "alert" else None
                if content is not None:
                    reached = Position(content.epoch, content.sequence)
                else:
                    reached = Position.of(getattr(response, str(kind)).position)
                if position is None:
                    # The newest, in the stream's first message.
                    pass
                elif kind == "opened":
                    continue
                elif kind == "reset":
                    if self._is_behind(reached, position):
                        raise StreamEnded(f"the scanner is at {reached}, which is before {position}")
                    if reached > position:
                        async with aclosing(self._stored(position, reached)) as items:
                            async for item in items:
                                yield item
                elif reached <= position:
                    continue
                position = reached
                yield Item(position, content)

    def _is_behind(self, reached: Position, position: Position) -> bool:
        """True if a scanner that goes on at `reached` is to be asked again; not for ever: positions may begin anew."""
        if reached >= position:
            self._behind_since = None
            return False
        self._behind_since = self._behind_since or monotonic()
        if monotonic() - self._behind_since < BEHIND_SECONDS:
            return True
        log.warning("alerts begin anew", webhook=self._hook.id, position=str(position), now=str(reached))
        self._behind_since = None
        return False

    async def _stored(self, after: Position, up_to: Position) -> AsyncGenerator[Item, None]:
        """Yields the selected alerts between two positions that alert_events has, and says which are missed there."""
        await asyncio.sleep(SETTLING_SECONDS)
        rows = await self._queries.all(_EPOCHS, *after, *up_to)
        lasts = {row["epoch"]: row["last"] for row in rows}
        if up_to.sequence:
            # All of this one are or will be stored; of those before, the last stored is the last known.
            lasts[up_to.epoch] = up_to.sequence
        for epoch, last in sorted(lasts.items()):
            first = after.sequence + 1 if epoch == after.epoch else 1
            for start in range(first, last + 1, AT_ONCE):
                end = min(start + AT_ONCE - 1, last)
                expected = start
                for row in await self._all_between(epoch, start - 1, end):
                    if row["sequence"] > expected:
                        yield _missed(epoch, expected, row["sequence"] - 1)
                    expected = row["sequence"] + 1
                    if row["alert"] is not None and self._passes(row_of(row["alert"])):
                        position = Position(epoch, row["sequence"])
                        yield Item(position, alerts_pb2.Alert.FromString(row["alert"]))
                if expected <= end:
                    yield _missed(epoch, expected, end)

    async def _all_between(self, epoch: int, after: int, up_to: int) -> list[Record]:
        """The rows of an epoch after one sequence and up to another, waiting for those that are yet to be stored."""
        values = (epoch, after, up_to, list(self._hook.rules), self._hook.min_quality)
        found = list(await self._queries.all(_STORED, *values))
        deadline = monotonic() + STORING_SECONDS
        while len(found) < up_to - after and monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
            if len(again := list(await self._queries.all(_STORED, *values))) > len(found):
                deadline = monotonic() + STORING_SECONDS
            found = again
        return found


def _missed(epoch: int, first: int, last: int) -> Item:
    missed = Missed(Position(epoch, first - 1), Position(epoch, last), last - first + 1)
    return Item(missed.up_to, missed)
