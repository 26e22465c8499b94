"""Measures as the API's messages."""

from collections.abc import Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import analytics_pb2, session_pb2, stream_pb2

from fastcore.measures import Measures, shown
from services.analytics.core import AnalyticsCore
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.wire import wrap

_UPDATE: Final = {field.name: field.number for field in analytics_pb2.MetricsUpdate.DESCRIPTOR.fields}
ENVELOPE: Final = Envelope(analytics_pb2.WatchMetricsResponse)
SNAPSHOT: Final = "snapshot"
METRICS: Final = "metrics"


def session_name(code: int) -> str:
    """The session's bare name."""
    return session_pb2.Session.Name(session_pb2.Session.ValueType(code))


def position_of(core: AnalyticsCore) -> stream_pb2.StreamPosition | None:
    return core.position.message() if core.position is not None else None


def rvol(core: AnalyticsCore, symbol_id: int, measured: Measures) -> analytics_pb2.Rvol:
    """Without the position, which is the enclosing message's to say."""
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
    """Without the position, which is the enclosing message's to say."""
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


def update(kind: str, position: stream_pb2.StreamPosition | None, metrics: Iterable[bytes]) -> bytes:
    """An encoded response of `kind` that holds these encoded SymbolMetrics."""
    head = analytics_pb2.MetricsUpdate(position=position).SerializeToString()
    parts = [head, *(wrap(_UPDATE["metrics"], each) for each in metrics)]
    return ENVELOPE.wrap(kind, *parts)


def _shown(value: float | None) -> float | None:
    return None if value is None else shown(value)


def _time(ns: int | None) -> Timestamp | None:
    if ns is None:
        return None
    time = Timestamp()
    time.FromNanoseconds(ns)
    return time
