"""polygon:snapshots: the vendor's full snapshot in the vendor's shape, for consumers of the older system."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from tradeul.v1 import market_data_pb2

from services.data_ingest.vendor_snapshot.rows import SnapshotPart
from services.kit.stores.redis_channels import RedisChannels

CHANNEL: Final = "polygon:snapshots"
# Making so many takes about a millisecond.
ROWS_AT_ONCE: Final = 100
# Where each column is in the vendor's row.
PLACES: Final = {
    "last_trade_price": ("lastTrade", "p"),
    "day_open": ("day", "o"),
    "day_high": ("day", "h"),
    "day_low": ("day", "l"),
    "day_close": ("day", "c"),
    "day_vwap": ("day", "vw"),
    "accumulated_volume": ("min", "av"),
    "minute_high": ("min", "h"),
    "minute_low": ("min", "l"),
    "minute_close": ("min", "c"),
    "bid": ("lastQuote", "p"),
    "ask": ("lastQuote", "P"),
}
TIMES: Final = {"last_trade_ns": ("lastTrade", "t", 1), "minute_start_ns": ("min", "t", 1_000_000)}


class SnapshotChannel:
    """Publishes each snapshot as one JSON array, when somebody is subscribed."""

    def __init__(self, channels: RedisChannels) -> None:
        self._channels = channels

    async def publish(self, parts: Sequence[SnapshotPart]) -> None:
        """Publishes one snapshot, as it entered the stream; other tasks continue while it is encoded."""
        if not self._channels.is_wanted(CHANNEL):
            return
        rows: list[bytes] = []
        for part in parts:
            for number, row in enumerate(_rows(part)):
                rows.append(msgspec.json.encode(row))
                if number % ROWS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        self._channels.publish(CHANNEL, b"[%b]" % b",".join(rows))


def _rows(part: SnapshotPart) -> Iterator[dict[str, Any]]:
    columns = market_data_pb2.VendorSnapshot.FromString(part.columns)
    for i, symbol in enumerate(part.symbols):
        row: dict[str, Any] = {"ticker": symbol, "updated": columns.updated_ns[i]}
        for column, (group, name) in PLACES.items():
            value = getattr(columns, column)[i]
            if not math.isnan(value):
                row.setdefault(group, {})[name] = value
        for column, (group, name, unit) in TIMES.items():
            if time := getattr(columns, column)[i]:
                row.setdefault(group, {})[name] = time // unit
        yield row
