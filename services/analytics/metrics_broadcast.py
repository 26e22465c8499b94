"""Symbols' measures as messages, and their broadcast: encoded once a second at most, for all streams together."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import analytics_pb2, session_pb2

from fastcore.measures import Measures, shown
from fastcore.wire import wrap
from services.analytics.core import AnalyticsCore
from services.kit.rpc.cursor import Broadcast, Subscription
from services.kit.rpc.envelope import Envelope
from services.kit.runtime.clock import monotonic

HEARTBEAT_SECONDS: Final = 10.0
METRICS: Final = Envelope(analytics_pb2.WatchMetricsResponse)
_UPDATE_METRICS: Final = analytics_pb2.MetricsUpdate.DESCRIPTOR.fields_by_name["metrics"].number


def session_name(code: int) -> str:
    """The bare name of a session."""
    return session_pb2.Session.Name(session_pb2.Session.ValueType(code))


def rvol(core: AnalyticsCore, symbol_id: int, measured: Measures) -> analytics_pb2.Rvol:
    """A symbol's Rvol without the position, which the enclosing message has."""
    return analytics_pb2.Rvol(
        symbol=core.symbols[symbol_id],
        rvol=measured.rvol,
        rvol_slot=measured.rvol_slot,
        slot=core.slot,
        session=session_pb2.Session.ValueType(core.state.session),
        volume_today=_shown(measured.volume_today),
        baseline=_shown(measured.baseline),
        days=measured.days,
        updated_at=_time(measured.updated_ns),
    )


def intraday(core: AnalyticsCore, symbol_id: int, measured: Measures) -> analytics_pb2.Intraday:
    """A symbol's Intraday without the position, which the enclosing message has."""
    return analytics_pb2.Intraday(
        symbol=core.symbols[symbol_id],
        high=measured.intraday_high,
        low=measured.intraday_low,
        high_time=_time(measured.high_ns),
        low_time=_time(measured.low_ns),
        updated_at=_time(measured.updated_ns),
    )


def symbol_metrics(core: AnalyticsCore, symbol_id: int) -> bytes:
    """An encoded SymbolMetrics."""
    measured = core.measures(symbol_id)
    return analytics_pb2.SymbolMetrics(
        rvol=rvol(core, symbol_id, measured), intraday=intraday(core, symbol_id, measured)
    ).SerializeToString()


def _shown(value: float | None) -> float | None:
    return None if value is None else shown(value)


def _time(ns: int | None) -> Timestamp | None:
    if ns is None:
        return None
    time = Timestamp()
    time.FromNanoseconds(ns)
    return time


class MetricsBroadcast(Broadcast[Subscription]):
    """Streams show the state of the last tick(); a slow one gets the newest values, not all of them."""

    def __init__(self, core: AnalyticsCore, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        super().__init__(heartbeat_seconds)
        self._core = core
        # By symbol, of the last tick.
        self._encoded: dict[str, bytes] = {}

    def tick(self) -> None:
        """Makes the state of now the one that streams show."""
        self._encoded.clear()
        self.wake()

    async def stream(self, symbols: Sequence[str], interval_seconds: float) -> AsyncGenerator[bytes, None]:
        """Yields encoded WatchMetricsResponses until close(); `symbols` are known to the state. Raises NOT_READY."""
        core = self._core
        core.state  # noqa: B018  NOT_READY while there is none
        with self.joined(Subscription(self.timers)) as subscription:
            yield METRICS.opened(core.position)
            sent = {symbol: self._metrics(symbol) for symbol in symbols}
            yield self._update("snapshot", sent.values())
            yield METRICS.current(core.position)
            changed_at = monotonic()
            while subscription.closing is None:
                if not await subscription.wait():
                    yield METRICS.heartbeat(core.position)
                    continue
                now = monotonic()
                # Ticks come a second apart: one that is a little early counts.
                if subscription.closing is not None or now - changed_at < interval_seconds - 0.1:
                    continue
                changed = {symbol: encoded for symbol in symbols if (encoded := self._metrics(symbol)) != sent[symbol]}
                if changed:
                    changed_at = now
                    sent.update(changed)
                    subscription.sent()
                    yield self._update("metrics", changed.values())
            yield METRICS.going_away(core.position, subscription.closing)

    def _metrics(self, symbol: str) -> bytes:
        encoded = self._encoded.get(symbol)
        if encoded is None:
            symbol_id = self._core.state.symbol_id(symbol)
            # A new epoch may not know it yet.
            encoded = b"" if symbol_id < 0 else symbol_metrics(self._core, symbol_id)
            self._encoded[symbol] = encoded
        return encoded

    def _update(self, field: str, metrics: Iterable[bytes]) -> bytes:
        """An encoded response whose `field` holds these encoded SymbolMetrics."""
        position = self._core.position
        head = analytics_pb2.MetricsUpdate(position=None if position is None else position.message())
        parts = [wrap(_UPDATE_METRICS, each) for each in metrics]
        return METRICS.wrap(field, head.SerializeToString(), *parts)
