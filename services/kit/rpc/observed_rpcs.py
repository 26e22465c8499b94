"""Surrounds every RPC: metrics, spans, limits of keys, a log line for our defects, errors as google.rpc.Status."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.kit.rpc.key_streams import KeyStreams, RequestKey
from services.kit.rpc.tls import check_peer
from services.kit.runtime.clock import NS_PER_SECOND, monotonic
from services.kit.runtime.errors import DOMAIN, INTERNAL, Reason, ServiceError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.metrics import RPC_HANDLED, RPC_OPEN, RPC_SECONDS

if TYPE_CHECKING:
    from services.kit.runtime.spans import RequestSpan, Traces

log = get_logger(__name__)

RETRY_AFTER_SECONDS = 1


def status_of(
    reason: Reason, message: str, metadata: dict[str, str], retry_seconds: float | None = None
) -> status_pb2.Status:
    """Returns the error model's status: one ErrorInfo, and a RetryInfo when trying again, after a pause, can help."""
    info = error_details_pb2.ErrorInfo(reason=reason.name, domain=DOMAIN, metadata=metadata)
    details = [info]
    if reason.retryable:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round((retry_seconds or RETRY_AFTER_SECONDS) * NS_PER_SECOND))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_pb2.Code.Value(reason.code), message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError) -> None:
    """Ends the RPC with the error's status; raises AbortError, as context.abort does."""
    status = rpc_status.to_status(status_of(error.reason, error.message, error.metadata))
    if error.reason.code == "RESOURCE_EXHAUSTED" and error.reason.retryable:
        # A header of HTTP's response, whose clients may not know RetryInfo.
        again = ("retry-after", str(RETRY_AFTER_SECONDS))
        status = status._replace(trailing_metadata=(*status.trailing_metadata, again))  # type: ignore[attr-defined]
    await context.abort_with_status(status)  # type: ignore[attr-defined]


class ObservedServer(grpc.aio.Server):
    """A server that observes each handler that is added to it.

    It is cheaper than a grpc.aio.ServerInterceptor, which is looked up again at every RPC. Registered methods are left
    out, for what is registered is among the generic handlers, too: the server's main loop waits for a future of
    each of them at every RPC, whichever method it is of.
    `peer_name` is the name that the certificate of each client must have; empty where there are none.
    `traces`: None where traces are off.
    """

    def __init__(
        self, server: grpc.aio.Server, key_streams: KeyStreams, peer_name: str = "", traces: "Traces | None" = None
    ) -> None:
        self._server = server
        self._surroundings = _Surroundings(key_streams, peer_name, traces)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: "Iterable[grpc.GenericRpcHandler[Any, Any]]") -> None:
        self._server.add_generic_rpc_handlers(
            tuple(_ObservedHandlers(each, self._surroundings) for each in generic_rpc_handlers)
        )

    def add_registered_method_handlers(self, service_name: str, method_handlers: object) -> None:
        """Ignored; generated code calls it besides add_generic_rpc_handlers()."""

    def add_insecure_port(self, address: str) -> int:
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        return self._server.add_secure_port(address, server_credentials)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float | None = None) -> None:
        await self._server.stop(grace)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  grpc's own
        return await self._server.wait_for_termination(timeout)


class _Surroundings(NamedTuple):
    """Holds for all methods of a server; see ObservedServer."""

    key_streams: KeyStreams
    peer_name: str
    traces: "Traces | None"


class _ObservedHandlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its types only
    def __init__(self, handlers: "grpc.GenericRpcHandler[Any, Any]", surroundings: _Surroundings) -> None:
        self._handlers = handlers
        self._surroundings = surroundings
        # By the method's full name.
        self._observed: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        method = handler_call_details.method
        observed = self._observed.get(method)
        # Names that nobody has are not kept: there is no end of them.
        if observed is None and (handler := self._handlers.service(handler_call_details)) is not None:
            observed = self._observed[method] = _wrap(handler, _Observed(method, self._surroundings))
        return observed


def _wrap(handler: "grpc.RpcMethodHandler[Any, Any]", observed: "_Observed") -> "grpc.RpcMethodHandler[Any, Any]":
    if handler.response_streaming:
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make(_streaming(behaviour, observed), handler.request_deserializer, handler.response_serializer)
    behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
    make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    return make(_unary(behaviour, observed), handler.request_deserializer, handler.response_serializer)


def _unary(behaviour: Any, observed: "_Observed") -> Any:
    seconds = RPC_SECONDS.labels(observed.method)

    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        began = monotonic()
        span = observed.begin(context)
        try:
            observed.check_peer(context)
            answer = await behaviour(request, context)
        except BaseException as error:
            await observed.end_with(error, context, span)
            raise
        observed.end(span)
        seconds.observe(monotonic() - began)
        return answer

    return handle


def _streaming(behaviour: Any, observed: "_Observed") -> Any:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        span = observed.begin(context)
        ending = _Ending()
        try:
            observed.check_peer(context)
            with observed.key_streams.opened(RequestKey.of_context(context), ending.end):
                writer = _Writer(context)
                answer = behaviour(request, writer)
                if not hasattr(answer, "__aiter__"):
                    # A coroutine that writes by itself.
                    await answer
                else:
                    async with contextlib.aclosing(answer):
                        async for message in answer:
                            await writer.write(message)
        except BaseException as error:
            await observed.end_with(ending.reason_of(error), context, span)
            raise
        observed.end(span)

    return handle


class _Writer:
    """The context of a streaming RPC whose first write is over before a task that writes can be cancelled.

    The headers go with it, and only when it is over does gRPC know that they have gone: an RPC that is refused earlier
    would be given headers and a status, which fails, and the client would wait for its end in vain.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self.write = self._write_first

    async def _write_first(self, message: Any) -> None:
        self.write = self._context.write
        writing = asyncio.ensure_future(self._context.write(message))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class _Ending:
    """Ends the RPC of the present task when its key is revoked or has expired."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._reason: ServiceError | None = None

    def end(self, reason: ServiceError) -> None:
        assert self._task is not None, "an RPC runs in a task"
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    def reason_of(self, error: BaseException) -> BaseException:
        """Returns why the RPC ends with `error`: the client has cancelled it, or its key gives no access any more."""
        if self._reason is None or not isinstance(error, asyncio.CancelledError) or self._task is None:
            return error
        self._task.uncancel()
        return self._reason


class _Observed:
    """One method's metrics, looked up once, its spans, and the statuses that its errors become."""

    def __init__(self, method: str, surroundings: _Surroundings) -> None:
        self.method = method
        self.key_streams = surroundings.key_streams
        self._peer_name = surroundings.peer_name
        self._traces = surroundings.traces
        self._open = RPC_OPEN.labels(method)
        self._ok = RPC_HANDLED.labels(method, "OK")

    def check_peer(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raises PEER_NOT_ALLOWED for a client that is not of the mesh, where the mesh has certificates."""
        if self._peer_name:
            check_peer(context, self._peer_name)

    def begin(self, context: grpc.aio.ServicerContext[Any, Any]) -> "RequestSpan | None":
        """Counts an RPC; returns its span if it is traced."""
        self._open.inc()
        if self._traces is None:
            return None
        return self._traces.begin_request(self.method, context.invocation_metadata() or ())

    def end(self, span: "RequestSpan | None") -> None:
        self._open.dec()
        self._ok.inc()
        if span is not None:
            span.end("OK")

    async def end_with(
        self, error: BaseException, context: grpc.aio.ServicerContext[Any, Any], span: "RequestSpan | None"
    ) -> None:
        """Ends the RPC by the error's status, which raises AbortError; returns if the error propagates unchanged."""
        code = INTERNAL.code
        try:
            if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
                code = "CANCELLED"
            elif isinstance(error, grpc.aio.AbortError):
                code = _name(context.code())
            elif isinstance(error, ServiceError):
                code = error.reason.code
                self.key_streams.count_refusal(RequestKey.of_context(context), error)
                await abort(context, error)
            elif isinstance(error, Exception):
                log.exception("rpc failed", method=self.method)
                await abort(context, INTERNAL.error(f"internal error: {type(error).__name__}"))
        finally:
            self._open.dec()
            RPC_HANDLED.labels(self.method, code).inc()
            if span is not None:
                span.end(code)


def _name(code: grpc.StatusCode | int | None) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return "UNKNOWN" if code is None else code_pb2.Code.Name(code)
