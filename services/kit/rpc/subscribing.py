"""The server's side of a bidirectional subscription: open comes first, then acks, and perhaps cancel (stream.proto)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, TypeVar

import grpc.aio

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_REQUEST, OPEN_EXPECTED, OPEN_REPEATED

Request = TypeVar("Request")
# Metadata of a request for the headers of a stream.
HEAD: Final = "x-tradeul-head"
# The gateway adds the client's address to it.
FORWARDED: Final = "x-forwarded-for"
Context = grpc.aio.ServicerContext[Any, Any]


async def first_request(requests: AsyncIterator[Request], kinds: tuple[str, ...] = ("open",)) -> Request:
    """The client's first message; raises OPEN_EXPECTED when that is none of `kinds`."""
    first = await anext(aiter(requests), None)
    if first is None or _kind(first) not in kinds:
        raise OPEN_EXPECTED.error(f"expected {' or '.join(kinds)} as the first message")
    return first


def requested_position(request: Any) -> Position | None:
    """The position after which a client continues; None when it has none."""
    return Position.of(request.position) if request.HasField("position") else None


async def serve(
    messages: AsyncGenerator[bytes, None],
    requests: AsyncIterator[Any],
    context: Context,
    acknowledge: Callable[[Position], None] = lambda position: None,
) -> None:
    """Writes the messages to their end, or until the client cancels; one that only stops sending continues reading.

    Raises what the messages and `acknowledge` raise, OPEN_REPEATED and INVALID_REQUEST. The messages are closed.
    """
    writing = asyncio.create_task(write_all(messages, context), name="subscribing.write")
    reading = asyncio.create_task(_is_cancelled(requests, acknowledge), name="subscribing.read")
    try:
        await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and not writing.done() and not reading.result():
            await writing
        if writing.done():
            writing.result()
    finally:
        for task in (writing, reading):
            task.cancel()
        await asyncio.gather(writing, reading, return_exceptions=True)


def is_head(context: Context) -> bool:
    """True if a stream is only to be checked and to end before its first message (gateway/rest.lua)."""
    return _has_header(context, HEAD)


def is_through_gateway(context: Context) -> bool:
    """True for the request of a client outside the mesh; one of the mesh's own services comes directly."""
    return _has_header(context, FORWARDED)


def _has_header(context: Context, wanted: str) -> bool:
    return any(name == wanted for name, _ in context.invocation_metadata() or ())


async def write_all(messages: AsyncGenerator[bytes, None], context: Context) -> None:
    """Writes each message when the transport has taken the one before, none for a HEAD; closes them."""
    async with contextlib.aclosing(messages):
        if is_head(context):
            return
        async for message in messages:
            await context.write(message)


async def _is_cancelled(requests: AsyncIterator[Any], acknowledge: Callable[[Position], None]) -> bool:
    """Takes acknowledgements; True when the client cancels, False when it only stops sending."""
    async for request in requests:
        if is_cancel(request):
            return True
        acknowledge(Position.of(request.ack.position))
    return False


def is_cancel(request: Any) -> bool:
    """True if the client ends its stream, False for an ack; raises INVALID_REQUEST, OPEN_REPEATED for anything else."""
    kind = _kind(request)
    if kind is None:
        raise INVALID_REQUEST.error("expected open, ack or cancel, was an empty message")
    if kind not in ("ack", "cancel"):
        raise OPEN_REPEATED.error("expected open as the first message only")
    return kind == "cancel"


def _kind(request: Any) -> str | None:
    kind: str | None = request.WhichOneof("request")
    return kind
