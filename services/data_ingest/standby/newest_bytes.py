"""The newest pieces of bytes, as many as fit."""

from collections import deque


class NewestBytes:
    """At most `max_bytes` bytes of pieces, the oldest making room; the newest one is kept in any case."""

    def __init__(self, max_bytes: int) -> None:
        self.pieces: deque[bytes] = deque()
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, piece: bytes) -> None:
        """Adds a piece, as the newest; nothing for an empty one."""
        if not piece:
            return
        self.pieces.append(piece)
        self._bytes += len(piece)
        while self._bytes > self._max_bytes and len(self.pieces) > 1:
            self._bytes -= len(self.pieces.popleft())

    def joined(self) -> bytes:
        """All pieces, the oldest first."""
        return b"".join(self.pieces)
