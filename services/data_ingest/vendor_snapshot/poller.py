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
# The vendor's snapshots are seconds old: the first snapshot after a loss lacks the newest of what was lost.
AGAIN_SECONDS: Final = 15.0
# How soon the beginning of a session is seen.
SESSION_SECONDS: Final = 0.25
# The vendor's own snapshot is a large answer: it is not requested again at once.
FIRST_PAUSE: Final = 1.0


class SnapshotPoller:
    """Adds snapshots to the stream, as frames.

    Args:
        rules: gives what decides on last trades, when a snapshot is requested.
        on_rows: gets the number of rows that entered the stream.
        publish: gets each complete snapshot, after it entered the stream.
    """

    def __init__(
        self,
        source: SnapshotSource,
        sequencer: Sequencer,
        rules: Callable[[], SnapshotRules],
        on_rows: Callable[[int], None],
        publish: Callable[[list[SnapshotPart]], Awaitable[None]] | None = None,
    ) -> None:
        self._source = source
        self._sequencer = sequencer
        self._rules = rules
        self._on_rows = on_rows
        self._publish = publish
        self._requested = asyncio.Event()
        self._second: asyncio.TimerHandle | None = None

    def request(self) -> None:
        """Requests a snapshot at once."""
        self._requested.set()

    def request_after_loss(self) -> None:
        """Requests a snapshot at once, and another one 15 s later, since events were lost."""
        self.request()
        self._cancel_second()
        self._second = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.request)

    def _cancel_second(self) -> None:
        if self._second is not None:
            self._second.cancel()
            self._second = None

    async def run(self) -> None:
        """Polls until cancelled."""
        try:
            await self._poll()
        finally:
            self._cancel_second()

    async def _poll(self) -> None:
        backoff = Backoff(FIRST_PAUSE, longest=60.0)
        while True:
            self._requested.clear()
            try:
                rows = await self._poll_once()
            except SnapshotError as error:
                pause = backoff.next()
                metrics.SNAPSHOTS.labels("failed").inc()
                log.warning("no snapshot from the vendor", reason=reason_of(error), again_in=pause)
            else:
                pause = CLOSED_SECONDS if self._sequencer.is_closed else OPEN_SECONDS
                backoff.reset()
                metrics.SNAPSHOTS.labels("taken").inc()
                log.info("vendor snapshot sequenced", rows=rows)
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Waits so long; less when a snapshot is requested, or a session begins."""
        end = monotonic() + seconds
        was_closed = self._sequencer.is_closed
        while not self._requested.is_set() and (left := end - monotonic()) > 0:
            if was_closed and not self._sequencer.is_closed:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, SESSION_SECONDS) if was_closed else left):
                    await self._requested.wait()

    async def _poll_once(self) -> int:
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
