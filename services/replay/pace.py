"""When a batch is due: by its event time, at the speed that was asked for. Pure."""

from typing import Literal

Speed = float | Literal["max"]


class Pace:
    """`start_ns`: what is due before that is due at once, as is what was reached before.

    Times of the day in ns since 1970; `now` in seconds of any clock that does not go back.
    """

    def __init__(self, speed: Speed, start_ns: int = 0) -> None:
        self._speed = speed
        self._start_ns = start_ns
        # The wall's and the day's time from which it is counted.
        self._anchor: tuple[float, int] | None = None
        # Up to here all is due at once.
        self._at_once_ns = start_ns
        self.reached_ns = 0

    def begin(self) -> None:
        """A reader has come: what was reached before is due at once, and from there time goes on."""
        self._anchor = None
        self._at_once_ns = max(self._start_ns, self.reached_ns)

    def delay(self, time_ns: int, now: float) -> float:
        """Seconds until what belongs to `time_ns` is due, 0 when it is."""
        if self._speed == "max" or time_ns <= self._at_once_ns:
            return 0.0
        if self._anchor is None:
            self._anchor = (now, self._at_once_ns or time_ns)
        at, begun_ns = self._anchor
        return max(0.0, at + (time_ns - begun_ns) / 1e9 / self._speed - now)

    def sent(self, time_ns: int) -> None:
        """What belongs to `time_ns` is on its way."""
        self.reached_ns = max(self.reached_ns, time_ns)
