"""Notices a feed of which nothing is admitted: its events come, and every one is set aside."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

# So many events and so long, or a vendor's hiccup would count.
MIN_EVENTS: Final = 1000
MIN_SECONDS: Final = 60.0
# They say nothing about the feed: it may repeat itself after a reconnection.
_HARMLESS: Final = ("duplicate",)


class SetAsideWatch:
    """`min_seconds`: how long events come of which none is admitted, and how long none must come to forget them."""

    def __init__(self, min_events: int = MIN_EVENTS, min_seconds: float = MIN_SECONDS) -> None:
        self._min_events = min_events
        self._min_seconds = min_seconds
        self._admitted = -1
        # As of the last event admitted.
        self._since = 0.0
        self._before: Counter[str] = Counter()
        self._newest: Counter[str] = Counter()
        self._newest_at = 0.0

    def look(self, now: float, admitted: int, rejected: Mapping[str, int]) -> str | None:
        """Returns what is wrong, None for nothing; `now` is monotonic, the counts are since the start."""
        counts = Counter({reason: count for reason, count in rejected.items() if reason not in _HARMLESS})
        if counts != self._newest:
            self._newest, self._newest_at = counts, now
        if admitted != self._admitted or now - self._newest_at > self._min_seconds:
            self._admitted, self._since, self._before = admitted, now, counts
            return None
        aside = counts - self._before
        if aside.total() < self._min_events or now - self._since < self._min_seconds:
            return None
        (reason, count), *_ = aside.most_common()
        seconds = now - self._since
        return f"every event of the last {seconds:.0f} s was set aside: {aside.total()}, {count} of them as {reason}"
