"""A list's changes from before it was followed here, for clients that come from another server with their positions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc.aio
from tradeul.v1 import stream_pb2

from services.kit.rpc.channel import Connection, StreamEnded
from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.sources import Source

log = get_logger(__name__)

# Clients that wait for longer are sent the whole list.
FETCH_SECONDS: Final = 3.0

OpenStream = Callable[..., "grpc.aio.StreamStreamCall[bytes, bytes]"]
TakeDelta = Callable[[memoryview], None]
# Hands on the encoded ListDeltas after a position, up to a sequence; raises PastGone, StreamEnded, ValueError.
FetchPast = Callable[[Position, int, TakeDelta], Awaitable[None]]


class PastGone(Exception):
    """The scanner no longer holds these changes."""


class PastChanges:
    """Puts what clients miss before what `feed` holds: one request to the scanner at a time, whoever waits for it.

    `on_end` is called when it has been answered: what a client misses is held then, or `can_come` is False.
    """

    def __init__(self, feed: ListFeed, max_changes: int, on_end: Callable[[], None]) -> None:
        # None until the list is followed.
        self.fetch: FetchPast | None = None
        self._feed = feed
        self._max_changes = max_changes
        self._on_end = on_end
        self._fetching: asyncio.Task[None] | None = None
        # Changes after this position, or an earlier one, are gone.
        self._gone = Position(0, 0)

    def can_come(self, requested: Position) -> bool:
        """True if not all changes after `requested` are held here, and the scanner may still have them."""
        newest = self._feed.position
        return (
            self.fetch is not None
            and self._gone < requested < newest
            and requested.epoch == newest.epoch
            and not self._feed.holds_after(requested.sequence)
            and not self._feed.has_dropped
            and newest.sequence - requested.sequence <= self._max_changes
        )

    def request(self, requested: Position) -> None:
        """Requests the changes after `requested`, unless a request is under way already."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._bring(requested), name="websocket_server.past_changes")

    def close(self) -> None:
        """Ends the request that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _bring(self, requested: Position) -> None:
        assert self.fetch is not None, "can_come() first"
        feed, frames, are_here = self._feed, list[bytes](), False
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                await self.fetch(
                    requested, feed.oldest - 1, lambda list_delta: frames.append(feed.past_change(list_delta))
                )
            feed.prepend(requested, frames)
            are_here = feed.holds_after(requested.sequence)
            if not are_here:
                raise PastGone("too far behind: these changes are more than is held")
        except (PastGone, StreamEnded, TimeoutError, ValueError) as error:
            log.info("a position is gone", list=feed.name, position=str(requested), reason=reason_of(error))
        finally:
            if not are_here:
                self._gone = max(self._gone, requested)
            self._fetching = None
            self._on_end()


async def fetch_past(open_stream: OpenStream, source: Source, after: Position, until: int, take: TakeDelta) -> None:
    """Reads a list's changes after a position, up to the sequence `until`, by a stream of their own; see FetchPast."""
    with Connection[bytes](open_stream(None), FETCH_SECONDS) as connection:
        await connection.write(source.open_request(after).SerializeToString())
        sequence = after.sequence
        while sequence < until:
            kind, payload = LIST.read(await connection.read())
            if kind == "delta":
                take(payload)
                sequence += 1
            elif kind == "reset":
                raise PastGone(message_of(stream_pb2.StreamReset, payload).reason)
            elif kind in ("snapshot", "going_away"):
                raise PastGone(f"the scanner answers with {kind}")
