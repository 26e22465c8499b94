"""The metrics of symbols for every stream that watches them, encoded once a second at most."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from services.analytics import messages
from services.analytics.core import AnalyticsCore
from services.analytics.messages import ENVELOPE
from services.kit.runtime.clock import monotonic

HEARTBEAT_SECONDS: Final = 10.0


class MetricsBoard:
    """Streams see the state of the last tick(). One that is slow gets the newest values, not all of them."""

    def __init__(self, core: AnalyticsCore, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._core = core
        self._heartbeat_seconds = heartbeat_seconds
        self._closing: str | None = None
        self._ticked = asyncio.Event()
        # By symbol, of the last tick.
        self._encoded: dict[str, bytes] = {}

    def tick(self) -> None:
        """What streams show from now on is the state of now."""
        self._encoded.clear()
        self._wake()

    def close(self, reason: str) -> None:
        """Ends every stream with going_away, those to come included."""
        self._closing = reason
        self._wake()

    async def stream(self, symbols: Sequence[str], interval_seconds: float) -> AsyncGenerator[bytes, None]:
        """Encoded WatchMetricsResponses until close(); `symbols` are known to the state. Raises NOT_READY."""
        core = self._core
        core.state  # noqa: B018  NOT_READY while there is none
        yield ENVELOPE.opened(core.position)
        shown = {symbol: self._metrics(symbol) for symbol in symbols}
        yield messages.update(messages.SNAPSHOT, messages.position_of(core), shown.values())
        yield ENVELOPE.current(core.position)
        sent_at = shown_at = monotonic()
        while True:
            if self._closing is not None:
                yield ENVELOPE.going_away(core.position, self._closing)
                return
            await self._ticked.wait()
            now = monotonic()
            # Ticks come a second apart: one that is a moment early counts.
            if self._closing is None and now - shown_at >= interval_seconds - 0.1:
                changed = {symbol: encoded for symbol in symbols if (encoded := self._metrics(symbol)) != shown[symbol]}
                if changed:
                    shown_at = sent_at = now
                    shown.update(changed)
                    yield messages.update(messages.METRICS, messages.position_of(core), changed.values())
                    continue
            if self._closing is None and now - sent_at >= self._heartbeat_seconds:
                sent_at = now
                yield ENVELOPE.heartbeat(core.position)

    def _metrics(self, symbol: str) -> bytes:
        encoded = self._encoded.get(symbol)
        if encoded is None:
            symbol_id = self._core.state.symbol_id(symbol)
            # A new epoch may not know it yet.
            encoded = b"" if symbol_id < 0 else messages.symbol_metrics(self._core, symbol_id)
            self._encoded[symbol] = encoded
        return encoded

    def _wake(self) -> None:
        # Those who wait now wake; those who come later wait for the next.
        self._ticked.set()
        self._ticked = asyncio.Event()
