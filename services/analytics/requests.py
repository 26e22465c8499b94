"""What requests may hold: each function returns the checked value or raises the ServiceError to answer with."""

from collections.abc import Sequence
from typing import Final

from tradeul.v1 import analytics_pb2

from services.analytics.core import AnalyticsCore
from services.kit.runtime.errors import INVALID_REQUEST

MAX_SYMBOLS: Final = 500
LEAST_INTERVAL_MS: Final = 1000
LONGEST_INTERVAL_MS: Final = 60_000


def watched(core: AnalyticsCore, symbols: Sequence[str]) -> list[str]:
    """The symbols as the market writes them, each once."""
    if not 1 <= len(symbols) <= MAX_SYMBOLS:
        raise INVALID_REQUEST.error(f"expected 1 to {MAX_SYMBOLS} symbols, was {len(symbols)}", field="symbols")
    return list(dict.fromkeys(core.symbols[core.symbol_id(symbol)] for symbol in symbols))


def interval_seconds(request: analytics_pb2.WatchMetricsRequest) -> float:
    if not request.HasField("min_interval_ms"):
        return LEAST_INTERVAL_MS / 1000
    if not LEAST_INTERVAL_MS <= request.min_interval_ms <= LONGEST_INTERVAL_MS:
        raise INVALID_REQUEST.error(
            f"expected min_interval_ms of {LEAST_INTERVAL_MS} to {LONGEST_INTERVAL_MS}, was {request.min_interval_ms}",
            field="min_interval_ms",
        )
    return request.min_interval_ms / 1000
