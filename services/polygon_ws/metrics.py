"""The metrics of polygon_ws beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.kit.runtime.metrics import FRAMES, LAG_SECONDS, SLOW_SUBSCRIBERS, SUBSCRIBERS

SERVICE: Final = "polygon_ws"

FEED_STATE = Gauge("tradeul_feed_state", "1 for the current state of the connection to the vendor.", ["state"])
REFUSED = Gauge("tradeul_feed_refused_subscriptions", "Subscriptions that the vendor refuses.")
RECONNECTS = Counter("tradeul_feed_reconnects", "Times the connection to the vendor was reopened.")
HELD_BATCHES = Gauge("tradeul_feed_unacknowledged_batches", "Batches that the sequencer has not acknowledged.")
HELD_BYTES = Gauge("tradeul_feed_unacknowledged_bytes", "Bytes of the batches that the sequencer has not acknowledged.")
DROPPED_BATCHES = Counter("tradeul_feed_dropped_batches", "Batches dropped before they were acknowledged.")
DROPPED_EVENTS = Counter("tradeul_feed_dropped_events", "Events in the batches that were dropped.")
PAUSED = Gauge("tradeul_feed_paused", "1 while reading from the vendor waits for the sequencer.")

MESSAGES = FRAMES.labels(SERVICE, "message")
BATCHES = FRAMES.labels(SERVICE, "batch")
LAG = LAG_SECONDS.labels(SERVICE, "received")
SUBSCRIBED = SUBSCRIBERS.labels(SERVICE, "market")
SLOW = SLOW_SUBSCRIBERS.labels(SERVICE, "market")
