"""Analytics' metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.kit.runtime.metrics import SUBSCRIBERS

SERVICE: Final = "analytics"

IS_CURRENT = Gauge("tradeul_analytics_current", "1 while the state follows the sequencer.")
BARS_STORED = Counter("tradeul_minute_bars_stored", "Rows of aggregates_1min that were new or changed.")
BARS_WAITING = Gauge("tradeul_minute_bars_waiting", "One-minute bars that wait to be stored.")
BARS_DROPPED = Counter("tradeul_minute_bars_dropped", "One-minute bars that were not stored, by reason.", ["reason"])
BAR_WRITE_FAILURES = Counter("tradeul_minute_bar_write_failures", "Times bars could not be stored; they are retried.")
CATCH_UPS = Counter(
    "tradeul_minute_bar_catch_ups", "Starts, by the outcome of recovering the bars missed before.", ["outcome"]
)
REDIS_KEYS = Counter("tradeul_analytics_redis_keys", "Keys written to Redis, by kind.", ["kind"])
REDIS_PENDING = Gauge("tradeul_analytics_redis_pending", "Symbols whose keys wait to be written to Redis.")
REDIS_FAILURES = Counter("tradeul_analytics_redis_failures", "Times a write to Redis failed.")

WATCHERS = SUBSCRIBERS.labels(SERVICE, "metrics")
