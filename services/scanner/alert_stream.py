"""The alerts as streams: each subscriber gets all that it selects, in order, or the position where it lost some.

Alerts are compared with a selection once, for all its subscribers; held ones are compared in parts, so that a long
catching up leaves the event loop to others.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from tradeul.v1 import alerts_pb2

from fastcore.row_filter import row_filter
from services.kit.rpc.cursor import Broadcast, Subscription
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position, lost_reason
from services.scanner.alert_log import AlertLog, HeldAlert
from services.scanner.list_stream import AHEAD_SECONDS, HEARTBEAT_SECONDS

ALERTS: Final = Envelope(alerts_pb2.WatchAlertsResponse)
# So many held alerts are compared before others get the event loop.
COMPARED_AT_ONCE: Final = 50


class Wanted(NamedTuple):
    """The alerts that a request selects; no rules are all of them."""

    rules: frozenset[str]
    filter: str
    min_quality: float | None


class Selection:
    """The alerts that `wanted` selects. Raises FilterError."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._passes = row_filter(wanted.filter)
        # Of the newest alert that was compared.
        self._compared: HeldAlert | None = None
        self._matched = False

    @property
    def is_costly(self) -> bool:
        """True if it has to look at an alert's row."""
        return bool(self._wanted.filter)

    def matches(self, alert: HeldAlert) -> bool:
        if alert is not self._compared:
            self._compared, self._matched = alert, self._is_wanted(alert)
        return self._matched

    def _is_wanted(self, alert: HeldAlert) -> bool:
        wanted = self._wanted
        if wanted.rules and alert.rule not in wanted.rules:
            return False
        least = wanted.min_quality
        if least is not None and (alert.quality is None or alert.quality < least):
            return False
        return not wanted.filter or self._passes(alert.row)


class AlertSubscription(Subscription):
    """`next_sequence`: of the alert that is compared next, in the epoch `epoch`."""

    def __init__(self, stream: "AlertStreams", position: Position) -> None:
        super().__init__(stream.timers)
        self.epoch = position.epoch
        self.next_sequence = position.sequence + 1

    @property
    def position(self) -> Position:
        """The position of the last alert that was compared."""
        return Position(self.epoch, self.next_sequence - 1)


class AlertStreams(Broadcast[AlertSubscription]):
    """The streams of one log."""

    def __init__(
        self, log: AlertLog, heartbeat_seconds: float = HEARTBEAT_SECONDS, ahead_seconds: float = AHEAD_SECONDS
    ) -> None:
        super().__init__(heartbeat_seconds)
        self._ahead_seconds = ahead_seconds
        self._log = log
        self._selections: dict[Wanted, tuple[Selection, int]] = {}
        log.listeners.append(self.wake)

    async def messages(self, wanted: Wanted, requested: Position | None) -> AsyncGenerator[bytes, None]:
        """Yields encoded WatchAlertsResponses until close(); alerts after `requested`, new ones without it.

        Raises FilterError.
        """
        log = self._log
        selection = self._share(wanted)
        try:
            with self.joined(AlertSubscription(self, requested or log.position)) as mine:
                await self._until_caught_up(mine)
                yield ALERTS.opened(log.position)
                current_at: int | None = log.position.sequence
                while True:
                    reason = lost_reason(mine.position, log.position, log.oldest)
                    if reason is not None:
                        is_ahead = mine.epoch == log.position.epoch and mine.next_sequence > log.position.sequence
                        mine.epoch = log.position.epoch
                        mine.next_sequence = log.position.sequence + 1 if is_ahead else log.oldest
                        current_at = current_at if current_at is None else log.position.sequence
                        yield ALERTS.reset(mine.position, reason)
                    elif mine.next_sequence <= log.position.sequence:
                        alert = self._next_match(mine, selection)
                        if alert is not None:
                            mine.sent()
                            yield ALERTS.wrap("alert", alert.encoded)
                        else:
                            await asyncio.sleep(0)
                    elif current_at is not None:
                        current_at = None
                        yield ALERTS.current(mine.position)
                    elif mine.closing is not None:
                        yield ALERTS.going_away(mine.position, mine.closing)
                        return
                    elif not await mine.wait():
                        yield ALERTS.heartbeat(mine.position)
        finally:
            self._release(wanted)

    async def _until_caught_up(self, mine: AlertSubscription) -> None:
        log, loop = self._log, self.timers.loop
        deadline = loop.time() + self._ahead_seconds
        while mine.epoch == log.position.epoch and mine.next_sequence > log.position.sequence + 1:
            if mine.closing is not None or loop.time() >= deadline:
                return
            await mine.wait(deadline)

    def _next_match(self, mine: AlertSubscription, selection: Selection) -> HeldAlert | None:
        """The next alert that is selected among a few; None when none of these is."""
        last = min(mine.next_sequence + COMPARED_AT_ONCE, self._log.position.sequence + 1)
        while mine.next_sequence < last:
            alert = self._log.get(mine.next_sequence)
            mine.next_sequence += 1
            if selection.matches(alert):
                return alert
        return None

    def _share(self, wanted: Wanted) -> Selection:
        selection, users = self._selections.get(wanted) or (Selection(wanted), 0)
        self._selections[wanted] = (selection, users + 1)
        return selection

    def _release(self, wanted: Wanted) -> None:
        selection, users = self._selections.pop(wanted)
        if users > 1:
            self._selections[wanted] = (selection, users - 1)
