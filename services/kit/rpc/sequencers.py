"""Where readers look for the sequencer: at the address of the only one, or at several, of which one leads.

A reader stays with the one that serves it. When that ends, refuses or falls silent, it tries the next one. The number
of the lease under which a sequencer leads only ever grows: one with a smaller number than was seen led earlier, and is
not believed any more.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, TypeAlias

import grpc.aio

from services.kit.rpc.channel import open_channel
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import NOT_LEADING
from services.kit.runtime.settings import Address

# The address of the only sequencer, or those of several.
SequencerTarget: TypeAlias = Address | str | Sequence[Address]

# With several sequencers a takeover is noticed by silence: the stream has a watermark at least once a second.
SILENCE_SECONDS: Final = 1.75
LONGEST_PAUSE_SECONDS: Final = 0.2
# One that said nothing is left alone for so long, while the others are asked.
SILENT_SECONDS: Final = 1.5


class Sequencers:
    """The addresses in turn; `async with` opens a channel to each, and closes them."""

    def __init__(self, target: SequencerTarget) -> None:
        # An address is a tuple, too.
        self._addresses: tuple[Address | str, ...] = (target,) if isinstance(target, str | Address) else tuple(target)
        self._turn = 0
        # When one was left because it said nothing.
        self._silent_at = [float("-inf")] * len(self._addresses)
        self._newest_number = 0
        self._channels: list[grpc.aio.Channel] = []
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._channels = [await self._closing.enter_async_context(open_channel(each)) for each in self._addresses]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    @property
    def are_several(self) -> bool:
        return len(self._addresses) > 1

    @property
    def address(self) -> Address | str:
        """Of the one whose turn it is."""
        return self._addresses[self._turn]

    @property
    def channel(self) -> grpc.aio.Channel:
        """To the one whose turn it is."""
        return self._channels[self._turn]

    def backoff(self) -> Backoff:
        """The pauses between attempts: short ones where another sequencer takes over within seconds."""
        return Backoff(longest=LONGEST_PAUSE_SECONDS) if self.are_several else Backoff()

    def silence_seconds(self, usual: float) -> float:
        """How long nothing may come before the stream counts as ended; `usual` where there is nobody else to ask."""
        return min(usual, SILENCE_SECONDS) if self.are_several else usual

    def next(self, was_silent: bool = False) -> None:
        """The stream has ended: it is the next one's turn. `was_silent`: it said nothing, and is not asked soon."""
        now = monotonic()
        if was_silent:
            self._silent_at[self._turn] = now
        count = len(self._addresses)
        turns = [(self._turn + step) % count for step in range(1, count + 1)]
        answering = [turn for turn in turns if now - self._silent_at[turn] > SILENT_SECONDS]
        self._turn = (answering or turns)[0]

    def check(self, fencing_number: int) -> None:
        """Takes note of the number under which a sequencer leads; raises NOT_LEADING for one that did earlier."""
        if fencing_number < self._newest_number:
            raise NOT_LEADING.error(
                f"expected a fencing number of at least {self._newest_number}, was {fencing_number}: it led earlier"
            )
        self._newest_number = fencing_number
