"""polygon:trades and polygon:aggregates: the vendor's own JSON, for consumers of the older system."""

import asyncio
from typing import Final

import msgspec

from services.kit.stores.redis_channels import RedisChannels

TRADES: Final = "polygon:trades"
AGGREGATES: Final = "polygon:aggregates"
CHANNELS: Final = (TRADES, AGGREGATES)
SECONDS: Final = 1.0
BARS: Final = ("A", "AM")


class _Head(msgspec.Struct):
    """The fields that distinguish elements."""

    ev: str
    sym: str = ""


class FeedChannels:
    """Passes trades on as they arrive, and of each symbol's bars of a kind the newest, once a second."""

    def __init__(self, channels: RedisChannels) -> None:
        self._channels = channels
        self._heads = msgspec.json.Decoder(list[_Head])
        self._elements = msgspec.json.Decoder(list[msgspec.Raw])
        self._bars: dict[tuple[str, str], bytes] = {}

    def receive(self, message: memoryview) -> None:
        """Takes one message of the vendor's; costs next to nothing while nobody is subscribed."""
        wants_trades = self._channels.is_wanted(TRADES)
        wants_bars = self._channels.is_wanted(AGGREGATES)
        if not (wants_trades or wants_bars):
            return
        try:
            heads = self._heads.decode(message)
            elements = self._elements.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # The feed decoder counts what is malformed.
            return
        trades: list[bytes] = []
        for head, element in zip(heads, elements, strict=True):
            if head.ev == "T" and wants_trades:
                trades.append(bytes(element))
            elif head.ev in BARS and wants_bars:
                self._bars[head.sym, head.ev] = bytes(element)
        if trades:
            self._channels.publish(TRADES, array_of(trades))

    async def run(self) -> None:
        """Publishes bars until cancelled."""
        while True:
            await asyncio.sleep(SECONDS)
            if self._bars:
                bars, self._bars = list(self._bars.values()), {}
                self._channels.publish(AGGREGATES, array_of(bars))


def array_of(elements: list[bytes]) -> bytes:
    """A JSON array of elements that are JSON."""
    return b"[%b]" % b",".join(elements)
