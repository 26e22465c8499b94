"""The metrics of data_ingest beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.kit.runtime.metrics import FRAMES, LAG_SECONDS, REJECTED, SLOW_SUBSCRIBERS, SUBSCRIBERS, TICKS

SERVICE: Final = "data_ingest"

FEED_CONNECTIONS = Counter("tradeul_sequencer_feed_connections", "Times the stream from polygon_ws was opened.")
FEED_HOLES = Counter("tradeul_sequencer_feed_holes", "Times a batch from polygon_ws was missing and requested again.")
FEED_RESETS = Counter("tradeul_sequencer_feed_resets", "Times polygon_ws dropped batches before they were sequenced.")
LOST_BATCHES = Counter("tradeul_sequencer_lost_batches", "Batches that polygon_ws dropped before they were sequenced.")
UNKNOWN_CONDITIONS = Counter(
    "tradeul_unknown_condition_trades", "Accepted trades with a sale condition that is unknown to the rules."
)
SUSPECT_PRINTS = Gauge(
    "tradeul_suspect_prints", "Today's prints that were held because of their price, by outcome.", ["outcome"]
)
TRADING_DAYS = Counter("tradeul_sequencer_day_changes", "Times a new trading day began.")
SNAPSHOTS = Counter(
    "tradeul_vendor_snapshots", "Requests for the vendor's full-market snapshot, by result.", ["result"]
)
HALT_POLLS = Counter("tradeul_halt_polls", "Requests to the trade-halt feed, by result.", ["result"])
HALTED_SYMBOLS = Gauge("tradeul_halted_symbols", "Symbols that are halted now.")
REFERENCE_SYMBOLS = Gauge("tradeul_reference_symbols", "Symbols that have reference data, by kind.", ["kind"])
SYMBOLS = Gauge("tradeul_symbols", "Symbols in the table.")
HELD_FRAMES = Gauge("tradeul_sequencer_held_frames", "Frames held in the ring.")
HELD_BYTES = Gauge("tradeul_sequencer_held_bytes", "Bytes of the frames held in the ring.")
DROPPED_BARS = Counter("tradeul_bar_batches_dropped", "Bar batches that were not sent to a slow watcher of bars.")
SLOW_EVENTS = Counter("tradeul_sequencer_slow_readers", "Times a reader fell behind the ring and got a snapshot.")
STATE_SECONDS = Histogram("tradeul_whole_state_seconds", "How long making a snapshot of the market took.")
JOURNAL_BYTES = Counter("tradeul_journal_bytes", "Bytes written to the journal.")
JOURNAL_ENTRIES = Counter("tradeul_journal_entries", "Entries written to the journal.")
JOURNAL_FAILURES = Counter("tradeul_journal_failures", "Times the journal could not be written.")
JOURNAL_KEPT = Gauge("tradeul_journal_kept", "1 while the stream is written to the journal, else 0.")
JOURNAL_MARKET_SECONDS = Histogram(
    "tradeul_journal_market_seconds", "How long the stream waited while the market was copied for the journal."
)
LOWERED_VOLUMES = Counter(
    "tradeul_lowered_volumes", "Bars that reported fewer shares since 04:00 than had been counted (corrections)."
)
STALE_SECONDS = Gauge(
    "tradeul_stale_seconds", "How long nothing has come from the vendor although something should have; else 0."
)
CLOCK_AHEAD = Gauge(
    "tradeul_clock_ahead_seconds",
    "How far this machine's clock is ahead of the vendor's (below 0: behind); 0 while they agree.",
)
STORES_AWAY = Gauge("tradeul_store_away", "1 while a store accepts nothing, else 0.", ["store"])
REFILLED_BARS = Counter("tradeul_refilled_bars", "Minute bars that refilled gaps in the vendor's feed.")
STANDBY_IN_SYNC = Gauge("tradeul_standby_in_sync", "1 while readers get frames when the standby has them, else 0.")
STANDBY_SECONDS = Histogram(
    "tradeul_standby_seconds",
    "How long the standby took to acknowledge an entry of the journal.",
    buckets=(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 4.096),
)
FEED_GAPS = Counter("tradeul_feed_gaps", "Gaps in the vendor's feed.")

BATCHES = FRAMES.labels(SERVICE, "batch")
LAG = LAG_SECONDS.labels(SERVICE, "sequenced")
READERS = SUBSCRIBERS.labels(SERVICE, "frames")
READERS_BEHIND = Gauge(
    "tradeul_readers_behind_seconds",
    "How far behind the least-delayed of the readers that rank is; beyond 0.04, watermarks are sent less often.",
)
SLOW_READERS = SLOW_SUBSCRIBERS.labels(SERVICE, "frames")
BAR_WATCHERS = SUBSCRIBERS.labels(SERVICE, "bars")
CLOCK_WATCHERS = SUBSCRIBERS.labels(SERVICE, "clock")


def frames(body: str) -> Counter:
    """Frames of a kind that were added to the stream."""
    return FRAMES.labels(SERVICE, body)


def ticks(kind: str) -> Counter:
    return TICKS.labels(SERVICE, kind)


def rejected(reason: str) -> Counter:
    return REJECTED.labels(SERVICE, reason)


def count_slow_reader(is_slow: bool) -> None:
    """A reader fell behind (True), has caught up or gone (False)."""
    SLOW_READERS.inc(1 if is_slow else -1)
    if is_slow:
        SLOW_EVENTS.inc()
