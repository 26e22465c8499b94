"""The newest session, encoded once, for every stream."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from tradeul.v1 import market_session_pb2

from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import CLOCK_UNKNOWN

ENVELOPE: Final = Envelope(market_session_pb2.WatchSessionResponse)
CLOCK_MESSAGE: Final = "the mesh's time is not known before the feed's first event"


class SessionBroadcast:
    """Sends the newest session, heartbeats and going_away to all streams.

    A slow stream gets the newest session, not all of them.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._sequence = 0
        self._session: bytes | None = None
        self._pulses = 0
        self._closing: str | None = None
        self._woken = asyncio.Event()

    @property
    def position(self) -> Position:
        """The sequence counts the sessions that were sent."""
        return Position(self._epoch, self._sequence)

    def send(self, session: market_session_pb2.CurrentSession) -> None:
        """Sends it to every stream."""
        self._session = ENVELOPE.wrap("session", session.SerializeToString())
        self._sequence += 1
        self._wake()

    def pulse(self) -> None:
        """Sends a heartbeat to streams that have had nothing else."""
        self._pulses += 1
        self._wake()

    def close(self, reason: str) -> None:
        """Ends every stream with going_away, those to come included."""
        self._closing = reason
        self._wake()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Encoded WatchSessionResponses until close(); raises CLOCK_UNKNOWN before the first session."""
        if self._session is None:
            raise CLOCK_UNKNOWN.error(CLOCK_MESSAGE)
        yield ENVELOPE.opened(self.position)
        sent, pulses = 0, self._pulses
        while True:
            if self._closing is not None:
                yield ENVELOPE.going_away(self.position, self._closing)
                return
            if sent != self._sequence:
                sent, pulses = self._sequence, self._pulses
                yield self._session
            elif pulses != self._pulses:
                pulses = self._pulses
                yield ENVELOPE.heartbeat(self.position)
            else:
                await self._woken.wait()

    def _wake(self) -> None:
        # Those who wait now wake; those who come later wait for the next.
        self._woken.set()
        self._woken = asyncio.Event()
