"""market_session's metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge

from services.kit.runtime.metrics import FRAMES, SUBSCRIBERS

SERVICE: Final = "market_session"

CURRENT = Gauge("tradeul_session", "1 for the market's current session.", ["session"])
REDIS_FAILURES = Counter("tradeul_session_redis_failures", "Times session:current could not be written.")
VENDOR_FAILURES = Counter(
    "tradeul_session_vendor_failures", "Times the vendor's upcoming holidays could not be fetched."
)

SESSIONS = FRAMES.labels(SERVICE, "session")
WATCHERS = SUBSCRIBERS.labels(SERVICE, "session")
