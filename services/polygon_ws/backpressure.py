"""When to leave the vendor's messages in the socket because the sequencer is behind."""

from typing import Final

# A vendor drops a reader that stalls, and then more is lost than our oldest batches.
PATIENCE_SECONDS: Final = 5.0


class Backpressure:
    """Pauses above `high` bytes held and resumes below half of it.

    Only a sequencer that is there and makes progress is waited for: without one, or
    `patience` seconds after its last acknowledgement, reading goes on and the oldest
    batches make room.
    """

    def __init__(self, high: int, patience: float = PATIENCE_SECONDS) -> None:
        self.is_paused = False
        self._high = high
        self._low = high // 2
        self._patience = patience
        self._progress_at = float("-inf")

    def progress(self, now: float) -> None:
        """The sequencer came, or acknowledged something, `now` (seconds of any clock)."""
        self._progress_at = now

    def update(self, held_bytes: int, has_reader: bool, now: float) -> bool:
        """Whether reading is to be paused."""
        if not has_reader or now - self._progress_at > self._patience:
            self.is_paused = False
        elif held_bytes > self._high:
            self.is_paused = True
        elif held_bytes < self._low:
            self.is_paused = False
        return self.is_paused
