"""The newest session, encoded once, for every stream."""

from collections.abc import AsyncGenerator
from typing import Final

from tradeul.v1 import market_session_pb2

from services.kit.rpc.cursor import Broadcast, Subscription
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import CLOCK_UNKNOWN

ENVELOPE: Final = Envelope(market_session_pb2.WatchSessionResponse)
HEARTBEAT_SECONDS: Final = 10.0
CLOCK_MESSAGE: Final = "the mesh's time is not known before the feed's first event"


class SessionBroadcast(Broadcast[Subscription]):
    """Sends the newest session to all streams; a slow one gets the newest, not all of them."""

    def __init__(self, epoch: int, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        super().__init__(heartbeat_seconds)
        self._epoch = epoch
        self._sequence = 0
        self._session: bytes | None = None

    @property
    def position(self) -> Position:
        """The sequence counts the sessions that were sent."""
        return Position(self._epoch, self._sequence)

    def send(self, session: market_session_pb2.CurrentSession) -> None:
        """Sends it to every stream."""
        self._session = ENVELOPE.wrap("session", session.SerializeToString())
        self._sequence += 1
        self.wake()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Encoded WatchSessionResponses until close(); raises CLOCK_UNKNOWN before the first session."""
        if self._session is None:
            raise CLOCK_UNKNOWN.error(CLOCK_MESSAGE)
        with self.joined(Subscription(self.timers)) as subscription:
            yield ENVELOPE.opened(self.position)
            sent = 0
            while subscription.closing is None:
                if sent != self._sequence:
                    sent = self._sequence
                    subscription.sent()
                    yield self._session
                elif not await subscription.wait():
                    yield ENVELOPE.heartbeat(self.position)
            yield ENVELOPE.going_away(self.position, subscription.closing)
