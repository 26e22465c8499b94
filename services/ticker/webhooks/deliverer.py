"""Delivers to all webhooks, in one replica at a time: the one whose session of the database holds the lock."""

import asyncio
import contextlib
from typing import Any, Final

from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import utc_now
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.ticker import metrics
from services.ticker.store import Queries
from services.ticker.webhooks.alert_source import AlertSource
from services.ticker.webhooks.delivery import Delivery
from services.ticker.webhooks.ledger import Ledger, LedgerLost
from services.ticker.webhooks.sender import Sender
from services.ticker.webhooks.store import Hook

log = get_logger(__name__)

# Another replica that wants to deliver looks so often whether it may.
CLAIM_SECONDS: Final = 1.0
# A notification may be lost; and a connection that is dead does not say so.
LOOK_SECONDS: Final = 5.0
# At a stop of the service, attempts that have begun have so long.
STOP_SECONDS: Final = 4.0
# One that failed because of a defect is begun again after a pause.
DEFECT_SECONDS: Final = 30.0


class Deliverer:
    """`watch`: AlertsService.WatchAlerts of the scanner."""

    def __init__(self, url: str, watch: Any, queries: Queries, sender: Sender) -> None:
        self._url = url
        self._watch = watch
        self._queries = queries
        self._sender = sender
        self._running: dict[str, tuple[Hook, Delivery, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Delivers until cancelled, whenever no other replica does."""
        backoff = Backoff(longest=5.0)
        while True:
            try:
                ledger = await Ledger.open(self._url)
                try:
                    await self._lead(ledger, backoff)
                finally:
                    await self._stop(list(self._running), STOP_SECONDS)
                    ledger.close()
                    for gauge in (metrics.WEBHOOK_DELIVERING, metrics.WEBHOOKS_FAILING, metrics.WEBHOOKS_DISABLED,
                                  metrics.WEBHOOKS_FAILING_SECONDS):  # fmt: skip
                        gauge.set(0)
            except LedgerLost as lost:
                pause = backoff.next()
                log.warning("webhooks wait for the database", reason=reason_of(lost), again_in=pause)
                await asyncio.sleep(pause)

    async def _lead(self, ledger: Ledger, backoff: Backoff) -> None:
        # Whoever has the right may be gone without a word: it has to be asked.
        while not await ledger.claim():  # noqa: ASYNC110
            await asyncio.sleep(CLAIM_SECONDS)
        backoff.reset()
        log.info("delivers to webhooks")
        metrics.WEBHOOK_DELIVERING.set(1)
        changed = asyncio.Event()
        await ledger.listen(changed.set)
        while not ledger.lost.is_set():
            changed.clear()
            await self._take(ledger, await ledger.hooks())
            waits = [asyncio.create_task(event.wait()) for event in (changed, ledger.lost)]
            try:
                await asyncio.wait(waits, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        raise LedgerLost("the connection is lost")

    async def _take(self, ledger: Ledger, hooks: list[tuple[Hook, str]]) -> None:
        """Begins, ends and replaces deliveries so that they are those of the table."""
        wanted = {hook.id: hook for hook, _ in hooks if hook.enabled}
        stale = [
            hook_id
            for hook_id, (hook, _, task) in self._running.items()
            if hook_id not in wanted or wanted[hook_id].version != hook.version or task.done()
        ]
        if stale:
            await self._stop(stale)
            # They have gone on until now.
            hooks = await ledger.hooks()
            wanted = {hook.id: hook for hook, _ in hooks if hook.enabled}
        for hook_id, hook in wanted.items():
            if hook_id not in self._running:
                self._begin(ledger, hook)
        waiting = [delivery.failing for _, delivery, _ in self._running.values() if delivery.failing is not None]
        metrics.WEBHOOKS_FAILING.set(len(waiting))
        oldest = min((failing.since for failing in waiting), default=None)
        metrics.WEBHOOKS_FAILING_SECONDS.set(0 if oldest is None else (utc_now() - oldest).total_seconds())
        metrics.WEBHOOKS_DISABLED.set(sum(1 for hook, reason in hooks if reason and not hook.enabled))

    def _begin(self, ledger: Ledger, hook: Hook) -> None:
        async def run() -> None:
            try:
                await delivery.run()
            except LedgerLost:
                # All of them end with it.
                pass
            except Exception as error:
                # A defect is this webhook's, not that of all.
                log.error("delivery to a webhook failed", webhook=hook.id, exc_info=error)
                with contextlib.suppress(LedgerLost):
                    await ledger.problem(hook, f"a defect: {described(error)}")
                await asyncio.sleep(DEFECT_SECONDS)

        delivery = Delivery(hook, AlertSource(self._watch, self._queries, hook), self._sender, ledger)
        task = asyncio.create_task(run(), name=f"webhook.{hook.id}")
        self._running[hook.id] = (hook, delivery, task)

    async def _stop(self, hook_ids: list[str], seconds: float | None = None) -> None:
        """Ends deliveries, each after the attempt that has begun, or after so many seconds."""
        tasks = [self._running.pop(hook_id)[2] for hook_id in hook_ids]
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=seconds)
            for task in left:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
