"""Brings the trade-halt feed into the stream: each item once, and again when it has changed."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from tradeul.v1 import market_data_pb2

from services.data_ingest import metrics
from services.data_ingest.feed.halt_feed import HaltFeedError, HaltItem, spellings
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings

log = get_logger(__name__)

# The feed's owner asks for no more than one request a minute.
OPEN_SECONDS: Final = 60.0
# A closed market halts nothing.
CLOSED_SECONDS: Final = 600.0
LONGEST_PAUSE: Final = 600.0
SYMBOLS_SECONDS: Final = 1.0


class HaltSource(Protocol):
    """Where items come from. `set_aside` counts malformed ones by what was wrong."""

    set_aside: Counter[str]

    async def fetch(self) -> list[HaltItem] | None:
        """All items, None when they are as they were; raises HaltFeedError."""
        ...


class HaltsFollower:
    """`set_aside` counts items that did not enter the stream, each once a day and reason.

    Args:
        latest_ns: gives the time after which a halt that begins is ahead of time.
        on_rows: gets the number of rows that entered the stream.
        open_seconds: between two requests at least; more after failures.
    """

    def __init__(
        self,
        source: HaltSource,
        sequencer: Sequencer,
        latest_ns: Callable[[], int],
        on_rows: Callable[[int], None],
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        self._source = source
        self._sequencer = sequencer
        self._latest_ns = latest_ns
        self._on_rows = on_rows
        self._open_seconds = open_seconds
        self._items: list[HaltItem] = []
        # The items in the stream of this day, by symbol id and beginning.
        self._published: dict[tuple[int, int], HaltItem] = {}
        self._counted: set[tuple[str, str, int]] = set()
        # The items of the reading before the last.
        self._read_before: frozenset[HaltItem] = frozenset()
        self._set_aside: Counter[str] = Counter()
        self._day_began = asyncio.Event()

    @property
    def set_aside(self) -> Counter[str]:
        return self._source.set_aside + self._set_aside

    def day_changed(self) -> None:
        """The stream has begun a day, which knows of no halts: those that still last are added again."""
        self._published.clear()
        self._counted.clear()
        self.publish()
        self._day_began.set()

    def take(self, items: list[HaltItem] | None) -> int:
        """Takes what was read of the feed, None where that is as before; returns how many entered the stream."""
        self._read_before = frozenset(self._items)
        if items is not None:
            self._items = items
        return self.publish()

    def publish(self) -> int:
        """Adds to the stream what is new in the items read last; returns how many of them that are."""
        batch = market_data_pb2.HaltBatch()
        # In the order in which they began, so that of two halts of a symbol the newer comes last.
        for item in sorted(self._items, key=lambda item: item.halted_at_ns):
            if (symbol_id := self._admit(item)) is None or self._published.get((symbol_id, item.halted_at_ns)) == item:
                continue
            self._published[symbol_id, item.halted_at_ns] = item
            batch.symbol_id.append(symbol_id)
            batch.halted_at_ns.append(item.halted_at_ns)
            batch.resumes_at_ns.append(item.resumes_at_ns)
            batch.reason.append(item.reason)
        count = len(batch.symbol_id)
        if count:
            self._sequencer.add_events("halts", batch.SerializeToString())
            self._on_rows(count)
        return count

    async def run(self) -> None:
        """Reads the feed until cancelled."""
        failures = 0
        while True:
            self._day_began.clear()
            pause = self._open_seconds
            try:
                items = await self._source.fetch()
            except HaltFeedError as error:
                failures += 1
                pause = min(pause * 2 ** min(failures - 1, 10), max(LONGEST_PAUSE, pause))
                metrics.HALT_POLLS.labels("failed").inc()
                log.warning("no trade halts from the feed", reason=reason_of(error), again_in=round(pause, 2))
                self.publish()
            else:
                failures = 0
                metrics.HALT_POLLS.labels("unchanged" if items is None else "taken").inc()
                self.take(items)
            await self._wait(pause)
            if self._sequencer.is_closed and pause < CLOSED_SECONDS:
                try:
                    async with asyncio.timeout(CLOSED_SECONDS - pause):
                        await self._day_began.wait()
                except TimeoutError:
                    pass

    async def _wait(self, seconds: float) -> None:
        """Waits; symbols may come that items wait for: reference data name most of them soon after the start."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            symbols = len(self._sequencer.symbols)
            await asyncio.sleep(min(left, SYMBOLS_SECONDS))
            if len(self._sequencer.symbols) != symbols:
                self.publish()

    def _admit(self, item: HaltItem) -> int | None:
        """Returns the symbol's id; None for an item that is set aside."""
        day = self._sequencer.day
        known = (self._sequencer.symbols.get(name) for name in spellings(item.symbol))
        symbol_id = next((found for found in known if found is not None), None)
        is_over = 0 < item.resumes_at_ns < day.pre_market_start_ns
        reason = ""
        if symbol_id is None:
            # Reference data name most symbols soon after the start: it waits until the feed is read again.
            if item not in self._read_before:
                return None
            reason = "unknown_symbol"
        elif is_over or item.halted_at_ns >= day.post_market_end_ns:
            reason = "time_out_of_session"
        elif item.halted_at_ns > self._latest_ns():
            reason = "time_ahead"
        if not reason:
            return symbol_id
        key = (reason, item.symbol, item.halted_at_ns)
        if key not in self._counted:
            self._counted.add(key)
            self._set_aside[reason] += 1
            log.info("halt set aside", symbol=item.symbol, reason=reason)
        return None


def poll_seconds(settings: Settings) -> float:
    """A minute of the market's time: a simulated one may be shorter."""
    return max(1.0, OPEN_SECONDS / settings.sim.speed) if settings.uses_simulator else OPEN_SECONDS
