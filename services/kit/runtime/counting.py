"""Our own counts, kept where they arise, brought to Prometheus and to the log now and then."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import prometheus_client

from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# Input that was set aside is told of at most so often.
REPORT_SECONDS: Final = 10.0


class Growing:
    """Brings Prometheus counters up to counts of our own."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()

    def grow(self, counter: prometheus_client.Counter, name: str, count: int) -> None:
        """`name` tells the counts of one process's part apart."""
        if count > self._counted[name]:
            counter.inc(count - self._counted[name])
            self._counted[name] = count


class SetAsideReport:
    """Logs what was set aside since the last line, by reason."""

    def __init__(self) -> None:
        self._reported: Counter[str] = Counter()
        self._report_at = 0.0

    def tell(self, counts: Mapping[str, int]) -> None:
        """`counts` since the start."""
        now = Counter(counts)
        if now != self._reported and monotonic() >= self._report_at:
            log.warning("input set aside", **(now - self._reported))
            self._reported = now
            self._report_at = monotonic() + REPORT_SECONDS
