"""Refills a gap of the vendor's line with the vendor's minute bars, of the symbols that traded in it.

The snapshot that is requested when the line is back brings day values. Bars bring what it lacks: extended-hours highs
and lows, and the minutes that are stored.
"""

import asyncio
import math
from array import array
from collections.abc import Callable, Sequence
from typing import Final

from fastcore.admission import Admission
from fastcore.columns import BarColumns
from services.data_ingest import metrics
from services.data_ingest.feed.line_gaps import Gap, LineGaps
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.clock import NS_PER_MINUTE, NS_PER_MS, NS_PER_SECOND
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import AggregateSource, VendorError
from services.kit.vendor.models import AggregateBar

log = get_logger(__name__)

MINUTE_SPAN: Final = 2
# The vendor's bars come 2 s after their minute, and settle.
SETTLED_NS: Final = 5 * NS_PER_SECOND
POLL_SECONDS: Final = 0.5
# One after the other within each: the vendor's rate is shared with everything else.
WORKERS: Final = 4
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
        source: AggregateSource,
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
        waiting = iter(chosen)
        refilled = [0] * WORKERS

        async def work(worker: int) -> None:
            for symbol_id in waiting:
                refilled[worker] += await self._refill(symbols[symbol_id], symbol_id, start, end)

        async with asyncio.TaskGroup() as tasks:
            for worker in range(WORKERS):
                tasks.create_task(work(worker), name=f"data_ingest.gap_{worker}")
        return (sum(refilled), sum(refilled) == len(moved)) if gap.to_ns == to_ns else None

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

    async def _refill(self, symbol: str, symbol_id: int, start: int, end: int) -> bool:
        """Adds a symbol's bars of the minutes [start, end) to the stream; False when they cannot be had."""
        ms = NS_PER_MINUTE // NS_PER_MS
        try:
            columns = encode(await self._source.aggs(symbol, 1, "minute", start * ms, end * ms - 1))
        except (VendorError, OverflowError) as error:
            log.warning("a gap cannot be refilled", symbol=symbol, reason=reason_of(error))
            return False
        if columns:
            content, count = self._admission.admit_bars(columns, array("i", [symbol_id]))
            if count:
                self._sequencer.add_events("bars", content)
                self._on_rows(count)
                metrics.REFILLED_BARS.inc(count)
        return True


def encode(bars: Sequence[AggregateBar]) -> bytes:
    """The bars of one symbol, of id 0, as an encoded BarBatch; empty bytes for none."""
    columns = BarColumns(MINUTE_SPAN)
    for bar in bars:
        start_ns = bar.t * NS_PER_MS
        columns.append(
            0,
            start_ns,
            start_ns + NS_PER_MINUTE,
            bar.o,
            bar.h,
            bar.l,
            bar.c,
            bar.v,
            vwap=bar.vw if bar.vw is not None else math.nan,
            average_size=bar.v / bar.n if bar.n else math.nan,
        )
    return columns.encode()
