"""Gaps of the vendor's line: when nothing came although something should have, and what has been refilled since.

A gap opens when polygon_ws reports that the line is lost, when batches are lost to us, or when nothing has come for
15 s of a market that was busy before. It ends with the first events after that.
"""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from services.data_ingest import metrics
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.clock import NS_PER_SECOND
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

FILE: Final = "gaps.json"
SILENCE_SECONDS: Final = 15.0
# By chance alone, 40 events a minute leave 15 s empty once in 22,000 times; of a quieter market silence says nothing.
BUSY_EVENTS: Final = 40
BUSY_SECONDS: Final = 60
# The last minute of a day: silence is its end.
END_NS: Final = 60 * NS_PER_SECOND
# Whoever did not look for so long stood still itself.
LOOK_SECONDS: Final = 5.0
# A line that comes and goes has one gap: so soon after an end the next is the same one.
MERGE_NS: Final = 30 * NS_PER_SECOND
MAX_GAPS: Final = 200

GapState = Literal["OPEN", "HEALING", "HEALED", "PARTIAL"]


class Gap(msgspec.Struct):
    """Times in ns since 1970 UTC, of the market's clock; `to_ns` is None while it is open."""

    from_ns: int
    reason: str
    state: GapState = "OPEN"
    to_ns: int | None = None
    symbols_refilled: int = 0


class _Kept(msgspec.Struct):
    date: str
    gaps: list[Gap]


class _Second(NamedTuple):
    second: int
    events: int


class LineGaps:
    """Today's gaps, oldest first.

    Args:
        sequencer: gives the market's time, session and day.
        newest_ns: gives the time of the newest event, 0 before the first.
        now_ns: gives the time of the market's clock: the wall's, or that of the newest event.
        on_opened: is called when a gap opens that does not continue the one before.
        on_ended: is called with each gap that has ended, also with those of an earlier process that were not healed.
        on_silence_ended: is called when events come again over a line that was never reported to be lost.
        directory: where the gaps are kept; None to keep none.
        can_pause: True for the simulator, whose market may stand still because somebody wants it to.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        newest_ns: Callable[[], int],
        now_ns: Callable[[], int],
        on_opened: Callable[[], None] = lambda: None,
        on_ended: Callable[[Gap], None] = lambda gap: None,
        on_silence_ended: Callable[[], None] = lambda: None,
        directory: Path | None = None,
        can_pause: bool = False,
    ) -> None:
        self.gaps: list[Gap] = []
        self.stale_seconds = 0.0
        self._sequencer = sequencer
        self._newest_ns = newest_ns
        self._now_ns = now_ns
        self._on_opened = on_opened
        self._on_ended = on_ended
        self._on_silence_ended = on_silence_ended
        # polygon_ws has reported that the line is lost, and not yet that it is back.
        self._is_away = False
        self._is_silence = False
        self._can_pause = can_pause
        self._path = directory / FILE if directory is not None else None
        self._date = ""
        # Events by second, of the minute before the newest.
        self._recent: deque[_Second] = deque()
        self._last_at: float | None = None
        self._looked_at: float | None = None

    @property
    def open(self) -> Gap | None:
        """The gap that has not ended."""
        return self.gaps[-1] if self.gaps and self.gaps[-1].to_ns is None else None

    def kept(self) -> bytes:
        """Today's gaps as the file holds them."""
        return msgspec.json.encode(_Kept(self._date, self.gaps))

    def day_began(self) -> None:
        """Forgets the gaps of another day, and takes over those that an earlier process kept of this one."""
        date = str(self._sequencer.day.date)
        if date == self._date:
            return
        self._date = date
        self._recent.clear()
        before, self.gaps = self.open, self._read(date)
        if before is not None:
            self.gaps.append(Gap(self._sequencer.day.pre_market_start_ns, before.reason))
        for gap in self.gaps:
            if gap.state == "HEALING":
                self._on_ended(gap)

    def line_lost(self, reason: str, is_away: bool = True) -> None:
        """Opens a gap behind the newest event, unless one is open; `is_away` until line_back()."""
        self._is_away, self._is_silence = is_away, False
        self._open(reason)

    def line_back(self) -> None:
        """The gap ends with the next events."""
        self._is_away = False

    def _open(self, reason: str) -> None:
        if self.open is not None:
            return
        start_ns = max(self._newest_ns() or self._sequencer.now_ns, self._sequencer.day.pre_market_start_ns)
        last = self.gaps[-1] if self.gaps else None
        if last is not None and last.to_ns is not None and start_ns - last.to_ns < MERGE_NS:
            last.to_ns, last.state = None, "OPEN"
        else:
            self.gaps.append(Gap(start_ns, reason))
            del self.gaps[:-MAX_GAPS]
            metrics.FEED_GAPS.inc()
            self._on_opened()
        log.warning("the vendor's line has a gap", reason=reason)
        self._write()

    def events_came(self, events: int, now: float) -> None:
        """Events were admitted at `now` (monotonic seconds), or 0 of what came: the line is there."""
        self._last_at = now
        second = int(now)
        if self._recent and self._recent[-1].second == second:
            events += self._recent.pop().events
        self._recent.append(_Second(second, events))
        while self._recent[0].second < second - BUSY_SECONDS:
            self._recent.popleft()
        gap = self.open
        if gap is not None and not self._is_away and (end_ns := self._now_ns()) > gap.from_ns:
            self._end(gap, end_ns)

    def look(self, now: float) -> None:
        """Notices silence; call it about once a second."""
        looked_at, self._looked_at = self._looked_at, now
        if looked_at is None or now - looked_at > LOOK_SECONDS:
            # What came meanwhile has not been read.
            return
        if self._sequencer.is_closed:
            self._recent.clear()
            self.stale_seconds = 0.0
            return
        silence = now - self._last_at if self._last_at is not None else 0.0
        if self.open is None and (silence < SILENCE_SECONDS or not self._is_expected()):
            self.stale_seconds = 0.0
            return
        if self.open is None:
            self._is_silence = True
            self._open(f"nothing has come for {silence:.0f} s")
        self.stale_seconds = round(silence, 1)

    def healed(self, gap: Gap, symbols: int, is_whole: bool) -> None:
        """`symbols` were refilled; not `is_whole` when some could not be."""
        gap.symbols_refilled = symbols
        if gap.state == "HEALING":
            gap.state = "HEALED" if is_whole else "PARTIAL"
        log.info("a gap was refilled", symbols=symbols, state=gap.state)
        self._write()

    def _is_expected(self) -> bool:
        """True if the market was busy, and nothing explains that it no longer is."""
        state = self._sequencer.market.state
        is_busy = sum(each.events for each in self._recent) >= BUSY_EVENTS
        is_ending = self._sequencer.now_ns >= self._sequencer.day.post_market_end_ns - END_NS
        # The whole market is halted when nearly every symbol is.
        is_halted = 2 * state.halted_count > max(1, state.active_count)
        return is_busy and not is_ending and not is_halted and not self._can_pause

    def _end(self, gap: Gap, end_ns: int) -> None:
        end_ns = min(end_ns, self._sequencer.day.post_market_end_ns)
        if end_ns <= gap.from_ns:
            # All of it was outside of the sessions.
            self.gaps.remove(gap)
        else:
            gap.to_ns, gap.state = end_ns, "HEALING"
            seconds = round((end_ns - gap.from_ns) / 1e9, 3)
            log.warning("the vendor's line is back", gap_seconds=seconds, reason=gap.reason)
            self._on_ended(gap)
            if self._is_silence:
                self._on_silence_ended()
        self._is_silence = False
        self.stale_seconds = 0.0
        self._write()

    def _read(self, date: str) -> list[Gap]:
        if self._path is None:
            return []
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the gaps of before cannot be read", path=str(self._path), error=reason_of(error))
            return []
        return kept.gaps if kept.date == date else []

    def _write(self) -> None:
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(self.kept())
            os.replace(fresh, self._path)
        except OSError as error:
            log.warning("the gaps cannot be kept", path=str(self._path), error=reason_of(error))
