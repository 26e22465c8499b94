"""Which frame may follow which: what every copy of the state has to keep to."""

from services.kit.rpc.ring import Position
from services.kit.rpc.wire import FrameParts, frame_parts


class StreamHole(Exception):
    """A frame is missing between the last one applied and the one that came."""


class FrameError(Exception):
    """The stream cannot be applied: this copy can no longer be the same as the others."""


def next_frame(frame: memoryview, last: Position | None) -> tuple[FrameParts, bool]:
    """Takes the encoded Frame after `last` apart; with it whether it begins a new market.

    Frame 1 of a later epoch begins one. Raises StreamHole when it is not the next
    one, FrameError when it cannot be read.
    """
    try:
        parts = frame_parts(frame)
    except ValueError as error:
        raise FrameError(f"frame cannot be read: {error}") from error
    begins = parts.sequence == 1 and (last is None or parts.epoch > last.epoch)
    if not begins and (last is None or (parts.epoch, parts.sequence) != (last.epoch, last.sequence + 1)):
        raise StreamHole(f"expected the frame after {last}, was {parts.epoch}/{parts.sequence}")
    return parts, begins
