"""Streams of runs as they change, in any replica: PostgreSQL notifies of each change, each stream reads the run."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

from tradeul.v1 import data_maintenance_pb2

from services.data_maintenance import metrics
from services.data_maintenance.run_store import Run, RunStore
from services.kit.rpc.cursor import Broadcast, Subscription
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position
from services.kit.stores.notifications import MAINTENANCE_RUNS, follow_notifications

# Also how often a watcher looks by itself: a notification may be lost with its connection.
HEARTBEAT_SECONDS: Final = 10.0
# Of a task that has not run.
NO_RUN: Final = Position(0, 0)
ENVELOPE: Final = Envelope(data_maintenance_pb2.WatchTaskResponse)

Message = data_maintenance_pb2.MaintenanceRun


class RunBroadcast(Broadcast[Subscription]):
    """`run()` follows the notifications and calls `on_change` with each run's id; `stream()` serves one watcher."""

    def __init__(
        self,
        url: str,
        store: RunStore,
        on_change: Callable[[int], None],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        super().__init__(heartbeat_seconds)
        self._url = url
        self._store = store
        self._on_change = on_change

    async def run(self) -> None:
        """Listens until cancelled; comes back when the connection is lost."""
        await follow_notifications(
            self._url,
            MAINTENANCE_RUNS,
            self._receive,
            # Runs may have changed unnoticed.
            on_listening=lambda _: self.wake(),
            on_failure=metrics.DATABASE_FAILURES.inc,
        )

    async def stream(self, task: str, run_id: int, requested_position: Position | None) -> AsyncGenerator[bytes, None]:
        """Encoded WatchTaskResponses: of the run `run_id` until it has ended, or (0) of the task's newest."""
        sent = requested_position
        is_current = False
        run = await self._store.newest(task) if run_id == 0 else await self._store.get(run_id)
        with self.joined(Subscription(self.timers)) as subscription:
            yield ENVELOPE.opened(_position(run))
            while subscription.closing is None:
                for each in await self._news(task, run_id, sent):
                    sent = _position(each)
                    subscription.sent()
                    yield ENVELOPE.message("progress", position=sent.message(), run=message_of(each))
                    if run_id and each.state != "RUNNING":
                        return
                if not is_current:
                    is_current = True
                    yield ENVELOPE.current(sent or NO_RUN)
                if not await subscription.wait():
                    yield ENVELOPE.heartbeat(sent or NO_RUN)
            yield ENVELOPE.going_away(sent or NO_RUN, subscription.closing)

    async def _news(self, task: str, run_id: int, sent: Position | None) -> list[Run]:
        """The runs that changed since `sent`: how the run before ended comes before the next run."""
        if run_id:
            run = await self._store.get(run_id)
            is_over = run is not None and run.state != "RUNNING"
            return [run] if run is not None and (is_over or _position(run) != sent) else []
        newest = await self._store.newest(task)
        if newest is None or _position(newest) == sent:
            return []
        news = [newest]
        if sent is not None and sent.epoch != newest.id:
            before = await self._store.get(sent.epoch)
            if before is not None and before.task == task and _position(before) != sent:
                news.insert(0, before)
        return news

    def _receive(self, payload: str) -> None:
        with contextlib.suppress(ValueError):
            self._on_change(int(payload))
        self.wake()


def _position(run: Run | None) -> Position:
    """A run's number is the epoch, its revision the sequence."""
    return NO_RUN if run is None else Position(run.id, run.revision)


def message_of(run: Run) -> Message:
    """The run as a message."""
    message = Message(
        id=run.id,
        task=run.task,
        trading_date=run.trading_date.isoformat(),
        state=Message.State.Value(run.state),
        attempt=run.attempt,
        holder=run.holder,
        step=run.step,
        done=run.done,
        total=run.total,
        counts=run.counts,
        failed_count=run.failed_count,
        failed_symbols=run.failed_symbols,
        error=run.error,
        cancel_requested=run.cancel_requested,
    )
    message.started_at.FromDatetime(run.started_at)
    if run.scheduled_at is not None:
        message.scheduled_at.FromDatetime(run.scheduled_at)
    if run.ended_at is not None:
        message.ended_at.FromDatetime(run.ended_at)
    return message
