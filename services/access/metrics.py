"""The access service's metrics: by the names of keys, never by keys."""

from prometheus_client import Counter, Gauge

ALLOWED = Counter(
    "tradeul_access_allowed",
    "Requests allowed, by the key's name (jwt: for tokens, empty for public requests).",
    ["key"],
)
REFUSED = Counter(
    "tradeul_access_refused", "Requests refused, by the key's name (empty: no known key) and reason.", ["key", "reason"]
)
KEYS = Gauge("tradeul_access_keys", "Keys that are live.")
STORE_FAILURES = Counter("tradeul_access_store_failures", "Connections to the database lost or refused.")
