"""The newest alerts of a market, of this epoch and of those before: what a scanner that was away has not seen.

The sequencer's copy of the market keeps them, and its journal; a standby keeps those of the leader.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from services.kit.alerts.encoding import AlertEncoder, AlertMarket

# Some 15,000 alerts.
MAX_BYTES: Final = 16 * 1024 * 1024


class RecentAlerts:
    """Encoded Alerts of at most `max_bytes` in all, the oldest first; the oldest make room."""

    def __init__(self, alerts: Iterable[bytes] = (), max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._encoder = AlertEncoder()
        self._alerts: deque[bytes] = deque()
        self._bytes = 0
        for alert in alerts:
            self._add(alert)

    def take(self, market: AlertMarket) -> None:
        """Adds the alerts of the watermark that the market has just been refreshed at."""
        for alert in self._encoder.encode(market):
            self._add(alert.encoded)

    def all(self) -> tuple[bytes, ...]:
        """Those that are held now."""
        return tuple(self._alerts)

    def _add(self, alert: bytes) -> None:
        self._alerts.append(alert)
        self._bytes += len(alert)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._alerts.popleft())
