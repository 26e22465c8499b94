"""analytics:aggregates: the newest bars of the stream as a JSON array, for consumers of the older system."""

import math
from typing import Final

import msgspec
from tradeul.v1 import market_data_pb2

from services.analytics.core import AnalyticsCore
from services.kit.rpc.wire import frame_parts

CHANNEL: Final = "analytics:aggregates"
BARS: Final = 10
MILLISECOND: Final = 1_000_000
SPANS: Final = {market_data_pb2.SECOND: "A", market_data_pb2.MINUTE: "AM"}

# The vendor's names, and the columns they are in.
_COLUMNS: Final = {
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "av": "accumulated_volume",
    "op": "official_open",
    "vw": "vwap",
    "a": "day_vwap",
}


class LatestBars:
    """Of each symbol and span the newest bar since the last take."""

    def __init__(self) -> None:
        self._bars: dict[tuple[str, str], dict[str, object]] = {}

    def apply(self, core: AnalyticsCore, frame: memoryview) -> None:
        """Takes the bars of an encoded Frame that the core has applied."""
        parts = frame_parts(frame)
        if parts.kind != BARS:
            return
        batch = market_data_pb2.BarBatch.FromString(bytes(parts.body))
        kind = SPANS.get(batch.span, "A")
        symbols = core.symbols
        for i, symbol_id in enumerate(batch.symbol_id):
            symbol = symbols[symbol_id]
            bar: dict[str, object] = {"ev": kind, "sym": symbol, "symbol": symbol}
            for name, column in _COLUMNS.items():
                value = getattr(batch, column)[i]
                if not math.isnan(value):
                    bar[name] = value
            bar["s"] = batch.start_ns[i] // MILLISECOND
            bar["e"] = batch.end_ns[i] // MILLISECOND
            self._bars[symbol, kind] = bar

    def take(self) -> bytes:
        """A JSON array of the bars, which are no longer kept; empty without any."""
        bars, self._bars = list(self._bars.values()), {}
        return msgspec.json.encode(bars) if bars else b""
