"""The spans of one service (tracing.py says of what), made and sent by OpenTelemetry's SDK.

Loaded where traces are on only: the SDK takes a tenth of a second, and memory.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from services.kit.runtime.setting_groups import TraceSettings
from services.kit.runtime.tracing import HEADER, Refresh, Step, traceparent

Attributes = Mapping[str, str | int]
# A span is sent at most so long after its end.
EXPORT_MS: Final = 1000
# So long a receiver that is away can hold up a service's end.
SEND_SECONDS: Final = 2.0
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
# The codes of gRPC that are the service's fault, or the mesh's.
_FAULTS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class _Ids(IdGenerator):
    """Random ids, but those that are given for the next span."""

    def __init__(self) -> None:
        self.next_trace_id = 0
        self.next_span_id = 0

    def generate_trace_id(self) -> int:
        given, self.next_trace_id = self.next_trace_id, 0
        return given or random.getrandbits(127) + 1

    def generate_span_id(self) -> int:
        given, self.next_span_id = self.next_span_id, 0
        return given or random.getrandbits(63) + 1


class RequestSpan:
    """The span of a request that is under way."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, code: str) -> None:
        """Ends it with a status code's name."""
        self._span.set_attribute("rpc.response.status_code", code)
        if code in _FAULTS:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Traces:
    """Makes the spans of one service. They are sent by a thread, and dropped where that is too slow."""

    def __init__(self, settings: TraceSettings, service: str) -> None:
        self._one_refresh_of = settings.refreshes
        self._ids = _Ids()
        self._provider = TracerProvider(
            # A request of which the gateway has decided otherwise has no span.
            sampler=DEFAULT_ON,
            resource=Resource.create({SERVICE_NAME: service}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(settings.otlp_url, timeout=SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_MS))
        self._tracer = self._provider.get_tracer("tradeul")
        self._propagator = TraceContextTextMapPropagator()

    async def close(self) -> None:
        """Sends what has not been sent."""
        await asyncio.to_thread(self._provider.shutdown)

    def sampled(self, epoch: int, time_ns: int) -> Refresh | None:
        """Returns the refresh if it is one of those that are traced."""
        refresh = Refresh(epoch, time_ns)
        return refresh if refresh.is_sampled(self._one_refresh_of) else None

    def add(
        self,
        name: str,
        refresh: Refresh,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        *,
        parent: Step | None,
        step: Step | None = None,
    ) -> None:
        """Adds the span of a sampled refresh, from `start_ns` to `end_ns` by the wall clock.

        `parent` is the step that it continues, None for the first one; `step` itself, if others continue it.
        """
        context = Context()
        if parent is not None:
            given = SpanContext(refresh.trace_id, refresh.span_id(parent), is_remote=True, trace_flags=_SAMPLED)
            context = set_span_in_context(NonRecordingSpan(given), context)
        self._ids.next_trace_id = 0 if parent is not None else refresh.trace_id
        self._ids.next_span_id = 0 if step is None else refresh.span_id(step)
        span = self._tracer.start_span(name, context, SpanKind.INTERNAL, attributes, start_time=start_ns)
        span.end(max(start_ns, end_ns))

    def begin_request(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> RequestSpan | None:
        """Begins the span of a request that is part of a sampled trace; None for any other."""
        header = next((value for name, value in metadata if name == HEADER), None)
        if not isinstance(header, str):
            return None
        parent = self._propagator.extract({HEADER: header}, Context())
        name = method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        if not parent:
            return None
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        if not span.is_recording():
            return None
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span, Context()))
        traceparent.set(carrier[HEADER])
        return RequestSpan(span)
