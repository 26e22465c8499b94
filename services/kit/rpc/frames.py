"""An encoded Frame taken apart, and which one may follow which: what every copy of the market has to keep to."""

from typing import Final, NamedTuple

from fastcore.wire import fields, read_varint
from services.kit.rpc.ring import Position

_NO_FIELD: Final = (0, 0, 0, 0)


class StreamHole(Exception):
    """A frame is missing between the last one applied and the one received."""


class FrameError(Exception):
    """The stream cannot be applied: this copy can no longer be the same as the others."""


class Frame(NamedTuple):
    """One frame of the stream, parsed once in each process."""

    position: Position
    # Field number of its body in Frame; 0 when it has none.
    kind: int
    body: memoryview
    encoded: memoryview
    # True if it is frame 1 of a later epoch: what was there before is no longer of any use.
    begins_market: bool = False


def read_frame(encoded: memoryview) -> Frame:
    """Takes an encoded Frame apart; raises ValueError when its first field is not its position."""
    (number, _, start, end), *others = fields(encoded, 2) or [_NO_FIELD]
    if number != 1:
        raise ValueError(f"expected a frame to begin with its position (field 1), was field {number}")
    position = encoded[start:end]
    epoch = sequence = 0
    for part, _, index, _ in fields(position):
        if part == 1:
            epoch, _ = read_varint(position, index)
        elif part == 2:
            sequence, _ = read_varint(position, index)
    kind, _, start, end = others[0] if others else _NO_FIELD
    return Frame(Position(epoch, sequence), kind, encoded[start:end], encoded)


def next_frame(encoded: memoryview, last: Position | None) -> Frame:
    """Takes apart the frame that comes after `last`; None when nothing was applied yet.

    Raises StreamHole when it is not the next one, FrameError when it cannot be read.
    """
    try:
        frame = read_frame(encoded)
    except ValueError as error:
        raise FrameError(f"frame cannot be read: {error}") from error
    epoch, sequence = frame.position
    if sequence == 1 and (last is None or epoch > last.epoch):
        return frame._replace(begins_market=True)
    if last is None or frame.position != (last.epoch, last.sequence + 1):
        raise StreamHole(f"expected the frame after {last}, was {epoch}/{sequence}")
    return frame
