"""Records that wait to be stored: bounded in memory, the oldest first."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter

from services.scanner.record_spool import Record

# In memory. What is there goes to disk while the database is away, so that this much waits only where it cannot.
MAX_BYTES: Final = 64 * 1024 * 1024


class RecordQueue:
    """Keeps records until they are taken; beyond `max_bytes` the oldest are dropped and counted in `dropped`."""

    def __init__(self, dropped: Counter, max_bytes: int = MAX_BYTES) -> None:
        self._dropped = dropped
        self._max_bytes = max_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the records that are kept."""
        return self._bytes

    def keep(self, record: Record) -> None:
        """Adds a record, as the newest."""
        self._records.append(record)
        self._bytes += len(record.data)
        self._drop_oldest()

    def take(self, most: int) -> list[Record]:
        """Takes out the oldest records, at most `most`."""
        taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
        self._bytes -= sum(len(record.data) for record in taken)
        return taken

    def put_back(self, records: Sequence[Record]) -> None:
        """Keeps records again that were taken, as the oldest."""
        self._records.extendleft(reversed(records))
        self._bytes += sum(len(record.data) for record in records)
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while self._bytes > self._max_bytes:
            dropped = self._records.popleft()
            self._bytes -= len(dropped.data)
            self._dropped.labels("full").inc()
