"""What the scanner counts beside the metrics that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.kit.runtime.metrics import FRAMES, LAG_SECONDS, SLOW_SUBSCRIBERS, SUBSCRIBERS

SERVICE: Final = "scanner"

LIST_UPDATES = Counter("tradeul_list_updates", "Changes of a list, own lists together.", ["list"])
SLOW_EVENTS = Counter("tradeul_slow_subscriptions", "Times a subscriber fell behind.", ["list"])
REFRESH_SECONDS = Histogram(
    "tradeul_refresh_seconds",
    "From a watermark frame to all lists ranked and their changes handed to the subscribers.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
)
LOAD_SECONDS = Histogram("tradeul_state_load_seconds", "How long taking a whole state took.")
OPEN_SCANS = Gauge("tradeul_open_scans", "Own lists that are being watched.")
IS_CURRENT = Gauge("tradeul_scanner_current", "1 while the state follows the sequencer.")
SCAN_ROWS_STORED = Counter("tradeul_scan_rows_stored", "Rows written to scan_results.")
SCAN_WRITE_FAILURES = Counter("tradeul_scan_write_failures", "Times scan results could not be written; tried again.")
SCAN_RECORDS_DROPPED = Counter(
    "tradeul_scan_records_dropped", "List changes and minutes that were not stored, by reason.", ["reason"]
)
REDIS_LISTS_WRITING = Gauge("tradeul_redis_lists_writing", "1 for the scanner that writes the lists to Redis.")
REDIS_LIST_WRITES = Counter("tradeul_redis_list_writes", "Times a list was written to Redis.", ["list"])
REDIS_LIST_REFUSED = Counter("tradeul_redis_list_refused", "Writes that did not follow what another scanner wrote.")
REDIS_LIST_FAILURES = Counter("tradeul_redis_list_failures", "Times Redis was away when lists were to be written.")
REDIS_LIST_SECONDS = Histogram(
    "tradeul_redis_list_seconds",
    "How long making a list's texts held up the scanner.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
)

FRAMES_APPLIED = FRAMES.labels(SERVICE, "frame")
WHOLE_STATES = FRAMES.labels(SERVICE, "snapshot")
LIST_LAG = LAG_SECONDS.labels(SERVICE, "list")


def list_updates(name: str) -> Counter:
    return LIST_UPDATES.labels(name)


def slow_events(name: str) -> Counter:
    return SLOW_EVENTS.labels(name)


def subscribers(stream: str) -> Gauge:
    return SUBSCRIBERS.labels(SERVICE, stream)


def slow_subscribers(stream: str) -> Gauge:
    return SLOW_SUBSCRIBERS.labels(SERVICE, stream)
