"""Reconciles the stream with the vendor's full-market snapshot: at the start, now and then, and after a loss."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from services.data_ingest import metrics
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.vendor_snapshot.rows import SnapshotPart, SnapshotRules
from services.data_ingest.vendor_snapshot.source import SnapshotError, SnapshotSource
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

OPEN_SECONDS: Final = 60.0
# Nothing changes in a closed market but what the vendor corrects.
CLOSED_SECONDS: Final = 600.0
# What the vendor shows is seconds old: the first snapshot after a loss lacks the newest of what was lost.
AGAIN_SECONDS: Final = 15.0
# How soon the beginning of a session is seen.
SESSION_SECONDS: Final = 0.25
# The vendor's own snapshot is a large answer: it is not asked for again at once.
FIRST_PAUSE: Final = 1.0


class SnapshotPoller:
    """Adds snapshots to the stream, as frames.

    Args:
        rules: what holds when a snapshot is asked for.
        is_closed: whether the market is.
        on_rows: is told how many rows entered the stream.
        publish: gets each whole snapshot, after it entered the stream.
    """

    def __init__(
        self,
        source: SnapshotSource,
        sequencer: Sequencer,
        rules: Callable[[], SnapshotRules],
        is_closed: Callable[[], bool],
        on_rows: Callable[[int], None],
        publish: Callable[[list[SnapshotPart]], Awaitable[None]] | None = None,
    ) -> None:
        self._source = source
        self._sequencer = sequencer
        self._rules = rules
        self._is_closed = is_closed
        self._on_rows = on_rows
        self._publish = publish
        self._asked = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None

    def poke(self) -> None:
        """A snapshot is wanted at once."""
        self._asked.set()

    def line_returned(self) -> None:
        """Something was lost: a snapshot is wanted at once, and another one 15 s later."""
        self.poke()
        self._forget_again()
        self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.poke)

    def _forget_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    async def run(self) -> None:
        """Takes snapshots until cancelled."""
        try:
            await self._poll()
        finally:
            self._forget_again()

    async def _poll(self) -> None:
        backoff = Backoff(FIRST_PAUSE, longest=60.0)
        while True:
            self._asked.clear()
            try:
                rows = await self._take()
            except SnapshotError as error:
                pause = backoff.next()
                metrics.SNAPSHOTS.labels("failed").inc()
                log.warning("no snapshot from the vendor", reason=reason_of(error), again_in=pause)
            else:
                pause = CLOSED_SECONDS if self._is_closed() else OPEN_SECONDS
                backoff.reset()
                metrics.SNAPSHOTS.labels("taken").inc()
                log.info("snapshot taken", rows=rows)
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Waits so long; less when a snapshot is asked for, or a session begins."""
        end = monotonic() + seconds
        was_closed = self._is_closed()
        while not self._asked.is_set() and (left := end - monotonic()) > 0:
            if was_closed and not self._is_closed():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, SESSION_SECONDS) if was_closed else left):
                    await self._asked.wait()

    async def _take(self) -> int:
        rows = 0
        parts: list[SnapshotPart] = []
        async for part in self._source.fetch(self._rules()):
            parts.append(part)
            columns = part.encode(self._sequencer.add_symbols(part.symbols))
            if columns:
                self._sequencer.add_vendor_snapshot(columns)
                rows += len(part.symbols)
                self._on_rows(len(part.symbols))
            # Trades come first.
            await asyncio.sleep(0)
        if self._publish is not None:
            await self._publish(parts)
        return rows
