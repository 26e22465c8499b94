"""The market's time where it can be changed: the state of a simulated or replayed day, and requests for another."""

import datetime
import math
import re
from typing import Final

import msgspec
from tradeul.v1 import replay_pb2

from services.kit.runtime.clock import NEW_YORK, NS_PER_SECOND, new_york_time, ns_of
from services.kit.runtime.errors import INVALID_SPEED, INVALID_TIME, NO_REPLAY, TIME_IS_OVER

# Of the simulator, in addition to the vendor's API: a MarketTime by GET, changed by a POST of a TimeChange.
TIME_PATH: Final = "/simulator/time"
SLOWEST: Final = 0.01
FASTEST: Final = 100_000.0
# The speed without a pace.
UNPACED: Final = 0.0
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?")


class MarketTime(msgspec.Struct, frozen=True):
    """The time and the pace of a market.

    Times are ns since 1970 UTC: `now_ns` is 0 before the first event, `jump_ns` 0 without a jump.
    `speed` is in seconds of the market per second, UNPACED for as fast as it goes.
    """

    date: datetime.date
    now_ns: int
    paused: bool
    speed: float
    jump_ns: int
    from_ns: int
    to_ns: int

    def message(self, market: replay_pb2.Replay.Market.ValueType) -> replay_pb2.Replay:
        """The answer of ReplayService for that kind of market."""
        answer = replay_pb2.Replay(market=market, date=str(self.date), paused=self.paused, speed=self.speed)
        times = {"now": self.now_ns, "jumping_to": self.jump_ns, "from": self.from_ns, "to": self.to_ns}
        for field, time_ns in times.items():
            if time_ns:
                # `from` is a keyword.
                getattr(answer, field).FromNanoseconds(time_ns)
        return answer


class TimeChange(msgspec.Struct, frozen=True):
    """A change of the pace; None and 0 leave it as it is."""

    paused: bool | None = None
    speed: float | None = None
    jump_ns: int = 0


def time_change(request: replay_pb2.UpdateReplayRequest, market: MarketTime) -> TimeChange:
    """The change that a request stands for.

    Raises INVALID_SPEED, INVALID_TIME, or TIME_IS_OVER for a jump to a time that is not after now.
    """
    speed = request.speed if request.HasField("speed") else None
    if speed is not None and speed != UNPACED and not (math.isfinite(speed) and SLOWEST <= speed <= FASTEST):
        raise INVALID_SPEED.error(f"speed: expected 0 or a number of {SLOWEST:g} to {FASTEST:,.0f}, was {speed:g}")
    jump_ns = _time_of_day(request.jump_to, market) if request.HasField("jump_to") else 0
    return TimeChange(request.paused if request.HasField("paused") else None, speed, jump_ns)


def refuse_change() -> None:
    """Raises NO_REPLAY: nobody changes the time of the live market."""
    raise NO_REPLAY.error("the market is live: its time cannot be changed")


def _time_of_day(text: str, market: MarketTime) -> int:
    if not _TIME.fullmatch(text):
        raise INVALID_TIME.error(f"jump_to: expected a time of the day like 09:45 or 09:45:30, was {text[:50]!r}")
    time_ns = ns_of(datetime.datetime.combine(market.date, datetime.time.fromisoformat(text), NEW_YORK))
    if not market.from_ns <= time_ns <= market.to_ns:
        raise INVALID_TIME.error(
            f"jump_to: expected a time of {_shown(market.from_ns, up=True)} to {_shown(market.to_ns)}, was {text}"
        )
    if time_ns <= market.now_ns:
        raise TIME_IS_OVER.error(
            f"jump_to: expected a time after {_shown(market.now_ns)}, which it is now, was {text}; "
            "to see an earlier time again, start the mesh anew"
        )
    return time_ns


def _shown(time_ns: int, up: bool = False) -> str:
    """A New York time to the second, rounded down, or up."""
    return new_york_time(time_ns + (NS_PER_SECOND - 1 if up else 0)).strftime("%H:%M:%S")
