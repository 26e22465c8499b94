"""Refills a gap of the vendor's line with the vendor's minute bars, of the symbols that traded in it.

The snapshot that is requested when the line is back brings day values. Bars bring what it lacks: extended-hours highs
and lows, and the minutes that are stored.
"""

import asyncio
import contextlib
import math
from array import array
from collections.abc import Callable
from typing import Final

from fastcore.admission import Admission
from services.data_ingest import metrics
from services.data_ingest.feed.gap_bars import GapBars, GapBarsSource
from services.data_ingest.feed.line_gaps import Gap, LineGaps
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.clock import NS_PER_MINUTE, NS_PER_SECOND
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# The vendor's bars come 2 s after their minute, and settle.
SETTLED_NS: Final = 5 * NS_PER_SECOND
POLL_SECONDS: Final = 0.5
# Most active first; a gap in which more symbols traded is PARTIAL.
MAX_SYMBOLS: Final = 6000


class GapHealer:
    """Heals gaps one after the other, oldest first.

    Args:
        admission: sets bars aside that are none.
        on_rows: gets the number of bars that entered the stream.
        max_symbols: so many symbols of a gap are refilled at most.
    """

    def __init__(
        self,
        source: GapBarsSource,
        sequencer: Sequencer,
        admission: Admission,
        on_rows: Callable[[int], None],
        max_symbols: int = MAX_SYMBOLS,
    ) -> None:
        self._source = source
        self._sequencer = sequencer
        self._admission = admission
        self._on_rows = on_rows
        self._max_symbols = max_symbols
        self._ended: asyncio.Queue[Gap] = asyncio.Queue()
        # volume_today by symbol id when a gap opened.
        self._volumes: array[float] = array("d")

    def gap_opened(self) -> None:
        """Remembers what each symbol had traded."""
        self._volumes = self._sequencer.market.state.column("volume_today")

    def gap_ended(self, gap: Gap) -> None:
        """Refills it soon."""
        self._ended.put_nowait(gap)

    async def run(self, gaps: LineGaps) -> None:
        """Refills the gaps that have ended, until cancelled."""
        while True:
            gap = await self._ended.get()
            if (healed := await self._heal(gap)) is not None:
                gaps.healed(gap, *healed)

    async def _heal(self, gap: Gap) -> tuple[int, bool] | None:
        """Returns how many symbols were refilled, and False when some could not be.

        None when the line was lost again meanwhile: the gap ends later, and is refilled then.
        """
        to_ns = gap.to_ns
        assert to_ns is not None, "it has ended"
        start, end = gap.from_ns // NS_PER_MINUTE, -(-to_ns // NS_PER_MINUTE)
        while self._sequencer.now_ns < end * NS_PER_MINUTE + SETTLED_NS:
            if gap.to_ns != to_ns or self._sequencer.day.post_market_end_ns <= self._sequencer.now_ns:
                break
            await asyncio.sleep(POLL_SECONDS)
        if gap.to_ns != to_ns:
            return None
        moved = self._moved()
        chosen = moved[: self._max_symbols]
        symbols = self._sequencer.market.state.symbols
        ids = {symbols[symbol_id]: symbol_id for symbol_id in chosen}
        refilled = 0
        async with contextlib.aclosing(self._source.fetch(list(ids), start, end)) as fetched:
            async for bars in fetched:
                if gap.to_ns != to_ns:
                    return None
                self._refill(bars, array("i", [ids[symbol] for symbol in bars.symbols]))
                refilled += len(bars.symbols)
        return (refilled, refilled == len(moved)) if gap.to_ns == to_ns else None

    def _moved(self) -> list[int]:
        """The symbols that have traded since the gap opened, those of the most shares first."""
        before, now = self._volumes, self._sequencer.market.state.column("volume_today")
        shares = {
            symbol_id: volume - (before[symbol_id] if symbol_id < len(before) and before[symbol_id] > 0 else 0.0)
            for symbol_id, volume in enumerate(now)
            if not math.isnan(volume)
        }
        moved = [symbol_id for symbol_id, count in shares.items() if count > 0]
        return sorted(moved, key=lambda symbol_id: -shares[symbol_id])

    def _refill(self, bars: GapBars, ids: "array[int]") -> None:
        """Adds the bars of these symbols to the stream."""
        if bars.failed:
            symbol, reason = next(iter(bars.failed.items()))
            log.warning("a gap cannot be refilled", symbols=len(bars.failed), first=symbol, reason=reason)
        if not bars.columns:
            return
        content, count = self._admission.admit_bars(bars.columns, ids)
        if count:
            self._sequencer.add_events("bars", content)
            self._on_rows(count)
            metrics.REFILLED_BARS.inc(count)
