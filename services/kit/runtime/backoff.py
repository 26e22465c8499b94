"""How long to wait before trying again.

A retry library (tenacity) repeats one call. Most of our loops follow a stream that may run for hours before it ends, so
that the loop itself has to say when the pauses start small again.
"""

import random
from typing import Final

# For what restarts within seconds: the services of the mesh and its databases.
FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 2.0


class Backoff:
    """Pauses whose bound doubles from `first` to `longest` seconds, jittered so that many clients do not come at once.

    backoff = Backoff()
    while True:
        reason = await follow(on_progress=backoff.reset)
        pause = backoff.next()
        log.warning("stream ended", reason=reason, again_in=pause)
        await asyncio.sleep(pause)
    """

    def __init__(
        self, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS, rng: random.Random | None = None
    ) -> None:
        self._first = first
        self._longest = longest
        self._bound = first
        self._least_bound = 0.0
        self._uniform = (rng or random).uniform

    def reset(self) -> None:
        """The attempt came to something: the next pause is the first again."""
        self._bound = self._first

    def at_least(self, bound: float) -> None:
        """The next pause, and only that, has at least this bound."""
        self._least_bound = bound

    def next(self) -> float:
        """The seconds to wait now, between half of the bound and all of it."""
        bound, self._least_bound = max(self._bound, self._least_bound), 0.0
        self._bound = min(2 * self._bound, self._longest)
        return round(self._uniform(bound / 2, bound), 4)
