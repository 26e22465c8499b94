"""The change of day: what yesterday's reference data become before today's are there."""

import asyncio
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from fastcore.market import Market
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.reference import Baselines, HistoryDays, ReferenceBatch
from services.data_ingest.reference import follower as follower_module
from services.data_ingest.reference.changes import DAYS_AHEAD, KnownSplits
from services.data_ingest.reference.follower import LONGEST_PAUSE_SECONDS, ReferenceFollower
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.lists.definitions import load_lists
from services.kit.stores.notifications import Kind
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import Split
from services.market.calendar import Calendar
from services.market.volume_slots import SLOTS
from tests.support.pipeline import EPOCH, trading_day

FIRST, SECOND = datetime.date(2026, 3, 9), datetime.date(2026, 3, 10)
SYMBOLS = ["A", "B", "C"]


class Source:
    """All that is known of three symbols, once `allowed`."""

    def __init__(self) -> None:
        self.set_aside: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.allowed = asyncio.Event()
        self.loaded = asyncio.Event()

    async def load(
        self,
        day: datetime.date,
        symbols: Sequence[str] | None = None,
        days: HistoryDays | None = None,
        kinds: Sequence[Kind] | None = None,
    ) -> AsyncIterator[ReferenceBatch]:
        await self.allowed.wait()
        numbers = {
            name: np.full(3, 10.0)
            for name in ("prev_close", "prev_volume", "high_20d", "avg_volume_30d", "atr", "beta")
        }
        yield ReferenceBatch(SYMBOLS, numbers, {"industry": ["Mining"] * 3})
        curve = np.ones((3, SLOTS))
        yield ReferenceBatch(SYMBOLS, baselines=Baselines(np.full(3, 30, np.uint32), curve, curve, curve))
        self.loaded.set()


class Vendor:
    """Announces splits; fails while `is_away`."""

    def __init__(self, *splits: tuple[str, datetime.date]) -> None:
        self.splits = list(splits)
        self.is_away = False
        self.asked: asyncio.Queue[tuple[datetime.date, datetime.date]] = asyncio.Queue()

    async def __call__(self, first: datetime.date, last: datetime.date) -> list[Split]:
        self.asked.put_nowait((first, last))
        if self.is_away:
            raise VendorError("away")
        told = [Split(ticker, str(date), 1, 2) for ticker, date in self.splits if first <= date <= last]
        return [*told, Split("ODD", "soon", 1, 2)]


class Rig:
    def __init__(self, vendor: Vendor | None) -> None:
        self.market = Market(load_lists(), EPOCH)
        self.sequencer = Sequencer(EPOCH, self.market)
        self.source = Source()
        self.calendar = Calendar([trading_day(FIRST), trading_day(SECOND)])
        splits = None if vendor is None else KnownSplits(vendor)
        self.follower = ReferenceFollower(self.source, self.sequencer, lambda: self.calendar, splits)
        self.feed = FeedInput(self.sequencer, "wall", self.follower.split_until)
        self.feed.days.listen(self.follower.day_changed)
        self.feed.days.begin(self.calendar, self.calendar.days[0])

    def row(self, symbol: str) -> dict[str, Any]:
        self.market.refresh()
        return self.market.state.row(symbol)

    async def next_day(self) -> None:
        """The second day begins once the first is loaded; nothing of it is loaded yet."""
        self.source.allowed.set()
        await self.source.loaded.wait()
        self.source.allowed.clear()
        self.feed.days.follow_clock(self.calendar.days[1].pre_market_start_ns)


@asynccontextmanager
async def running(vendor: Vendor | None) -> AsyncIterator[Rig]:
    rig = Rig(vendor)
    task = asyncio.create_task(rig.follower.run())
    try:
        yield rig
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


HELD = {"avg_volume_30d": 10.0, "atr": 10.0}
COMPANY = {"beta": 10.0, "industry": "Mining"}


async def test_history_of_many_days_holds_but_for_symbols_that_split() -> None:
    vendor = Vendor(("A", SECOND), ("C", SECOND + datetime.timedelta(days=1)), ("NEW", SECOND))
    async with running(vendor) as rig:
        await rig.next_day()
        assert vendor.asked.get_nowait() == (SECOND, FIRST + datetime.timedelta(days=DAYS_AHEAD))
        assert rig.row("A") == {"symbol": "A", **COMPANY}
        assert rig.row("B") == {"symbol": "B", **COMPANY, **HELD}
        assert rig.row("C") == {"symbol": "C", **COMPANY, **HELD}
        counts = rig.follower.holdings.counts()
        assert (counts["prev_close"], counts["atr"], counts["baseline"], counts["industry"]) == (0, 2, 2, 3)
        rig.source.loaded.clear()
        rig.source.allowed.set()
        await rig.source.loaded.wait()
        day_before = {"prev_close": 10.0, "prev_volume": 10.0, "high_20d": 10.0, "ssr": False}
        assert rig.row("A") == {"symbol": "A", **COMPANY, **HELD, **day_before}


async def test_a_split_that_was_announced_late_takes_its_symbols_history() -> None:
    vendor = Vendor()
    async with running(vendor) as rig:
        await rig.next_day()
        assert "atr" in rig.row("B")
        vendor.splits.append(("B", SECOND))
        while await vendor.asked.get() != (SECOND, SECOND + datetime.timedelta(days=DAYS_AHEAD)):
            pass
        rig.source.loaded.clear()
        rig.source.allowed.set()
        await rig.source.loaded.wait()
        bodies = rig.sequencer.frames
        # Two of the first day, what B lost, two of the second day.
        assert (bodies["reference"], bodies["baselines"]) == (3, 3)


@pytest.mark.parametrize("vendor", ["none", "away"])
async def test_where_splits_are_not_known_all_history_is_absent(vendor: str) -> None:
    splits = Vendor() if vendor == "away" else None
    if splits is not None:
        splits.is_away = True
    async with running(splits) as rig:
        await rig.next_day()
        assert [rig.row(symbol) for symbol in SYMBOLS] == [{"symbol": symbol, **COMPANY} for symbol in SYMBOLS]
        assert rig.follower.holdings.counts()["baseline"] == 0


async def test_what_was_known_stays_while_the_vendor_is_away() -> None:
    vendor = Vendor(("A", SECOND))
    known = KnownSplits(vendor)
    assert known.between(FIRST, SECOND) is None
    await known.look_up(FIRST, FIRST)
    vendor.is_away = True
    await known.look_up(SECOND, SECOND)
    assert known.between(FIRST, SECOND) == {"A"}
    assert known.between(SECOND, SECOND + datetime.timedelta(days=1)) == frozenset()
    day_before = FIRST - datetime.timedelta(days=1)
    assert known.between(day_before, SECOND) is None
    assert known.between(FIRST, FIRST + datetime.timedelta(days=DAYS_AHEAD + 1)) is None


async def test_batches_take_a_fifth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come in bunches, and each takes a millisecond or more: trades do not wait for one after the other."""
    now, slept, sleep = 100.0, list[float](), asyncio.sleep
    durations = iter((0.003, 3.0))

    async def counted_sleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    def slow(add: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def added(columns: bytes) -> object:
            nonlocal now
            now += next(durations)
            return add(columns)

        return added

    async with running(None) as rig:
        monkeypatch.setattr(follower_module, "monotonic", lambda: now)
        monkeypatch.setattr(asyncio, "sleep", counted_sleep)
        monkeypatch.setattr(rig.sequencer, "add_reference", slow(rig.sequencer.add_reference))
        monkeypatch.setattr(rig.sequencer, "add_baselines", slow(rig.sequencer.add_baselines))
        rig.source.allowed.set()
        await rig.source.loaded.wait()
    assert slept == pytest.approx([0.012, LONGEST_PAUSE_SECONDS])
    assert rig.row("A").items() >= {**HELD, **COMPANY}.items()
