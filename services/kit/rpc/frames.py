"""An encoded Frame taken apart, and which one may follow which: what every copy of the market has to keep to."""

from typing import NamedTuple

from services.kit.rpc.ring import Position
from services.kit.rpc.wire import frame_parts


class StreamHole(Exception):
    """A frame is missing between the last one applied and the one received."""


class FrameError(Exception):
    """The stream cannot be applied: this copy can no longer be the same as the others."""


class Frame(NamedTuple):
    """One frame of the stream, parsed once for everybody in the process."""

    position: Position
    # Field number of its body in Frame; 0 when it has none.
    kind: int
    body: memoryview
    encoded: memoryview
    # True if it is frame 1 of a later epoch: what was there before is no longer of any use.
    begins_market: bool


def next_frame(encoded: memoryview, last: Position | None) -> Frame:
    """Takes apart the frame that comes after `last`; None when nothing was applied yet.

    Raises StreamHole when it is not the next one, FrameError when it cannot be read.
    """
    try:
        epoch, sequence, kind, body = frame_parts(encoded)
    except ValueError as error:
        raise FrameError(f"frame cannot be read: {error}") from error
    begins_market = sequence == 1 and (last is None or epoch > last.epoch)
    if not begins_market and (last is None or (epoch, sequence) != (last.epoch, last.sequence + 1)):
        raise StreamHole(f"expected the frame after {last}, was {epoch}/{sequence}")
    return Frame(Position(epoch, sequence), kind, body, encoded, begins_market)
