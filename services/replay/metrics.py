"""The metrics of the replay beside those that all services share."""

from typing import Final

from prometheus_client import Gauge

from services.kit.runtime.metrics import FRAMES, REJECTED, SUBSCRIBERS, TICKS

SERVICE: Final = "replay"

REACHED = Gauge("tradeul_replay_reached_seconds", "The time that the replayed day has reached, in seconds since 1970.")
UNACKNOWLEDGED = Gauge("tradeul_replay_unacknowledged_batches", "Batches that the sequencer has not acknowledged.")

BATCHES = FRAMES.labels(SERVICE, "batch")
SUBSCRIBED = SUBSCRIBERS.labels(SERVICE, "market")


def rejected(reason: str, rows: int) -> None:
    """Rows of the file that were set aside."""
    REJECTED.labels(SERVICE, reason).inc(rows)


def ticks(kind: str, rows: int) -> None:
    TICKS.labels(SERVICE, kind).inc(rows)
