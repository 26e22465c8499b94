"""The leader's side: what goes into the journal also goes to the sequencers that stand by, and they acknowledge it.

A standby that is too slow, or does not acknowledge, is cut off: it begins again with the market of then.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

import grpc.aio
from tradeul.v1 import journal_pb2, standby_pb2

from fastcore.wire import wrap
from services.data_ingest import metrics
from services.data_ingest.journal.writer import entry_notes
from services.data_ingest.standby.newest_bytes import NewestBytes
from services.data_ingest.standby.synchronous import Synchronous
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.cursor import Broadcast, Subscription, Timers
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import first_request, is_cancel, write_all
from services.kit.runtime.clock import RunningClock, monotonic
from services.kit.runtime.errors import INVALID_REQUEST, NOT_LEADING
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

ENVELOPE: Final = Envelope(standby_pb2.FollowJournalResponse)
PIECE_BYTES: Final = 1 << 20
HEARTBEAT_SECONDS: Final = 0.5
# What may wait for a standby, and how long its acknowledgement may take: then it is cut off, and batches are
# acknowledged without it.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
PATIENCE_SECONDS: Final = 3.0
# One that has gone may take over with what it has, as long as that is warm: WARM_SECONDS by its own clock, from what it
# may have read PAUSE_SECONDS late. So long polygon_ws keeps what it lacks.
GONE_SECONDS: Final = 12.0
# So much longer for the first, which comes when the market has been loaded.
LOADING_SECONDS: Final = 12.0
# Of the newest frames, for readers of who joins; so many are sent at once.
MAX_EARLIER_BYTES: Final = 8 * 1024 * 1024
EARLIER_AT_ONCE: Final = 64
# Of the newest trades, for who joins: by these a standby recognises duplicates.
MAX_IDENTITY_BYTES: Final = 16 * 1024 * 1024
HASH_SECONDS: Final = 30.0
_ALERTS: Final = journal_pb2.JournalState.DESCRIPTOR.fields_by_name["alerts"].number

Request = standby_pb2.FollowJournalRequest
Context = grpc.aio.ServicerContext[Any, Any]


class Follower(Subscription):
    """One standby: the encoded responses that wait for it, and what it has acknowledged.

    `session`: names this connection of it; empty for one that cannot be waited for. `clock`: of the time that it has.
    """

    def __init__(self, timers: Timers, name: str, session: str, clock: Callable[[], float]) -> None:
        super().__init__(timers)
        self.name = name
        self.session = session
        self.has_gone = False
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        # The last batch of polygon_ws and the last frame that it has; of the latter None while it loads.
        self.acknowledged: Position | None = None
        self.position: Position | None = None
        self._clock = clock
        # A frame that it does not have yet, and since when that is due; None when it has everything.
        self._due: tuple[Position, float] | None = (Position(0, 0), clock() + LOADING_SECONDS)
        self._newest = Position(0, 0)

    def add(self, response: bytes, position: Position) -> None:
        self.waiting.append(response)
        self.waiting_bytes += len(response)
        self._newest = position
        if self._due is None:
            self._due = (position, self._clock())
        self.wake()

    @property
    def lag_seconds(self) -> float:
        """How long it has owed an acknowledgement; 0 if it owes none, or may still be loading the market."""
        return max(0.0, self._clock() - self._due[1]) if self._due is not None else 0.0

    def acknowledge(self, ack: standby_pb2.FollowJournalAck) -> None:
        """Takes note of what it has."""
        if ack.HasField("feed"):
            self.acknowledged = Position.of(ack.feed)
        self.position = position = Position.of(ack.position)
        if self._due is not None and position >= self._due[0]:
            metrics.STANDBY_SECONDS.observe(self.lag_seconds)
            has_all = position >= self._newest and not self.waiting
            self._due = None if has_all else (self._newest, self._clock())

    def take(self) -> bytes:
        response = self.waiting.popleft()
        self.waiting_bytes -= len(response)
        self.sent()
        return response


class JournalFeed(Broadcast[Follower]):
    """StandbyService of a leader.

    Args:
        feed_position: gives the last batch of polygon_ws that is in the stream.
        gaps: gives today's gaps as they are kept; empty for none.
        on_acknowledged: is called when more may be acknowledged to polygon_ws.
        identities: by what duplicates are recognised of the trades before.
        synchronous: holds back from readers what the standby does not have; None where they do not wait for it.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        fencing_number: int,
        feed_position: Callable[[], Position | None],
        gaps: Callable[[], bytes],
        on_acknowledged: Callable[[], None] = lambda: None,
        identities: bytes = b"",
        synchronous: Synchronous | None = None,
    ) -> None:
        super().__init__(HEARTBEAT_SECONDS)
        self._synchronous = synchronous
        self._clock = RunningClock()
        self._sequencer = sequencer
        self._fencing_number = fencing_number
        self._feed_position = feed_position
        self._gaps = gaps
        # Those who have gone, perhaps to take over: what they had acknowledged, and when they went.
        self._gone: list[tuple[Position, float]] = []
        self._on_acknowledged = on_acknowledged
        self._identities = NewestBytes(MAX_IDENTITY_BYTES)
        self._identities.add(identities)
        self._parts: list[bytes] = []
        self._shown_gaps = b""
        self._hash_at = 0.0
        self._epoch = sequencer.ring.epoch
        sequencer.follow_entries(self)

    # --- what the sequencer writes down

    def add(self, body: str, message: bytes) -> None:
        """A frame, as SubscribeFrames sends it, which is also how an entry holds it."""
        if self.readers:
            self._parts.append(message)

    def commit(self, feed: Position | None = None, trade_identities: bytes = b"") -> None:
        """Sends what was added since the last call as one entry."""
        self._identities.add(trade_identities)
        if self._sequencer.ring.epoch != self._epoch:
            self._epoch = self._sequencer.ring.epoch
            for follower in self.readers:
                follower.go_away("a new epoch began: begin again with its market")
        parts = [*self._parts, *entry_notes(feed, trade_identities)]
        self._parts.clear()
        if parts and self.readers:
            self._send(ENVELOPE.wrap("entry", *parts))

    # --- what polygon_ws may forget

    def acknowledgeable(self) -> Position | None:
        """The last batch that everybody has who may take over; None for none."""
        newest = self._feed_position()
        if newest is None:
            return None
        positions = [newest, *(each.acknowledged or Position(0, 0) for each in self.readers)]
        now = monotonic()
        self._gone = [each for each in self._gone if now - each[1] < GONE_SECONDS]
        positions += [position for position, _ in self._gone]
        if self._synchronous is not None:
            positions += [each.acknowledged or Position(0, 0) for each in self._synchronous.waited_for]
        least = min(positions)
        return least if least.epoch == newest.epoch else None

    def close(self, reason: str) -> None:
        if self._synchronous is not None:
            self._synchronous.close()
        super().close(reason)

    async def run(self) -> None:
        """Cuts off who does not acknowledge, and sends what is due now and then; until cancelled."""
        if self._synchronous is not None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._synchronous.run(self.readers), name="data_ingest.synchronous")
                tasks.create_task(self._look_after(), name="data_ingest.followers")
            return
        await self._look_after()

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS / 2)
            now = monotonic()
            for follower in tuple(self.readers):
                if follower.lag_seconds > PATIENCE_SECONDS or follower.waiting_bytes > MAX_WAITING_BYTES:
                    log.error("the standby is cut off", standby=follower.name, waiting_bytes=follower.waiting_bytes)
                    self._leave(follower)
                    follower.end(INVALID_REQUEST.error("expected acknowledgements, had none for too long"))
            if self._gone:
                self._on_acknowledged()
            if not self.readers:
                continue
            if (gaps := self._gaps()) != self._shown_gaps:
                self._shown_gaps = gaps
                self._send(ENVELOPE.message("gaps", json=gaps))
            if now >= self._hash_at:
                self._hash_at = now + HASH_SECONDS
                position, number = self._sequencer.hash()
                self._send(ENVELOPE.message("hash", position=position.message(), hash=number))

    # --- StandbyService

    def role(self) -> standby_pb2.SequencerRole:
        """Returns this sequencer's role while it leads."""
        synchronous = self._synchronous
        return standby_pb2.SequencerRole(
            role=standby_pb2.SequencerRole.LEADER,
            position=self._sequencer.committed.position.message(),
            is_synchronous=synchronous is not None,
            is_in_sync=synchronous is not None and synchronous.is_in_sync,
        )

    async def FollowJournal(self, requests: AsyncIterator[Request], context: Context) -> None:
        opening = (await first_request(requests)).open
        if self._closing is not None:
            # Its copy of a moment ago is what the lease may name.
            raise NOT_LEADING.error(self._closing)
        name = opening.standby
        follower = Follower(self.timers, name, opening.session, self._clock)
        log.info("a standby follows", standby=name)
        writing = asyncio.create_task(write_all(self._messages(follower), context), name="data_ingest.standby_write")
        reading = asyncio.create_task(self._read(requests, follower), name="data_ingest.standby_read")
        try:
            done, _ = await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)
            log.warning("a standby follows no more", standby=name)

    async def _read(self, requests: AsyncIterator[Request], follower: Follower) -> None:
        """Takes acknowledgements until the standby cancels or goes."""
        async for request in requests:
            if is_cancel(request):
                return
            follower.acknowledge(request.ack)
            if self._synchronous is not None:
                self._synchronous.acknowledged(follower)
            self._on_acknowledged()

    async def _messages(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        yield ENVELOPE.message(
            "opened", fencing_number=self._fencing_number, is_synchronous=self._synchronous is not None
        )
        # No frame may come between the market and the entries that follow it.
        state = memoryview(self._state())
        earlier = self._earlier()
        follower.add(ENVELOPE.message("gaps", json=self._gaps()), self._sequencer.position)
        with self.joined(follower), contextlib.ExitStack() as leaving:
            leaving.callback(self._leave, follower)
            for first in range(0, len(earlier), EARLIER_AT_ONCE):
                yield ENVELOPE.wrap("earlier", *earlier[first : first + EARLIER_AT_ONCE])
            for start in range(0, len(state), PIECE_BYTES):
                piece = bytes(state[start : start + PIECE_BYTES])
                yield ENVELOPE.message("state", data=piece, is_last=start + PIECE_BYTES >= len(state))
            while not follower.is_over:
                if follower.waiting:
                    yield follower.take()
                elif follower.closing is not None:
                    yield ENVELOPE.going_away(self._sequencer.position, follower.closing)
                    return
                elif not await follower.wait():
                    yield ENVELOPE.heartbeat(self._sequencer.position)
            follower.raise_error()

    def _leave(self, follower: Follower) -> None:
        """It may have gone in order to take over: polygon_ws keeps what it lacks for as long as it may."""
        if follower in self.readers:
            self.readers.discard(follower)
            self._gone.append((follower.acknowledged or Position(0, 0), monotonic()))
            follower.has_gone = True
            if self._synchronous is not None:
                self._synchronous.look()

    def _state(self) -> bytes:
        """An encoded JournalState of now, baselines included."""
        now = self._sequencer.market_at(True)
        feed = self._feed_position()
        state = journal_pb2.JournalState(
            head=journal_pb2.JournalHead(position=now.position.message()),
            feed=feed.message() if feed is not None else None,
            trade_identities=self._identities.joined(),
            market=bytes(now.data),
        )
        if now.trading_day is not None:
            state.trading_day.ParseFromString(now.trading_day)
        return state.SerializeToString() + b"".join(wrap(_ALERTS, alert) for alert in now.alerts)

    def _earlier(self) -> list[bytes]:
        """The newest frames until now, which readers may need who are behind."""
        ring = self._sequencer.ring
        first = ring.newest + 1
        while first > ring.oldest and ring.span_bytes(first - 1, ring.newest) <= MAX_EARLIER_BYTES:
            first -= 1
        return [ring.get(sequence) for sequence in range(first, ring.newest + 1)]

    def _send(self, response: bytes) -> None:
        for follower in self.readers:
            if follower.closing is None:
                follower.add(response, self._sequencer.position)
