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
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.sources import Source

log = get_logger(__name__)

# A scanner that sends nothing for so long is given up, and the changes are requested again.
SILENCE_SECONDS: Final = 3.0

OpenStream = Callable[..., "grpc.aio.StreamStreamCall[bytes, bytes]"]
TakeDelta = Callable[[memoryview], None]
# Hands on the encoded ListDeltas after a position, up to a sequence; raises PastGone, StreamEnded, ValueError.
FetchPast = Callable[[Position, int, TakeDelta], Awaitable[None]]


class PastGone(Exception):
    """The scanner does not hold these changes."""


class PastChanges:
    """Puts what clients miss before what `feed` holds: one request to the scanner at a time, whoever waits for it.

    `on_end` is called when it has been answered, or has failed: what a client misses is held then, or `can_come` is
    False, or it is to be requested again. How long a client waits is decided by whoever requests.
    """

    def __init__(self, feed: ListFeed, max_changes: int, on_end: Callable[[], None]) -> None:
        # None until the list is followed.
        self.fetch: FetchPast | None = None
        self._feed = feed
        self._max_changes = max_changes
        self._on_end = on_end
        self._fetching: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        # Changes after this position, or an earlier one, are gone, and why; and those that one scanner does not hold.
        self._gone = self._doubtful = Position(0, 0)
        self._why_gone = ""

    def can_come(self, requested: Position) -> bool:
        """True if not all changes after `requested` are held here, and the scanner may still have them."""
        return (
            self.fetch is not None
            and requested < self._feed.position
            and not self._feed.holds_after(requested.sequence)
            and not self.lost_reason(requested)
        )

    def lost_reason(self, requested: Position) -> str:
        """Why changes after `requested`, a position before the newest, cannot come; "" while they may."""
        newest = self._feed.position
        if requested.epoch != newest.epoch:
            return "another epoch"
        if newest.sequence - requested.sequence > self._max_changes:
            return f"more than {self._max_changes} changes"
        if self._feed.has_dropped:
            return "more changes than are held"
        return self._why_gone if requested <= self._gone else ""

    def request(self, requested: Position) -> None:
        """Requests the changes after `requested`, unless a request is under way already."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._bring(requested), name="websocket_server.past_changes")

    def close(self) -> None:
        """Ends the request that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None

    async def _bring(self, requested: Position) -> None:
        assert self.fetch is not None, "can_come() first"
        feed, frames = self._feed, list[bytes]()
        try:
            await self.fetch(requested, feed.oldest - 1, lambda list_delta: frames.append(feed.past_change(list_delta)))
            # Does nothing where the list was replaced meanwhile: what is before it now is requested then.
            feed.prepend(requested, frames)
            self._backoff.reset()
        except PastGone as error:
            self._not_held(requested, str(error))
        except ValueError as error:
            self._lose(requested, reason_of(error))
        except StreamEnded as ended:
            if ended.is_refusal:
                self._lose(requested, reason_of(ended))
            else:
                # Of the changes this says nothing: a scanner that is replaced ends its streams.
                pause = self._backoff.next()
                log.info("past changes did not come", list=feed.name, reason=reason_of(ended), again_in=pause)
                await asyncio.sleep(pause)
        self._fetching = None
        self._on_end()

    def _not_held(self, requested: Position, reason: str) -> None:
        """Notes that a scanner does not hold what follows `requested`; another one that has run for longer may."""
        if requested <= self._doubtful:
            self._lose(requested, reason)
        self._doubtful = max(self._doubtful, requested)

    def _lose(self, requested: Position, reason: str) -> None:
        log.info("a position is gone", list=self._feed.name, position=str(requested), reason=reason)
        if requested > self._gone:
            self._gone, self._why_gone = requested, reason


async def fetch_past(open_stream: OpenStream, source: Source, after: Position, until: int, take: TakeDelta) -> None:
    """Reads a list's changes after a position, up to the sequence `until`, by a stream of their own; see FetchPast."""
    with Connection[bytes](open_stream(None), SILENCE_SECONDS) as connection:
        await connection.write(source.open_request(after).SerializeToString())
        sequence = after.sequence
        while sequence < until:
            kind, payload = LIST.read(await connection.read())
            if kind == "delta":
                take(payload)
                sequence += 1
            elif kind == "reset":
                raise PastGone(message_of(stream_pb2.StreamReset, payload).reason)
            elif kind == "snapshot":
                raise PastGone("the scanner answers with a snapshot")
            elif kind == "going_away":
                raise StreamEnded(f"going away: {message_of(stream_pb2.StreamGoingAway, payload).reason}")
