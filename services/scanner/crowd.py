"""How often subscribers get updates once all of them together want more messages than can be sent.

Sending is what a scanner's core is spent on: a message costs about 40 microseconds. Up to a budget every subscriber
gets every change. Beyond it changes are merged, only as much as the budget demands, and only where a list changes more
often than that.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

# Two fifths of a core; the rest is the market's.
MESSAGES_PER_SECOND: Final = 10_000.0
MEASURE_SECONDS: Final = 0.5
# The weight of the newest measurement: a crowd is noticed within a second, and one busy moment is none.
NEWEST_WEIGHT: Final = 0.5


class Demand(NamedTuple):
    """`subscribers` that want `rate` messages a second each."""

    rate: float
    subscribers: int


def fair_interval(demands: Iterable[Demand], budget: float) -> float:
    """Returns the least seconds between two messages to one subscriber that keep all of them within `budget` a second.

    0 where all demands fit. Those who want less than the others get all that they want (max-min fairness:
    D. Bertsekas, R. Gallager, Data Networks, 2nd edition, 6.5.2).
    """
    rising = sorted(demands)
    left, subscribers = budget, sum(demand.subscribers for demand in rising)
    for rate, count in rising:
        if rate * subscribers > left:
            return subscribers / left
        left -= rate * count
        subscribers -= count
    return 0.0


class ChangeRate:
    """Changes a second of one list, by its sequence."""

    def __init__(self, sequence: int, now: float) -> None:
        self._sequence = sequence
        self._measured_at = now
        self.value = 0.0

    def measure(self, sequence: int, now: float) -> float:
        """Returns the rate; a sequence that has gone back, because the list was replaced, counts from here."""
        elapsed = now - self._measured_at
        if elapsed > 0:
            changes = max(0, sequence - self._sequence)
            self.value += NEWEST_WEIGHT * (changes / elapsed - self.value)
            self._sequence, self._measured_at = sequence, now
        return self.value
