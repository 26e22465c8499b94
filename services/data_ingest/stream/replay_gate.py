"""What a replay waits for: reference data before the first event, and readers that are behind.

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

# A reader that is so far behind is waited for: well before it would lose its place in the ring.
MAX_BEHIND_FRAMES: Final = 8192
MAX_BEHIND_BYTES: Final = 16 * 1024 * 1024
LOOK_SECONDS: Final = 0.005
# One that takes nothing for so long does not hold the others up.
PATIENCE_SECONDS: Final = 10.0
# How often it is told how far the reference data are.
TELL_SECONDS: Final = 5.0


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
        # The last frame of the slowest reader when it was given up.
        self._given_up_at: int | None = None

    async def open(self) -> None:
        """Returns when the next batch may be sequenced."""
        if not self._is_loaded:
            await self._load()
            self._is_loaded = True
        if (at := self._slowest()) is None:
            self._given_up_at = None
            return
        progressed = monotonic()
        while at is not None and at != self._given_up_at:
            if monotonic() - progressed > PATIENCE_SECONDS:
                log.warning("replay goes on without a reader that takes nothing", frame=at)
                self._given_up_at = at
                return
            await asyncio.sleep(LOOK_SECONDS)
            if (now_at := self._slowest()) != at:
                at, progressed = now_at, monotonic()

    async def _load(self) -> None:
        """Minutes, where the vendor is asked for every symbol: tells now and then how far it is."""
        began = monotonic()
        loading = asyncio.create_task(self._reference.load_whole(self._names()), name="data_ingest.replay_reference")
        try:
            while not (await asyncio.wait({loading}, timeout=TELL_SECONDS))[0]:
                seconds = round(monotonic() - began)
                log.info("the replay waits for reference data", seconds=seconds, **self._reference.gathered_so_far)
            loading.result()
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    def _slowest(self) -> int | None:
        """The last frame of the slowest reader that is too far behind; None when none is."""
        ring = self._stream.ring
        last = min((reader.position.sequence for reader in self._stream.readers), default=ring.newest)
        if last + 1 < ring.oldest:
            # The ring no longer has what it needs: it gets a snapshot.
            return None
        if ring.newest - last > MAX_BEHIND_FRAMES:
            return last
        return last if last < ring.newest and ring.span_bytes(last + 1, ring.newest) > MAX_BEHIND_BYTES else None
