"""Gaps of the vendor's line: noticed, not invented, merged, kept, and refilled with minute bars."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tradeul.v1 import market_data_pb2

from services.data_ingest.feed import gap_healer
from services.data_ingest.feed.gap_bars import BATCH_SYMBOLS, REQUESTS_AT_ONCE, GapBars, Request, fetched
from services.data_ingest.feed.gap_healer import GapHealer
from services.data_ingest.feed.line_gaps import BUSY_EVENTS, SILENCE_SECONDS, Gap, LineGaps
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import AggregateBar
from tests.support.pipeline import Pipeline, trade
from tests.support.scripted_day import DAY, ms_at

MS = 1_000_000


class Line:
    """The gaps of a pipeline in feed mode, and a clock that the test moves."""

    def __init__(self, directory: Path | None = None, can_pause: bool = False) -> None:
        self.pipeline = Pipeline([DAY])
        self.ended: list[Gap] = []
        self.opened = self.silences = 0
        admission = self.pipeline.feed.admission
        self.gaps = LineGaps(
            self.pipeline.sequencer,
            lambda: admission.newest_ns,
            lambda: admission.newest_ns,
            self._opened,
            self.ended.append,
            self._silence_ended,
            directory,
            can_pause,
        )
        self.now = 1000.0
        self._trades = 0
        self.gaps.day_began()

    def _opened(self) -> None:
        self.opened += 1

    def _silence_ended(self) -> None:
        self.silences += 1

    def trades(self, clock: str, count: int = 1) -> None:
        """So many trades come in a batch, all of this time."""
        for _ in range(count):
            self._trades += 1
            self.pipeline.send(trade("AAPL", clock, DAY, 10.0, i=str(self._trades)))
            self.gaps.events_came(1, self.now)

    def wait(self, seconds: float) -> None:
        """Nothing comes for so long."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            self.gaps.look(self.now)


def test_silence_of_a_busy_market_is_a_gap_that_the_next_event_ends() -> None:
    line = Line()
    line.trades("10:00:00", BUSY_EVENTS)
    line.wait(SILENCE_SECONDS - 0.5)
    assert (line.gaps.open, line.gaps.stale_seconds) == (None, 0.0)
    line.wait(0.5)
    gap = line.gaps.open
    assert gap is not None and gap.from_ns == ms_at("10:00:00") * MS
    assert line.gaps.stale_seconds == SILENCE_SECONDS
    line.wait(30)
    assert line.gaps.stale_seconds == SILENCE_SECONDS + 30
    line.trades("10:00:45")
    assert (gap.state, gap.to_ns) == ("HEALING", ms_at("10:00:45") * MS)
    assert (line.ended, line.opened, line.silences, line.gaps.stale_seconds) == ([gap], 1, 1, 0.0)


@pytest.mark.parametrize("events", [0, 1, BUSY_EVENTS - 1])
def test_silence_of_a_quiet_market_says_nothing(events: int) -> None:
    line = Line()
    line.trades("04:00:01", events)
    line.wait(120)
    assert (line.gaps.gaps, line.gaps.stale_seconds) == ([], 0.0)


def test_a_market_that_grew_quiet_before_is_no_gap() -> None:
    """The minute before counts, not the hour."""
    line = Line()
    line.trades("10:00:00", BUSY_EVENTS)
    for _ in range(10):
        line.wait(10)
        line.trades("10:01:00")
    line.wait(60)
    assert line.gaps.gaps == []


def test_a_market_that_was_paused_is_no_gap() -> None:
    line = Line(can_pause=True)
    line.trades("10:00:00", BUSY_EVENTS)
    line.wait(600)
    assert (line.gaps.open, line.opened, line.gaps.stale_seconds) == (None, 0, 0.0)
    # A line that is reported to be lost is.
    line.gaps.line_lost("closed")
    assert line.gaps.open is not None


def test_the_end_of_the_day_is_no_gap() -> None:
    line = Line()
    line.trades("19:59:30", BUSY_EVENTS)
    line.wait(300)
    assert line.gaps.gaps == []


def test_a_market_that_is_halted_as_a_whole_is_no_gap() -> None:
    line = Line()
    line.trades("10:00:00", BUSY_EVENTS)
    line.pipeline.send({"ev": "LULD", "T": "AAPL", "h": 11, "l": 9, "i": [17], "z": 3, "t": ms_at("10:00:00"), "q": 1})
    line.wait(300)
    assert line.gaps.gaps == []


def test_a_process_that_stood_still_itself_invents_no_silence() -> None:
    line = Line()
    line.trades("10:00:00", BUSY_EVENTS)
    line.gaps.look(line.now)
    line.now += 60
    line.gaps.look(line.now)
    assert line.gaps.gaps == []


def test_a_line_that_comes_and_goes_has_one_gap() -> None:
    line = Line()
    line.trades("10:00:00", 5)
    for second in range(2, 40, 2):
        line.gaps.line_lost("closed")
        line.gaps.line_back()
        line.trades(f"10:00:{second:02}")
    assert [(gap.from_ns, gap.to_ns) for gap in line.gaps.gaps] == [
        (ms_at("10:00:00") * MS, ms_at("10:00:38") * MS),
    ]
    line.trades("10:10:00")
    line.gaps.line_lost("closed")
    # What comes before all subscriptions are restored ends no gap.
    line.trades("10:10:05")
    assert line.gaps.open is not None and line.silences == 0
    assert len(line.gaps.gaps) == 2


def test_repeated_events_do_not_end_a_gap() -> None:
    """The last minutes again: in feed mode the market's clock has not moved on."""
    line = Line()
    line.trades("10:00:00", 5)
    line.gaps.line_lost("closed", is_away=False)
    line.trades("09:59:00")
    assert line.gaps.open is not None
    line.trades("10:00:07")
    assert line.gaps.open is None


def test_gaps_are_kept_for_the_next_process_of_the_same_day(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.trades("10:00:00", 5)
    line.gaps.line_lost("closed", is_away=False)
    line.trades("10:05:00")
    line.trades("10:10:00")
    line.gaps.line_lost("again")
    again = Line(tmp_path)
    assert again.gaps.gaps == line.gaps.gaps
    assert [gap.reason for gap in again.ended] == ["closed"]
    again.trades("10:11:00")
    assert [gap.state for gap in again.gaps.gaps] == ["HEALING", "HEALING"]
    (tmp_path / "gaps.json").write_text("{")
    assert Line(tmp_path).gaps.gaps == []


class Bars:
    """A vendor's minute bars; an unknown symbol is an error."""

    def __init__(self, **bars: list[AggregateBar]) -> None:
        self.bars = bars
        self.requests: list[tuple[Any, ...]] = []

    async def aggs(self, ticker: str, n: int, unit: str, start: int, end: int) -> list[AggregateBar]:
        self.requests.append((ticker, n, unit, start, end))
        if ticker not in self.bars:
            raise VendorError("no such symbol")
        return self.bars[ticker]

    def fetch(self, symbols: Sequence[str], first_minute: int, end_minute: int) -> AsyncGenerator[GapBars, None]:
        """As the process does that fetches them."""
        return fetched(self, Request(list(symbols), first_minute, end_minute))


def bar(clock: str, high: float, low: float, volume: float = 500.0) -> AggregateBar:
    return AggregateBar(10.0, high, low, 10.0, volume, ms_at(clock), 10.0, 5)


async def healed(pipeline: Pipeline, bars: Bars, max_symbols: int = gap_healer.MAX_SYMBOLS) -> Gap:
    """The gap of 08:00:20 to 08:02:10, in which AAPL traded most, then MSFT, and IDLE not at all."""
    sequencer = pipeline.sequencer
    healer = GapHealer(bars, sequencer, pipeline.feed.admission, lambda rows: None, max_symbols)
    newest_ns = lambda: pipeline.feed.admission.newest_ns  # noqa: E731
    gaps = LineGaps(sequencer, newest_ns, newest_ns, healer.gap_opened, healer.gap_ended)
    gaps.day_began()
    pipeline.send(*(trade(symbol, "08:00:20", DAY, 10.0) for symbol in ("IDLE", "MSFT", "AAPL")))
    pipeline.row("AAPL")
    gaps.line_lost("closed", is_away=False)
    running = asyncio.create_task(healer.run(gaps))
    pipeline.send(trade("MSFT", "08:02:10", DAY, 10.0, 200), trade("AAPL", "08:02:10", DAY, 10.0, 900))
    gaps.events_came(2, 0.0)
    pipeline.send(trade("MSFT", "08:03:06", DAY, 10.0))
    pipeline.row("AAPL")
    async with asyncio.timeout(20):
        while gaps.gaps[0].state == "HEALING":
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return gaps.gaps[0]


async def test_highs_and_lows_of_a_gap_come_from_the_vendors_minute_bars() -> None:
    pipeline = Pipeline([DAY])
    bars = Bars(
        AAPL=[bar("08:00:00", 10.0, 10.0), bar("08:01:00", 12.0, 9.0), bar("08:02:00", 10.5, 10.0)],
        MSFT=[bar("08:01:00", 11.0, 10.0)],
        IDLE=[],
    )
    gap = await healed(pipeline, bars)
    assert (gap.state, gap.symbols_refilled) == ("HEALED", 2)
    whole = (1, "minute", ms_at("08:00:00"), ms_at("08:03:00") - 1)
    assert bars.requests == [("AAPL", *whole), ("MSFT", *whole)]
    row = pipeline.row("AAPL")
    assert (row["intraday_high"], row["intraday_low"], row["premarket_high"]) == (12.0, 9.0, 12.0)
    # A bar adds no shares, and moves no price back.
    assert (row["price"], row["volume_today"], row["trades_today"]) == (10.0, 1000.0, 2)
    assert pipeline.row("MSFT")["intraday_high"] == 11.0


async def test_the_bars_of_many_symbols_come_some_at_a_time_and_each_once() -> None:
    symbols = [f"S{i}" for i in range(2 * BATCH_SYMBOLS + 7)]
    bars = Bars(**{symbol: [bar("08:00:00", 10.0 + i, 9.0)] for i, symbol in enumerate(symbols) if i != 3})
    highs: dict[str, float] = {}
    failed: dict[str, str] = {}
    batches = 0
    async for batch in bars.fetch(symbols, 0, 1):
        batches += 1
        assert len(batch.symbols) + len(batch.failed) <= BATCH_SYMBOLS
        columns = market_data_pb2.BarBatch.FromString(batch.columns)
        highs |= {batch.symbols[i]: high for i, high in zip(columns.symbol_id, columns.high, strict=True)}
        failed |= batch.failed
    assert batches == 3
    assert highs == {symbol: 10.0 + i for i, symbol in enumerate(symbols) if i != 3}
    assert failed == {"S3": "no such symbol"}


async def test_no_more_bars_are_requested_with_a_key_that_is_refused() -> None:
    class Refusing(Bars):
        async def aggs(self, ticker: str, n: int, unit: str, start: int, end: int) -> list[AggregateBar]:
            self.requests.append((ticker,))
            raise VendorError("the key has no right to bars", status=403)

    bars = Refusing()
    symbols = [f"S{i}" for i in range(300)]
    failed: dict[str, str] = {}
    async for batch in bars.fetch(symbols, 0, 1):
        failed |= batch.failed
    assert failed == dict.fromkeys(symbols, "the key has no right to bars")
    assert len(bars.requests) <= REQUESTS_AT_ONCE


async def test_a_gap_that_cannot_be_refilled_whole_is_partial() -> None:
    gap = await healed(Pipeline([DAY]), Bars(AAPL=[bar("08:01:00", 12.0, 9.0)]))
    assert (gap.state, gap.symbols_refilled) == ("PARTIAL", 1)
    # A time beyond all clocks.
    odd = AggregateBar(10.0, 11.0, 9.0, 10.0, 500.0, 2**62)
    gap = await healed(Pipeline([DAY]), Bars(AAPL=[odd], MSFT=[]))
    assert (gap.state, gap.symbols_refilled) == ("PARTIAL", 1)
    gap = await healed(Pipeline([DAY]), Bars(AAPL=[], MSFT=[]), max_symbols=1)
    assert (gap.state, gap.symbols_refilled) == ("PARTIAL", 1)


@pytest.mark.parametrize("is_refilling", [False, True])
async def test_a_gap_that_goes_on_while_it_is_refilled_is_healed_when_all_of_it_is(
    is_refilling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is lost again, and back, before the last minute is over, or while bars are requested."""
    monkeypatch.setattr(gap_healer, "POLL_SECONDS", 0.001)
    pipeline = Pipeline([DAY])
    asked, answer = asyncio.Event(), asyncio.Event()

    class Slow(Bars):
        async def aggs(self, ticker: str, n: int, unit: str, start: int, end: int) -> list[AggregateBar]:
            asked.set()
            await answer.wait()
            return await super().aggs(ticker, n, unit, start, end)

    bars = Slow(AAPL=[bar("08:00:00", 12.0, 9.0)])
    healer = GapHealer(bars, pipeline.sequencer, pipeline.feed.admission, lambda rows: None)

    def newest_ns() -> int:
        return pipeline.feed.admission.newest_ns

    gaps = LineGaps(pipeline.sequencer, newest_ns, newest_ns, healer.gap_opened, healer.gap_ended)
    gaps.day_began()
    states: list[tuple[str, int]] = []
    report = gaps.healed

    def healed(gap: Gap, symbols: int, is_whole: bool) -> None:
        report(gap, symbols, is_whole)
        states.append((gap.state, len(bars.requests)))

    monkeypatch.setattr(gaps, "healed", healed)

    def come(clock: str) -> None:
        pipeline.send(trade("AAPL", clock, DAY, 10.0, 900))
        gaps.events_came(1, 0.0)
        pipeline.row("AAPL")

    come("08:00:20")
    gaps.line_lost("closed", is_away=False)
    come("08:00:30")
    running = asyncio.create_task(healer.run(gaps))
    if is_refilling:
        come("08:01:06")
        await asyncio.wait_for(asked.wait(), 10)
    else:
        await asyncio.sleep(0.02)
    # What follows within 30 s is the same gap.
    gaps.gaps[0].to_ns = newest_ns()
    gaps.line_lost("closed", is_away=False)
    come("08:01:10")
    answer.set()
    await asyncio.sleep(0.02)
    assert states == []
    come("08:02:06")
    async with asyncio.timeout(10):
        while not states:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert states == [("HEALED", 1 + is_refilling)]
    assert bars.requests[-1] == ("AAPL", 1, "minute", ms_at("08:00:00"), ms_at("08:02:00") - 1)
