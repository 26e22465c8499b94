"""The standby's side: follows the sequencer that leads, and keeps a copy of its market."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from tradeul.v1 import standby_pb2, stream_pb2

from services.data_ingest.standby.journal_feed import ENVELOPE
from services.data_ingest.standby.market_copy import StandbyCopy, frames_of
from services.kit.rpc.channel import Connection, StreamEnded, reason_name, reconnecting
from services.kit.rpc.ring import Position
from services.kit.rpc.sequencers import Sequencers
from services.kit.rpc.wire import message_of
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import NOT_LEADING
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Address

log = get_logger(__name__)

METHOD: Final = "/tradeul.v1.StandbyService/FollowJournal"
# Heartbeats come every half second.
SILENCE_SECONDS: Final = 5.0
ACK_SECONDS: Final = 0.01
# A copy is the leader's as long as that was heard so lately: its lease runs out before, and polygon_ws has forgotten
# nothing that the copy lacks (GONE_SECONDS).
WARM_SECONDS: Final = 8.0
# What is read after such a pause may have waited here while the leader went on without us: it says nothing about now
# before so much more time has passed.
PAUSE_SECONDS: Final = 2.0
SETTLED_SECONDS: Final = 1.0

CONTENTS: Final[dict[str, type[Message]]] = {
    "opened": standby_pb2.JournalOpened,
    "state": standby_pb2.JournalPiece,
    "gaps": standby_pb2.JournalGaps,
    "hash": standby_pb2.JournalHash,
    "going_away": stream_pb2.StreamGoingAway,
}


class JournalFollower:
    """`others`: the addresses of the other sequencers. `set_unhealthy_reason` gets why there is no copy, None while
    there is."""

    def __init__(
        self, others: Sequence[Address], name: str, set_unhealthy_reason: Callable[[str | None], None]
    ) -> None:
        # What came last, also while the leader is away.
        self.copy: StandbyCopy | None = None
        # Of the connection that it is of; and whether its leader shows nothing that its standby lacks.
        self.session: str | None = None
        self.fencing_number: int | None = None
        self.is_synchronous = False
        self.gaps = b""
        self._sequencers = Sequencers(others)
        self._name = name
        self._set_unhealthy_reason = set_unhealthy_reason
        self._backoff = self._sequencers.backoff()
        self._pieces: list[bytes] = []
        self._earlier: list[bytes] = []
        self._progressed = asyncio.Event()
        self._end_reason = ""
        self._opening_session = ""
        self._opening_number = 0
        self._has_opened = False
        # Who was followed last, and whether nobody listens there any more.
        self._leader: Address | str | None = None
        self.is_leader_gone = False
        # Whether the copy is of this connection, and when such a one was last kept up.
        self._is_kept_up = False
        self._heard_at = float("-inf")
        # When the newest message was read, and until when what is read may be old.
        self._read_at = float("-inf")
        self._old_until = float("-inf")

    @property
    def lag_seconds(self) -> float | None:
        """How old the copy may be; None while there is none of this connection."""
        return monotonic() - self._heard_at if self.copy is not None and self._is_kept_up else None

    @property
    def is_warm(self) -> bool:
        """True if the copy was kept up a moment ago. That of an earlier connection lacks what the leader, alone
        meanwhile, has had forgotten."""
        return self.copy is not None and monotonic() - self._heard_at < WARM_SECONDS

    async def run(self) -> None:
        """Follows until cancelled."""
        async with self._sequencers:
            await reconnecting(self._follow, self._ended, self._backoff)

    def _ended(self, reason: str, pause: float) -> None:
        (log.debug if reason == self._end_reason else log.warning)(
            "the leader's journal cannot be followed", reason=reason, again_in=pause
        )
        self._end_reason = reason

    async def _follow(self) -> str:
        """Follows one connection to its end; returns why it ended."""
        sequencers = self._sequencers
        was_silent = self._is_kept_up = self._has_opened = False
        self._opening_session = f"{self._name} {uuid.uuid4().hex}"
        self._pieces.clear()
        self._earlier.clear()
        call: Any = sequencers.channel.stream_stream(METHOD)  # type: ignore[call-arg]
        acks: asyncio.Task[None] | None = None
        try:
            with Connection[bytes](call(), SILENCE_SECONDS) as connection:
                opening = standby_pb2.FollowJournalOpen(standby=self._name, session=self._opening_session)
                await connection.write(standby_pb2.FollowJournalRequest(open=opening).SerializeToString())
                acks = asyncio.create_task(self._acknowledge(connection), name="data_ingest.standby_acks")
                while (end := self._take(await connection.read())) is None:
                    if acks.done():
                        acks.result()
        except StreamEnded as ended:
            end, was_silent = str(ended), ended.is_silence
            if ended.error is not None and reason_name(ended.error) == NOT_LEADING.name:
                end = f"{sequencers.address} does not lead"
            elif not self._has_opened and sequencers.address == self._leader:
                self.is_leader_gone = ended.error is not None and ended.error.code() is grpc.StatusCode.UNAVAILABLE
        except ValueError as error:
            log.error("the copy of the leader's market is of no use, and made again", reason=reason_of(error))
            self.copy = self.session = None
            end = str(error)
        finally:
            if acks is not None:
                acks.cancel()
                await asyncio.gather(acks, return_exceptions=True)
        self._set_unhealthy_reason(f"no leader is followed: {end}")
        sequencers.next(was_silent)
        return end

    def _take(self, message: bytes) -> str | None:
        """Takes one response; returns why to end the connection, None to continue. Raises ValueError."""
        kind, payload = ENVELOPE.read(message)
        self._heard()
        if kind == "entry":
            if self.copy is None or self._pieces:
                raise ValueError("expected the market before entries")
            self.copy.add(payload)
            self._progressed.set()
            # Behind the acknowledgement, for which readers may wait.
            asyncio.get_running_loop().call_soon(self.copy.refresh)
            return None
        if kind == "earlier":
            self._earlier += frames_of(payload)
        if kind not in CONTENTS:
            return None
        content: Any = message_of(CONTENTS[kind], payload)
        if kind == "state":
            self._pieces.append(content.data)
            if content.is_last:
                self.copy = StandbyCopy(b"".join(self._pieces), self._earlier)
                self._earlier = []
                self.session, self.fencing_number = self._opening_session, self._opening_number
                self._pieces.clear()
                self._is_kept_up = True
                self._heard_at = self._read_at = monotonic()
                self._progressed.set()
                self._end_reason = ""
                self._backoff.reset()
                self._set_unhealthy_reason(None)
                log.info("stands by", position=str(self.copy.position), feed=str(self.copy.feed))
        elif kind == "opened":
            self._sequencers.check(content.fencing_number)
            self._opening_number = content.fencing_number
            self.is_synchronous = content.is_synchronous
            self._leader, self._has_opened, self.is_leader_gone = self._sequencers.address, True, False
        elif kind == "gaps":
            self.gaps = content.json
        elif kind == "hash" and self.copy is not None:
            self.copy.check(Position.of(content.position), content.hash)
        elif kind == "going_away":
            return f"going away: {content.reason}"
        return None

    def _heard(self) -> None:
        """A message was read."""
        now = monotonic()
        if now - self._read_at > PAUSE_SECONDS:
            self._old_until = now + SETTLED_SECONDS
        self._read_at = now
        if self._is_kept_up and now >= self._old_until:
            self._heard_at = now

    async def _acknowledge(self, connection: Connection[bytes]) -> None:
        """Tells the leader what is here, soon after it came, until the connection ends."""
        while True:
            await self._progressed.wait()
            self._progressed.clear()
            if (copy := self.copy) is None or not self._is_kept_up:
                # What is left of an earlier connection says nothing about this one.
                continue
            ack = standby_pb2.FollowJournalAck(
                position=copy.position.message(), feed=copy.feed.message() if copy.feed is not None else None
            )
            try:
                await connection.write(standby_pb2.FollowJournalRequest(ack=ack).SerializeToString())
            except StreamEnded:
                # The reading task gets it, too.
                return
            if not self.is_synchronous:
                await asyncio.sleep(ACK_SECONDS)
