"""The gate before each batch of a replay: it waits for reference data, and for readers that are behind.

So every replay of a day has the same frames, whatever the speed and however
long the sources took.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.stream.frame_stream import FrameStream
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# A reader that is so far behind is waited for: well before the ring drops what it needs.
MAX_BEHIND_FRAMES: Final = 8192
MAX_BEHIND_BYTES: Final = 16 * 1024 * 1024
LOOK_SECONDS: Final = 0.005
# One that reads nothing for so long does not hold the others up.
PATIENCE_SECONDS: Final = 10.0
# How often the log shows how far the reference data are.
PROGRESS_SECONDS: Final = 5.0


class ReplayGate:
    """`await open()` before each batch of the feed.

    Args:
        has_reference: the market begins with its reference data.
        names: gives what the feed calls its symbols.
    """

    def __init__(
        self,
        reference: ReferenceFollower,
        stream: FrameStream,
        has_reference: bool = False,
        names: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._reference = reference
        self._stream = stream
        self._is_loaded = has_reference
        self._names = names
        # The last frame of the slowest reader when it was no longer waited for.
        self._abandoned: int | None = None

    async def open(self) -> None:
        """Returns when the next batch may be sequenced."""
        if not self._is_loaded:
            await self._load()
            self._is_loaded = True
        if (slowest := self._slowest()) is None:
            self._abandoned = None
            return
        progressed = monotonic()
        while slowest is not None and slowest != self._abandoned:
            if monotonic() - progressed > PATIENCE_SECONDS:
                log.warning("replay goes on without a reader that reads nothing", frame=slowest)
                self._abandoned = slowest
                return
            await asyncio.sleep(LOOK_SECONDS)
            if (newer := self._slowest()) != slowest:
                slowest, progressed = newer, monotonic()

    async def _load(self) -> None:
        """Loads reference data: for minutes, where each symbol is requested from the vendor."""
        began = monotonic()
        loading = asyncio.create_task(self._reference.load_all(self._names()), name="data_ingest.replay_reference")
        try:
            while not (await asyncio.wait({loading}, timeout=PROGRESS_SECONDS))[0]:
                seconds = round(monotonic() - began)
                log.info("the replay waits for reference data", seconds=seconds, **self._reference.gathered_counts)
            loading.result()
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    def _slowest(self) -> int | None:
        """The last frame of the slowest reader that is too far behind; None when none is."""
        ring = self._stream.ring
        slowest = min((reader.position.sequence for reader in self._stream.readers), default=ring.newest)
        if slowest + 1 < ring.oldest:
            # It has lost its position, and gets a snapshot.
            return None
        if ring.newest - slowest > MAX_BEHIND_FRAMES:
            return slowest
        is_behind = slowest < ring.newest and ring.span_bytes(slowest + 1, ring.newest) > MAX_BEHIND_BYTES
        return slowest if is_behind else None
