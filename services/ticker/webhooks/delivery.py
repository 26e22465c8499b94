"""Delivery to one webhook: its alerts in order, each message again until it is accepted, or the webhook is given up."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from tradeul.v1 import alerts_pb2

from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic, utc_now
from services.kit.runtime.logging import get_logger
from services.ticker import metrics
from services.ticker.webhooks import messages
from services.ticker.webhooks.alert_source import AlertSource, Item
from services.ticker.webhooks.ledger import Failing, Ledger
from services.ticker.webhooks.messages import Missed
from services.ticker.webhooks.sender import LONGEST_RETRY_AFTER, Answer, Sender
from services.ticker.webhooks.store import Attempt, Hook

log = get_logger(__name__)

FIRST_PAUSE_SECONDS: Final = 2.0
LONGEST_PAUSE_SECONDS: Final = 600.0
# From a message's first refusal on.
GIVE_UP: Final = timedelta(hours=24)
# Items that are read ahead while a message is on its way.
MOST_AHEAD: Final = 2 * messages.MOST_IN_CHAT


def pause_seconds(failures: int, retry_after: float, uniform: Callable[[float, float], float]) -> float:
    """The seconds to wait after so many refusals: they double up to 10 minutes, less a random part of up to a half."""
    bound = min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 30), LONGEST_PAUSE_SECONDS)
    return max(uniform(bound / 2, bound), retry_after)


def seconds_until(time: datetime) -> float:
    """The seconds until a next attempt; never more than a pause ever is, in case the clock was ahead when it began."""
    seconds = (time - utc_now()).total_seconds()
    return min(max(0.0, seconds), max(LONGEST_PAUSE_SECONDS, LONGEST_RETRY_AFTER))


class Message:
    """A message that is on its way; `came_at`: when its first alert came, by monotonic()."""

    def __init__(self, hook: Hook, content: messages.Content, position: Position, came_at: float) -> None:
        self.id = messages.message_id(hook.id, position)
        self.position = position
        self.body = messages.body(hook.shape, content, utc_now())
        self.alerts = 0 if isinstance(content, Missed) else len(content)
        self.came_at = came_at


class Delivery:
    """Delivers to `hook` until cancelled.

    `failing` is its state for those who count. Whoever cancels it waits for an attempt that has begun, so that
    what was received is noted.
    """

    def __init__(self, hook: Hook, source: AlertSource, sender: Sender, ledger: Ledger) -> None:
        self.hook = hook
        self.failing: Failing | None = None
        if hook.failing_since is not None:
            self.failing = Failing(hook.failing_since, hook.failures, hook.next_attempt_at)
        self._source = source
        self._sender = sender
        self._ledger = ledger
        self._uniform = random.uniform
        self._problem: str | None = None

    async def run(self) -> None:
        """Returns when it has switched the webhook off. Raises LedgerLost."""
        position = self.hook.position
        if self.failing is not None and self.failing.next_attempt_at is not None:
            await asyncio.sleep(seconds_until(self.failing.next_attempt_at))
        while True:
            async with self._ahead(position) as ahead:
                message = await self._deliver_until_refused(ahead)
            # Meanwhile its alerts are neither read nor held here.
            position = message.position
            while self.failing is not None:
                if self.failing.next_attempt_at is None:
                    return
                await asyncio.sleep(seconds_until(self.failing.next_attempt_at))
                await self._attempt(message)

    async def _deliver_until_refused(self, ahead: "Ahead") -> Message:
        """Returns the message that was refused."""
        while True:
            item, came_at = await ahead.next()
            await self._note_problem()
            if item.content is None:
                await self._ledger.advance(self.hook, item.position)
                continue
            content: messages.Content
            if isinstance(item.content, Missed):
                content = item.content
                metrics.WEBHOOK_ALERTS_MISSED.inc(content.alerts)
                log.warning("alerts are missing for a webhook", webhook=self.hook.id, after=str(content.after),
                            up_to=str(content.up_to), count=content.alerts)  # fmt: skip
            else:
                content, item = ahead.with_further(item, messages.most_alerts(self.hook.shape))
            message = Message(self.hook, content, item.position, came_at)
            await self._attempt(message)
            if self.failing is not None:
                return message

    @asynccontextmanager
    async def _ahead(self, position: Position | None) -> AsyncIterator["Ahead"]:
        ahead = Ahead()
        reading = asyncio.create_task(self._read(position, ahead), name=f"webhook.{self.hook.id}.alerts")
        reading.add_done_callback(ahead.end)
        try:
            yield ahead
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, position: Position | None, ahead: "Ahead") -> None:
        async with aclosing(self._source.items(position)) as items:
            async for item in items:
                await ahead.put(item)

    async def _note_problem(self) -> None:
        if self._source.problem != self._problem:
            self._problem = self._source.problem
            await self._ledger.problem(self.hook, self._problem)

    async def _attempt(self, message: Message) -> None:
        """Sends a message once, and notes what came of it in `failing` and in the ledger."""
        attempt = asyncio.create_task(self._send(message), name=f"webhook.{self.hook.id}.attempt")
        try:
            await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if self._ledger.lost.is_set():
                attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
            raise

    async def _send(self, message: Message) -> None:
        hook, now = self.hook, utc_now()
        headers = messages.headers(message.id, int(now.timestamp()), message.body, hook.keys(now))
        answer = await self._sender.send(hook.url, headers, message.body)
        failures = self.failing.failures if self.failing is not None else 0
        if answer.is_accepted:
            attempt = attempt_of(message.id, failures + 1, "DELIVERED", answer, None, message.alerts)
            self.failing = None
            metrics.WEBHOOK_ALERTS.inc(message.alerts)
            metrics.WEBHOOK_SECONDS.observe(monotonic() - message.came_at)
            await self._ledger.accepted(hook, attempt, message.position)
            return
        await self._refused(message, answer, failures + 1, now)

    async def _refused(self, message: Message, answer: Answer, failures: int, now: datetime) -> None:
        hook = self.hook
        since = self.failing.since if self.failing is not None else now
        reason = ""
        if answer.is_gone:
            reason = f"the receiver wants nothing any more: {answer.error}"
        elif utc_now() - since >= GIVE_UP:
            reason = f"refused for {GIVE_UP // timedelta(hours=1)} hours: {answer.error}"
        if reason:
            self.failing = Failing(since, failures, None)
            attempt = attempt_of(message.id, failures, "GIVEN_UP", answer, None, message.alerts)
            log.error("webhook switched off", webhook=hook.id, reason=reason)
            await self._ledger.switch_off(hook, attempt, self.failing, reason)
            return
        pause = pause_seconds(failures, answer.retry_after, self._uniform)
        again_at = utc_now() + timedelta(seconds=pause)
        self.failing = Failing(since, failures, again_at)
        attempt = attempt_of(message.id, failures, "RETRIED", answer, again_at, message.alerts)
        log.info("webhook refused a message", webhook=hook.id, reason=answer.error, again_in=round(pause, 1))
        await self._ledger.refused(hook, attempt, self.failing)


class Ahead:
    """Items that were read ahead, at most MOST_AHEAD."""

    def __init__(self) -> None:
        self._items: deque[tuple[Item, float]] = deque()
        self._is_changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._ended: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> None:
        while len(self._items) >= MOST_AHEAD:
            self._has_room.clear()
            await self._has_room.wait()
        self._items.append((item, monotonic()))
        self._is_changed.set()

    def end(self, reading: "asyncio.Task[None]") -> None:
        """Nothing more will be put: the reading has failed."""
        self._ended = reading
        self._is_changed.set()

    async def next(self) -> tuple[Item, float]:
        """The oldest, and when it came. Raises what the reading has raised."""
        while not self._items:
            if self._ended is not None:
                self._ended.result()
                raise RuntimeError("the alerts of a webhook ended")
            self._is_changed.clear()
            await self._is_changed.wait()
        self._has_room.set()
        return self._items.popleft()

    def with_further(self, item: Item, most: int) -> tuple[list[alerts_pb2.Alert], Item]:
        """The item's alert and those that follow it already, up to `most`; and the item of the last of them."""
        assert isinstance(item.content, alerts_pb2.Alert), "it is no other"
        alerts = [item.content]
        while len(alerts) < most and self._items:
            content = self._items[0][0].content
            if isinstance(content, Missed):
                break
            following, _ = self._items.popleft()
            self._has_room.set()
            if content is not None:
                alerts.append(content)
                item = following
        return alerts, item


def attempt_of(
    message_id: str, number: int, outcome: str, answer: Answer, again_at: datetime | None, alerts: int
) -> Attempt:
    """The record of an attempt."""
    metrics.WEBHOOK_ATTEMPTS.labels(outcome.lower()).inc()
    milliseconds = round(answer.seconds * 1000)
    return Attempt(message_id, number, outcome, answer.status, milliseconds, answer.error, again_at, alerts)
