"""The server's side of a bidirectional subscription whose client says open, acks, and perhaps cancel (stream.proto)."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

import grpc.aio

from services.kit.runtime.errors import INVALID_REQUEST, OPEN_EXPECTED, OPEN_REPEATED

Request = TypeVar("Request")
Context = grpc.aio.ServicerContext[Any, Any]


async def opening(requests: AsyncIterator[Request]) -> Request:
    """The client's first message; raises OPEN_EXPECTED when that is not its opening."""
    first = await anext(aiter(requests), None)
    if first is None or _kind(first) != "open":
        raise OPEN_EXPECTED.error("expected open as the first message")
    return first


async def write_until_cancelled(
    stream: AsyncGenerator[Any, None], requests: AsyncIterator[Any], context: Context
) -> None:
    """Writes the stream to its end or until the client cancels; its end of sending is not its end of listening.

    Raises what the stream raises, OPEN_REPEATED and INVALID_REQUEST. The stream is closed.
    """
    writing = asyncio.create_task(_write(stream, context), name="subscribing.write")
    reading = asyncio.create_task(_is_cancelled(requests), name="subscribing.read")
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


async def _write(stream: AsyncGenerator[Any, None], context: Context) -> None:
    async with contextlib.aclosing(stream):
        async for message in stream:
            await context.write(message)


async def _is_cancelled(requests: AsyncIterator[Any]) -> bool:
    """Whether the client cancelled, else it has only stopped sending."""
    async for request in requests:
        kind = _kind(request)
        if kind == "cancel":
            return True
        if kind == "open":
            raise OPEN_REPEATED.error("expected open as the first message only")
        if kind != "ack":
            raise INVALID_REQUEST.error("expected open, ack or cancel, was an empty message")
    return False


def _kind(request: Any) -> str | None:
    kind: str | None = request.WhichOneof("request")
    return kind
