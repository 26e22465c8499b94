"""The WebSocket endpoint's metrics beside those that all services share."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.kit.runtime.metrics import REJECTED, SLOW_SUBSCRIBERS, SUBSCRIBERS

SERVICE: Final = "websocket_server"

CLIENTS = Gauge("tradeul_ws_clients", "Open WebSocket connections.")
MESSAGES = Counter("tradeul_ws_messages", "Messages written to clients, by type.", ["type"])
BYTES = Counter("tradeul_ws_bytes", "Bytes written to clients, by type.", ["type"])
SLOW_EVENTS = Counter(
    "tradeul_ws_slow_clients", "Times a client fell behind and was sent nothing until it had caught up."
)
CLOSES = Counter("tradeul_ws_closes", "Connections ended, by close code (1006: without one).", ["code"])
WHOLE_LISTS = Counter("tradeul_ws_whole_lists", "Whole lists sent to clients, by cause.", ["cause"])
FLUSH_SECONDS = Histogram(
    "tradeul_ws_flush_seconds",
    "How long writing a list's changes to all its clients took.",
    buckets=(0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
)
UPSTREAMS = Gauge("tradeul_ws_lists_followed", "Lists that this server follows at the scanner.")
CUSTOM_SOURCES = Gauge("tradeul_ws_custom_sources", "Distinct custom scans and lists with selected fields.")
UPSTREAM_ENDS = Counter("tradeul_ws_upstream_ends", "Times a list's stream ended and was reopened.", ["list"])

SLOW = SLOW_SUBSCRIBERS.labels(SERVICE, "clients")


def sent(kind: str, messages: int, size: int) -> None:
    MESSAGES.labels(kind).inc(messages)
    BYTES.labels(kind).inc(size)


def rejected(reason: str) -> None:
    REJECTED.labels(SERVICE, reason).inc()


def subscribers(name: str) -> Gauge:
    return SUBSCRIBERS.labels(SERVICE, name)
