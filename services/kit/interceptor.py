"""What happens around every RPC: metrics, a log line for our defects, errors as google.rpc.Status."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.kit.clock import monotonic
from services.kit.errors import DOMAIN, INTERNAL, Reason, ServiceError
from services.kit.logging import get_logger
from services.kit.metrics import RPC_HANDLED, RPC_OPEN, RPC_SECONDS

log = get_logger(__name__)

RETRY_AFTER_SECONDS = 1


def status_of(reason: Reason, message: str, metadata: dict[str, str]) -> status_pb2.Status:
    """The error model's status: one ErrorInfo, and a RetryInfo when trying again can help."""
    info = error_details_pb2.ErrorInfo(reason=reason.name, domain=DOMAIN, metadata=metadata)
    details = [info]
    if reason.retryable:
        delay = duration_pb2.Duration(seconds=RETRY_AFTER_SECONDS)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code_pb2.Code.Value(reason.code), message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError) -> None:
    """Ends the RPC with the error's status; raises AbortError, as context.abort does."""
    await context.abort_with_status(  # type: ignore[attr-defined]
        rpc_status.to_status(status_of(error.reason, error.message, error.metadata))
    )


class MeshInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its types only
    """Wraps every handler of a server."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[grpc.RpcMethodHandler[Any, Any]]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        if handler.response_streaming:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(_streaming(method, behaviour), handler.request_deserializer, handler.response_serializer)
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(_unary(method, behaviour), handler.request_deserializer, handler.response_serializer)


def _unary(method: str, behaviour: Any) -> Any:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        began = monotonic()
        async with _observed(method, context):
            answer = await behaviour(request, context)
        RPC_SECONDS.labels(method).observe(monotonic() - began)
        return answer

    return handle


def _streaming(method: str, behaviour: Any) -> Any:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async with _observed(method, context):
            answer = behaviour(request, context)
            if not hasattr(answer, "__aiter__"):
                # A coroutine that writes by itself.
                await answer
                return
            async with contextlib.aclosing(answer):
                async for message in answer:
                    yield message

    return handle


@contextlib.asynccontextmanager
async def _observed(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    RPC_OPEN.labels(method).inc()
    code = "OK"
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        code = "CANCELLED"
        raise
    except grpc.aio.AbortError:
        code = _name(context.code())
        raise
    except ServiceError as error:
        code = error.reason.code
        await abort(context, error)
    except Exception as error:
        code = INTERNAL.code
        log.exception("rpc failed", method=method)
        await abort(context, INTERNAL.error(f"internal error: {type(error).__name__}"))
    finally:
        RPC_OPEN.labels(method).dec()
        RPC_HANDLED.labels(method, code).inc()


def _name(code: grpc.StatusCode | int | None) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return "UNKNOWN" if code is None else code_pb2.Code.Name(code)
