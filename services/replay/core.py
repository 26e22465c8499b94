"""From a prepared day to batches of the feed, and when each is due. Pure: the batches are the same at any speed.

The day is cut by event time: a batch holds the events of one cell of CELL_NS, or a
part of it when it is large, and a watermark follows each cell: its end, which still
belongs to it, so that the lists' times are whole tenths of seconds. While nothing
happens a watermark comes with every second of the day. So batch n is the same in
every replay of a day, and the lists refresh at the same positions of the stream.
"""

import math
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from fastcore.wire import write_fields
from services.replay.day_file import DayFile
from services.replay.flat_file import TRADES

CELL_NS: Final = 100_000_000
QUIET_NS: Final = 1_000_000_000
MAX_ROWS: Final = 8192
# Rows whose cells are found at once.
BLOCK_ROWS: Final = 1 << 20

_BYTES: Final = 2
_VARINT: Final = 0
_FIXED64: Final = 1
_FIRST_COLUMN: Final = 16
_MINUTE_SPAN: Final = 2

Speed = float | Literal["max"]


class Cut(NamedTuple):
    """One batch: rows `first` to before `last`, and the watermark after them, 0 for none.

    `time_ns` is when it is due.
    """

    first: int
    last: int
    watermark_ns: int
    time_ns: int


def cuts(day: DayFile, until_ns: int | None = None) -> Iterator[Cut]:
    """The batches of a day in their order; `until_ns`: of the events up to that time, which is the last watermark."""
    arrival = day.arrival_ns
    rows = len(arrival) if until_ns is None else int(np.searchsorted(arrival, until_ns, side="right"))
    marked = None
    for first, last in _cells(arrival[:rows]):
        end = _cell(int(arrival[first])) * CELL_NS
        if marked is not None:
            # What comes at the begin itself is of the cell before.
            for mark in _quiet(marked, end - CELL_NS + 1):
                yield Cut(first, first, mark, mark)
        marked = end
        if until_ns is not None:
            marked = min(marked, until_ns)
        for start in range(first, last, MAX_ROWS):
            stop = min(start + MAX_ROWS, last)
            yield Cut(start, stop, marked if stop == last else 0, marked)
    if until_ns is not None and (marked is None or marked < until_ns):
        for mark in _quiet(marked if marked is not None else until_ns, until_ns):
            yield Cut(rows, rows, mark, mark)
        yield Cut(rows, rows, until_ns, until_ns)


def span_ns(day: DayFile, until_ns: int | None = None) -> tuple[int, int]:
    """The time of the first event, and the last watermark of `cuts`; 0 and 0 for a day without events."""
    arrival = day.arrival_ns
    if not len(arrival):
        return 0, until_ns or 0
    return int(arrival[0]), _cell(int(arrival[-1])) * CELL_NS if until_ns is None else until_ns


def _cells(arrival: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Iterator[tuple[int, int]]:
    """First row of each cell that has any, and the row after its last."""
    begun = 0
    for start in range(0, len(arrival), BLOCK_ROWS):
        # One row more, to see whether the cell continues.
        cell = _cell(arrival[start : start + BLOCK_ROWS + 1])
        for end in (np.flatnonzero(cell[1:] != cell[:-1]) + start + 1).tolist():
            yield begun, end
            begun = end
    if begun < len(arrival):
        yield begun, len(arrival)


def _cell(time_ns: Any) -> Any:
    """The number of the cell of a time, or of each of an array: cell n ends with n * CELL_NS."""
    return -(-time_ns // CELL_NS)


def _quiet(after_ns: int, before_ns: int) -> Iterator[int]:
    """The whole seconds of the day after one time and before another."""
    return iter(range((after_ns // QUIET_NS + 1) * QUIET_NS, before_ns, QUIET_NS))


def encode(day: DayFile, cut: Cut) -> bytes:
    """The MarketBatch of a cut, without its position."""
    parts: list[tuple[int, int, int | bytes]] = []
    if cut.last > cut.first:
        first, last = cut.first, cut.last
        is_trades = day.manifest.kind == TRADES
        fields: list[tuple[int, int, int | bytes]] = [] if is_trades else [(1, _VARINT, _MINUTE_SPAN)]
        for number, (name, values) in enumerate(day.columns.items(), _FIRST_COLUMN - 1):
            if name != "arrival_ns":
                fields.append((number, _BYTES, values[first:last].tobytes()))
        parts.append((8 if is_trades else 6, _BYTES, write_fields(fields)))
    if cut.watermark_ns:
        parts.append((9, _FIXED64, cut.watermark_ns))
    return write_fields(parts)


class Pace:
    """Decides when a batch is due: by its event time, at the requested speed, and not while it is paused.

    `start_ns`: what is due before that is due at once, as is what was reached before.

    Times of the day in ns since 1970; `now` in seconds of any clock that does not go back.
    """

    def __init__(self, speed: Speed, start_ns: int = 0) -> None:
        self.speed = speed
        self.is_paused = False
        self._start_ns = start_ns
        # The wall's and the day's time from which it is counted.
        self._anchor: tuple[float, int] | None = None
        # Up to here all is due at once.
        self._at_once_ns = start_ns
        self.reached_ns = 0

    @property
    def jump_ns(self) -> int:
        """The time up to which everything is due at once, 0 when it is reached."""
        return self._at_once_ns if self._at_once_ns > self.reached_ns else 0

    def begin(self) -> None:
        """A reader has come: what was reached before is due at once, and from there time continues."""
        self._anchor = None
        self._at_once_ns = max(self._start_ns, self.reached_ns)

    def pause(self) -> None:
        """Nothing is due any more; a jump ends where it is."""
        self.is_paused = True
        self._start_ns = self._at_once_ns = self.reached_ns

    def resume(self) -> None:
        """Time continues where it is."""
        self.is_paused = False
        self._anchor = None

    def set_speed(self, speed: Speed) -> None:
        """From here on."""
        self.speed = speed
        self._anchor = None
        self._at_once_ns = max(self._at_once_ns, self.reached_ns)

    def jump(self, to_ns: int) -> None:
        """Everything up to that time is due at once, also while it is paused."""
        self._anchor = None
        self._start_ns = self._at_once_ns = to_ns

    def delay(self, time_ns: int, now: float) -> float:
        """Seconds until what belongs to `time_ns` is due, 0 when it is; infinite while it is paused."""
        if time_ns <= self._at_once_ns:
            return 0.0
        if self.is_paused:
            return math.inf
        if self.speed == "max":
            return 0.0
        if self._anchor is None:
            self._anchor = (now, self._at_once_ns or time_ns)
        began, began_ns = self._anchor
        return max(0.0, began + (time_ns - began_ns) / 1e9 / self.speed - now)

    def sent(self, time_ns: int) -> None:
        """The batch of `time_ns` is on its way."""
        self.reached_ns = max(self.reached_ns, time_ns)
