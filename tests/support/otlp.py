"""A receiver of spans, as a collector is one: OTLP over gRPC."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

WAIT_SECONDS = 60.0


class Received(NamedTuple):
    """A span. `parent` is "" for the first of a trace."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, Any]
    start_ns: int
    end_ns: int


class SpanReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """`async with SpanReceiver() as receiver`: `receiver.url` takes spans inside."""

    def __init__(self) -> None:
        self.traces: dict[str, list[Received]] = defaultdict(list)
        self._came = asyncio.Event()

    async def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            of_resource = _values(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._add(str(of_resource["service.name"]), span)
        self._came.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def trace(self, is_it: Callable[[list[Received]], bool]) -> list[Received]:
        """Waits for a trace of which that is true, and returns its spans."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    self._came.clear()
                    for spans in self.traces.values():
                        if is_it(spans):
                            return spans
                    await self._came.wait()
        except TimeoutError:
            kinds = {tuple(sorted({span.service for span in spans})) for spans in self.traces.values()}
            raise AssertionError(f"expected such a trace, were {len(self.traces)} of {sorted(kinds)}") from None

    def _add(self, service: str, span: Any) -> None:
        received = Received(
            service,
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _values(span.attributes),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
        )
        self.traces[received.trace].append(received)

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(0)


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
