"""Why the feed brings nothing: its line is away, or events come and every one is set aside."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.feed.line_gaps import LineGaps
from services.data_ingest.feed.market_clock import FeedTimes, MarketClock
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# So many events and so long, or a vendor's hiccup would count.
MIN_EVENTS: Final = 1000
MIN_SECONDS: Final = 60.0
# The feed may repeat itself after a reconnection.
_HARMLESS: Final = ("duplicate",)
_BY_TIME: Final = ("time_ahead", "time_out_of_session")


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
        """Returns why the feed is unhealthy, None if it is not; `now` is monotonic, the counts are since the start."""
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


class FeedHealth:
    """The feed's unhealthy reason, of the line first; `set_unhealthy_reason` gets each that is new, None for none."""

    def __init__(
        self,
        feed: FeedInput,
        sequencer: Sequencer,
        set_unhealthy_reason: Callable[[str | None], None],
        set_aside: SetAsideWatch | None = None,
        gaps: LineGaps | None = None,
        clock: MarketClock | None = None,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._gaps = gaps
        self._sequencer = sequencer
        self._set_unhealthy_reason = set_unhealthy_reason
        self._watch = set_aside or SetAsideWatch()
        self._line: str | None = None
        self._set_aside: str | None = None

    @property
    def clock_ahead_seconds(self) -> float:
        """How far this machine's clock is ahead of the vendor's; 0 while they agree, and by the feed's clock."""
        return self._clock.differs_seconds if self._clock is not None else 0.0

    @property
    def warnings(self) -> list[str]:
        """Missing days, an open gap of the line, events of which none is admitted, and a wrong clock, in words."""
        warnings = [f"trading day {date} is missing: no event of it arrived" for date in self._feed.days.missing]
        if self._gaps is not None and (gap := self._gaps.open) is not None and self._gaps.stale_seconds:
            warnings.append(f"nothing has come from the vendor for {self._gaps.stale_seconds:.0f} s: {gap.reason}")
        if self._set_aside is not None:
            warnings.append(self._set_aside)
        if self._clock is not None and self._clock.warning is not None:
            warnings.append(self._clock.warning)
        return warnings

    def set_line(self, reason: str | None) -> None:
        """Says why nothing comes; None when it comes again."""
        self._line = reason
        self._report()

    def check(self) -> None:
        """Notices silence, and compares what was admitted with what was set aside; call it about once a second.

        Raises StartError when the clock was wrong, and is behind the stream now.
        """
        if self._gaps is not None:
            self._gaps.look(monotonic())
        if self._clock is not None:
            admission, sequencer, rejected = self._feed.admission, self._sequencer, self._feed.rejected
            aside = sum(rejected[reason] for reason in _BY_TIME)
            times = FeedTimes(sum(admission.accepted.values()), aside, admission.newest_ns, admission.aside_ns)
            self._clock.look(times, sequencer.now_ns, sequencer.is_closed)
        reason = None
        # With the wall's clock nothing is admitted between two days' sessions, and that is right.
        if not (self._feed.is_wall and self._sequencer.is_closed):
            admitted = sum(self._feed.admission.accepted.values())
            reason = self._watch.look(monotonic(), admitted, self._feed.rejected)
        if reason is not None:
            reason = f"{reason}; the trading day in force is {self._sequencer.day.date}"
            if self._set_aside is None:
                log.error("nothing of the feed is admitted", reason=reason)
        self._set_aside = reason
        self._report()

    def _report(self) -> None:
        self._set_unhealthy_reason(self._line or self._set_aside)
