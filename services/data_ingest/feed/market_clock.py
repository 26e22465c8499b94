"""The market's time with TRADEUL_CLOCK=wall: this machine's clock, but for steps that the vendor's events contradict.

The stream's time never goes back. Taken from a clock that was set an hour ahead for a second, it would stay there for
an hour: every row an hour old, every window empty. So a step is not followed before something confirms it.
"""

from collections.abc import Callable
from typing import Final, Literal

from services.kit.runtime.clock import NS_PER_SECOND, monotonic_ns, wall_ns
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# A clock that is slewed, or read late, is off by less between two readings, which come with each batch and watermark.
STEP_NS: Final = 2 * NS_PER_SECOND
# A step is followed if no event has said anything against it for so long.
FOLLOW_NS: Final = 60 * NS_PER_SECOND
# So many events ahead of time, and none that is admitted: the time that we go by is wrong.
MIN_AHEAD: Final = 20
# So long, and with so many events, the newest one is so far behind that one of both clocks is wrong.
BEHIND_NS: Final = 60 * NS_PER_SECOND
BEHIND_FOR_NS: Final = 30 * NS_PER_SECOND
MIN_BEHIND: Final = 100


class MarketClock:
    """Nanoseconds since 1970 UTC. `warning`: why this clock, or the vendor's, cannot be right; None while it may be.

    A MeshClock.

    `wall`, `steady`: this machine's clock, and one that is never set.
    """

    kind: Literal["wall", "feed"] = "wall"

    def __init__(self, wall: Callable[[], int] = wall_ns, steady: Callable[[], int] = monotonic_ns) -> None:
        self.warning: str | None = None
        self._wall = wall
        self._steady = steady
        # What the clock says beyond the steady one, as far as it is believed.
        self._offset = wall() - steady()
        # The step that is not, and since when nothing speaks against it; 0 for none.
        self._step = 0
        self._unopposed_since = 0
        # Events that were admitted and those ahead of time, and the newest one's time, when they were looked at last.
        self._admitted = self._ahead = self._newest_ns = 0
        # Since when, and since how many admitted events, the newest one has been far behind; None while it is not.
        self._behind: tuple[int, int] | None = None

    def now_ns(self) -> int:
        """The time, without a step that nothing has confirmed."""
        steady = self._steady()
        offset = self._wall() - steady
        step = offset - self._offset
        if abs(step) < STEP_NS:
            self._offset = offset
            step = 0
        if abs(step - self._step) >= STEP_NS or (not step and self._step):
            self._stepped(step, steady)
        return steady + self._offset

    def _stepped(self, step: int, steady: int) -> None:
        if step:
            log.error("this machine's clock was set: it is not followed until that is confirmed", seconds=step / 1e9)
        else:
            log.warning("this machine's clock is what it was", seconds=self._step / 1e9)
        self._step, self._unopposed_since = step, steady

    def look(self, admitted: int, ahead: int, newest_ns: int, stream_ns: int, is_closed: bool) -> None:
        """Compares the clock with the feed's events; call it about once a second.

        `admitted`, `ahead`: events since the start, and those that were set aside as ahead of time; `newest_ns`: the
        time of the newest one that was admitted, `stream_ns`: that of the stream, which cannot go back. Raises
        StartError when the clock was rightly set back behind it: the stream has to begin again.
        """
        now_ns = self.now_ns()
        came, came_ahead = admitted - self._admitted, ahead - self._ahead
        moved = newest_ns != self._newest_ns
        self._admitted, self._newest_ns = admitted, newest_ns
        if came or not self._step:
            self._ahead = ahead
        self.warning = None
        if self._step:
            self._judge(now_ns, newest_ns if moved else None, 0 if came else came_ahead, stream_ns)
        self._look_behind(now_ns, admitted, newest_ns, is_closed)

    def _judge(self, now_ns: int, newest_ns: int | None, ahead: int, stream_ns: int) -> None:
        """Follows the step, or does not, by the time of events that have just come and those that were ahead."""
        steady, stepped_ns = self._steady(), now_ns + self._step
        is_right = ahead >= MIN_AHEAD and self._step > 0
        if newest_ns is not None:
            is_right = abs(newest_ns - stepped_ns) < abs(newest_ns - now_ns)
            if not is_right:
                self._unopposed_since = steady
        if not is_right and steady - self._unopposed_since < FOLLOW_NS:
            way = "ahead" if self._step > 0 else "back"
            self.warning = (
                f"this machine's clock was set {way} by {abs(self._step) / 1e9:.0f} s: it is not followed until events "
                "of that time come, or none for a minute"
            )
            return
        log.error("this machine's clock was set, and is followed", seconds=self._step / 1e9)
        self._offset += self._step
        self._step = 0
        if stream_ns > stepped_ns + STEP_NS:
            behind = (stream_ns - stepped_ns) / 1e9
            raise StartError(f"this machine's clock was set back, {behind:.0f} s behind the stream, which begins again")

    def _look_behind(self, now_ns: int, admitted: int, newest_ns: int, is_closed: bool) -> None:
        if is_closed or not newest_ns or now_ns - newest_ns < BEHIND_NS:
            self._behind = None
            return
        steady = self._steady()
        if self._behind is None:
            self._behind = (steady, admitted)
        since, before = self._behind
        if self.warning is None and steady - since >= BEHIND_FOR_NS and admitted - before >= MIN_BEHIND:
            minutes = (now_ns - newest_ns) // (60 * NS_PER_SECOND)
            self.warning = (
                f"events come, and the newest is {minutes} min behind this machine's clock: one of both clocks is wrong"
            )
