"""The scanner's metrics beside those that all services share, and its meter of lag."""

import statistics
from collections import deque
from functools import cache
from typing import Final, NamedTuple

from prometheus_client import Counter, Gauge, Histogram
from tradeul.v1 import market_data_pb2

from fastcore.wire import fields
from services.kit.runtime.clock import NS_PER_SECOND
from services.kit.runtime.metrics import LAG_SECONDS, SLOW_SUBSCRIBERS, SUBSCRIBERS

SERVICE: Final = "scanner"

LIST_UPDATES = Counter("tradeul_list_updates", "Changes of each list; custom scans are counted together.", ["list"])
SLOW_EVENTS = Counter("tradeul_slow_subscriptions", "Times a subscriber fell behind.", ["list"])
REFRESH_SECONDS = Histogram(
    "tradeul_refresh_seconds",
    "Time from a watermark frame until all lists are ranked and their changes handed to the subscribers.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
)
SETTLE_SECONDS = Histogram(
    "tradeul_settle_seconds",
    "How long a watermark's alerts, and recording and logging what it changed, took after its lists were handed out.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
)
SCAN_REFRESH_SECONDS = Histogram(
    "tradeul_scan_refresh_seconds",
    "Time from a refresh of the built-in lists until all open custom scans, which follow in turns, are ranked.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
SCAN_REQUEST_SECONDS = Histogram(
    "tradeul_scan_request_seconds",
    "How long selecting and encoding a custom scan's rows blocked the event loop.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
)
TURN_SECONDS = Histogram(
    "tradeul_turn_seconds",
    "How long producing one answer blocked the event loop: selecting rows, searching, or encoding as JSON.",
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
)
TURNS_WAITING = Gauge(
    "tradeul_turns_waiting", "Requests that wait for their turn to be answered, or are being answered."
)
LARGE_WAITING = Gauge("tradeul_large_messages_waiting", "Streams whose next message is large and waits for its turn.")
SCAN_COMPILE_SECONDS = Histogram(
    "tradeul_scan_compile_seconds",
    "How long compiling the texts of a custom scan took in its separate process, which yields to others.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0),
)
LOAD_SECONDS = Histogram("tradeul_state_load_seconds", "How long loading a snapshot took.")
OPEN_SCANS = Gauge("tradeul_open_scans", "Custom scans that are watched.")
SCAN_STEPS = Gauge("tradeul_scan_steps", "Steps that all open custom scans together take for each row at a refresh.")
LEAST_INTERVAL = Gauge(
    "tradeul_least_interval_seconds",
    "Minimum seconds between two updates to one subscriber of a list that changes more often; 0 unless too many watch.",
)
IS_CURRENT = Gauge("tradeul_scanner_current", "1 while the state follows the sequencer.")
SCAN_ROWS_STORED = Counter("tradeul_scan_rows_stored", "Rows written to scan_results.")
SCAN_WRITE_FAILURES = Counter(
    "tradeul_scan_write_failures", "Times scan results could not be written; they are retried."
)
SCAN_RECORDS_DROPPED = Counter(
    "tradeul_scan_records_dropped", "List changes and minutes that were not stored, by reason.", ["reason"]
)
SCAN_RECORDS_ON_DISK = Gauge(
    "tradeul_scan_records_on_disk", "List changes and minutes that wait on disk for the database."
)
ALERT_ROWS_STORED = Counter("tradeul_alert_rows_stored", "Rows written to alert_events.")
ALERT_WRITE_FAILURES = Counter("tradeul_alert_write_failures", "Times alerts could not be written; they are retried.")
ALERT_RECORDS_DROPPED = Counter("tradeul_alert_records_dropped", "Alerts that were not stored, by reason.", ["reason"])
ALERT_RECORDS_ON_DISK = Gauge("tradeul_alert_records_on_disk", "Alerts that wait on disk for the database.")


class WriterMetrics(NamedTuple):
    """The metrics of what is written to one table."""

    stored: Counter
    failures: Counter
    dropped: Counter
    on_disk: Gauge


SCAN_WRITING: Final = WriterMetrics(SCAN_ROWS_STORED, SCAN_WRITE_FAILURES, SCAN_RECORDS_DROPPED, SCAN_RECORDS_ON_DISK)
ALERT_WRITING: Final = WriterMetrics(
    ALERT_ROWS_STORED, ALERT_WRITE_FAILURES, ALERT_RECORDS_DROPPED, ALERT_RECORDS_ON_DISK
)
REDIS_ALERT_WRITES = Counter("tradeul_redis_alert_writes", "Alerts written to Redis.")
REDIS_ALERTS_MISSED = Counter(
    "tradeul_redis_alerts_missed", "Alerts that were no longer held when Redis could be written to."
)
REDIS_LISTS_WRITING = Gauge("tradeul_redis_lists_writing", "1 for the scanner that writes the lists to Redis.")
REDIS_LIST_WRITES = Counter("tradeul_redis_list_writes", "Times a list was written to Redis.", ["list"])
REDIS_LIST_REFUSED = Counter(
    "tradeul_redis_list_refused", "Writes refused because they did not follow what another scanner wrote."
)
REDIS_LIST_FAILURES = Counter(
    "tradeul_redis_list_failures", "Times Redis was unavailable when lists were due to be written."
)
REDIS_LIST_SECONDS = Histogram(
    "tradeul_redis_list_seconds",
    "How long each part of encoding a list for Redis delayed the scanner.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
)

ALERTS = Counter("tradeul_alerts", "Alerts by rule.", ["rule"])
ALERTS_CAUGHT_UP = Counter(
    "tradeul_alerts_caught_up",
    "Alerts from before this scanner connected or while it was disconnected, which the sequencer held.",
)
ALERTS_MISSED = Counter(
    "tradeul_alerts_missed", "Alerts that are not stored and that neither a scanner nor the sequencer holds any more."
)

LIST_LAG = LAG_SECONDS.labels(SERVICE, "list")
_TRADE_TIMES: Final = market_data_pb2.TradeBatch.DESCRIPTOR.fields_by_name["time_ns"].number


@cache
def list_updates(name: str) -> Counter:
    return LIST_UPDATES.labels(name)


@cache
def alerts(rule: str) -> Counter:
    return ALERTS.labels(rule)


def subscribers(stream: str) -> Gauge:
    return SUBSCRIBERS.labels(SERVICE, stream)


def slow_subscribers(stream: str) -> Gauge:
    return SLOW_SUBSCRIBERS.labels(SERVICE, stream)


def last_trade_ns(batch: memoryview) -> int | None:
    """The time of the last trade of an encoded TradeBatch, ns since 1970 UTC; None without trades."""
    for number, _, start, end in fields(batch):
        if number == _TRADE_TIMES:
            return int.from_bytes(batch[end - 8 : end], "little", signed=True) if end - start >= 8 else None
    return None


class LagMeter:
    """Measures the age of trades, by their own times, when the lists show them.

    Holds the lag of one trade of each batch, of the last second with trades.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []
        # (time of the refresh, lag), both in nanoseconds
        self._samples: deque[tuple[int, int]] = deque()

    def add_trade(self, trade_ns: int) -> None:
        """Takes the time of a trade that was applied; the next refresh shows it."""
        self._waiting.append(trade_ns)

    def refreshed(self, now_ns: int) -> list[float]:
        """Takes the wall clock's time of a refresh of the lists; returns the new lags in seconds."""
        lags = [now_ns - trade_ns for trade_ns in self._waiting]
        self._waiting.clear()
        self._samples.extend((now_ns, lag) for lag in lags)
        while self._samples and self._samples[-1][0] - self._samples[0][0] > NS_PER_SECOND:
            self._samples.popleft()
        return [lag / NS_PER_SECOND for lag in lags]

    def median_ms(self) -> float | None:
        """The median lag in milliseconds; None before the first trade."""
        if not self._samples:
            return None
        return statistics.median(lag for _, lag in self._samples) / 1e6
