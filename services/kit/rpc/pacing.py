"""When the subscribers of a list that want updates at intervals get them.

Those with the same interval are served at the same times, so that what one of them gets is made for all. Where they are
many, they are several such groups, whose times are spread over the interval.
"""

import math
import zlib
from typing import Final

# The longest interval that a subscriber may want.
MAX_INTERVAL_MS: Final = 60_000
# A paced update comes no sooner after the last one than this part of its interval;
ON_TIME: Final = 0.9
# no sooner than this where the last one was late. It takes a while to reach thousands of subscribers: one that comes
# late in a round must not miss every second round.
AFTER_LATE: Final = 0.5
# Paced subscribers of which so many share their times, and how many groups of them there may be: to send to all at once
# would hold up those that get every change.
GROUP: Final = 64
GROUPS: Final = 16


class Phases:
    """The part of its interval at which each subscriber of a list gets its updates.

    `name`: the list's; those of another one get theirs at other times.
    """

    def __init__(self, name: str) -> None:
        self._first = zlib.crc32(name.encode()) % 1000 / 1000
        self._taken = 0

    def take(self, groups: int = GROUPS) -> float:
        """Returns the next subscriber's, from 0 to below 1, one of so many."""
        group = self._taken // GROUP % groups
        self._taken += 1
        return (self._first + van_der_corput(group)) % 1.0


def next_tick(now: float, interval: float, phase: float, least: float) -> float:
    """Returns when a subscriber that was sent something `now` may get the next update, `least` of its interval later.

    All subscribers of a group with the same interval share one grid of times (begun at `phase`
    of the interval), so that they have the same position and share conflated deltas.
    """
    begin = phase * interval
    number = math.floor((now - begin) / interval) + 1
    if number * interval + begin - now < least * interval:
        number += 1
    return number * interval + begin


def van_der_corput(number: int) -> float:
    """Returns an element of a sequence whose beginnings are spread evenly over 0 to 1: 0, 1/2, 1/4, 3/4, 1/8 ...

    It is the number's bits mirrored at the binary point (L. Kuipers, H. Niederreiter, Uniform Distribution of
    Sequences, 2.3).
    """
    found, part = 0.0, 0.5
    while number:
        found += part * (number & 1)
        number >>= 1
        part /= 2
    return found
