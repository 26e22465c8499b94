"""Snapshots of the market for readers whom the ring does not help."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tradeul.v1 import data_ingest_pb2

from fastcore.prepared_buffer import PreparedBuffer
from fastcore.wire import field_head, wrap
from services.data_ingest import metrics
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.priority import thread_behind_the_others

log = get_logger(__name__)

CHUNK_BYTES: Final = 1 << 20
# A snapshot that nobody has used for so long is thrown away.
SNAPSHOT_SECONDS: Final = 30.0
_ALERT: Final = data_ingest_pb2.RecentAlerts.DESCRIPTOR.fields_by_name["alerts"].number
_DATA: Final = data_ingest_pb2.SnapshotChunk.DESCRIPTOR.fields_by_name["data"].number


class Snapshot:
    """The market at a position, in chunks that are encoded as they are sent; `alerts`: the newest ones before."""

    def __init__(self, position: Position, data: bytes | memoryview, alerts: Sequence[bytes] = ()) -> None:
        self.position = position
        self._alerts = alerts
        self._data = memoryview(data)
        self.count = max(1, -(-len(data) // CHUNK_BYTES))

    def chunk(self, index: int) -> bytes:
        """The encoded response with chunk `index` of `count`."""
        data = self._data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        head = data_ingest_pb2.SnapshotChunk(position=self.position.message(), index=index, count=self.count)
        return FRAMES.wrap("snapshot", head.SerializeToString(), field_head(_DATA, len(data)), data)

    def alert_chunks(self) -> Iterator[bytes]:
        """The encoded responses with the alerts."""
        chunk: list[bytes] = []
        size = 0
        for alert in self._alerts:
            chunk.append(wrap(_ALERT, alert))
            size += len(alert)
            if size >= CHUNK_BYTES:
                yield FRAMES.wrap("alerts", *chunk)
                chunk, size = [], 0
        if chunk:
            yield FRAMES.wrap("alerts", *chunk)


class Snapshots:
    """Makes one for all who need one at about the same time; `on_made` is called when it is made, or cannot be."""

    def __init__(self, sequencer: Sequencer, on_made: Callable[[], None]) -> None:
        self._sequencer = sequencer
        self._on_made = on_made
        self._newest: Snapshot | None = None
        self._used_at = 0.0
        # The one that is made, until somebody asks for it again.
        self._making: asyncio.Task[Snapshot] | None = None
        self._thread = thread_behind_the_others("snapshot")
        self._is_closed = False

    def take(self, not_before: Position | None = None) -> Snapshot | None:
        """A snapshot from which the ring continues, of the frame `not_before` or a later one.

        None while it is made: then `on_made` is called. Raises what made it fail.
        """
        self._used_at = monotonic()
        self._take_made()
        snapshot = self._newest
        if snapshot is not None and not self._is_behind(snapshot):
            if not_before is None or snapshot.position >= not_before:
                return snapshot
        if self._making is None and not self._is_closed:
            self._making = asyncio.create_task(self._make(), name="data_ingest.snapshot")
            self._making.add_done_callback(lambda _: self._on_made())
        return None

    async def _make(self) -> Snapshot:
        """Only copying the market keeps the stream waiting: the system hands out the memory in another thread."""
        size = self._sequencer.expected_size(with_baselines=True)
        buffer = await asyncio.get_running_loop().run_in_executor(self._thread, PreparedBuffer, size)
        began = monotonic()
        now = self._sequencer.market_at(with_baselines=True, buffer=buffer)
        seconds = monotonic() - began
        metrics.STATE_SECONDS.observe(seconds)
        log.info("snapshot made", position=str(now.position), bytes=len(now.data), seconds=round(seconds, 4))
        return Snapshot(now.position, now.data, now.alerts)

    def _take_made(self) -> None:
        if self._making is not None and self._making.done():
            making, self._making = self._making, None
            self._newest = making.result()

    def close(self) -> None:
        """Makes no more."""
        self._is_closed = True
        self._thread.shutdown(wait=False)

    def release(self) -> None:
        """Throws away a snapshot that is of no more use; to be called now and then."""
        try:
            self._take_made()
        except (MemoryError, ValueError) as error:
            log.error("no snapshot could be made", error=error)
        snapshot = self._newest
        if snapshot is not None and (self._is_behind(snapshot) or monotonic() - self._used_at > SNAPSHOT_SECONDS):
            self._newest = None

    def _is_behind(self, snapshot: Snapshot) -> bool:
        """True if a reader that loads it now has too little time for what follows."""
        ring = self._sequencer.ring
        return snapshot.position.epoch != ring.epoch or (
            ring.has_dropped and not ring.is_safe(snapshot.position.sequence + 1)
        )
