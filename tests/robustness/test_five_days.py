"""Five trading days of the simulated market through one process: nothing of a day is left over on the next.

Thanksgiving and an early close are among them. The vendor's own JSON goes through the
decoder, the admission and the sequencer; the twin gets it converted and judged by this
file alone. At several moments of each day every list of the sequencer's copy is the twin's.
"""

import datetime
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
from tradeul.v1 import frame_pb2, stream_pb2

from fastcore.reference.lists_twin import ListsTwin
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import load_lists
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.setting_groups import SimSettings
from services.market.calendar import TradingDay as MarketDay
from services.simulator.calendar import TradingDay
from services.simulator.market import Market as SimulatedMarket
from tests.support import twin_frames
from tests.support.compare_rows import differences
from tests.support.pipeline import EPOCH
from tests.support.pipeline_process import PipelineProcess
from tests.support.twin_frames import event_body

DAYS: Final = 5
SYMBOLS: Final = 3
MINUTE: Final = 60
# Minutes after 04:00 at which all lists are compared, as far as the day reaches.
MOMENTS: Final = (1, 90, 331, 420, 545, 721, 779, 959)
OFFICIAL: Final = {15, 16}
# The allocator keeps some of what it has had; a leak of a day's events would be several times as much.
SPARE_BYTES: Final = 4_000_000

pytestmark = pytest.mark.timeout(600)


def day_of(day: TradingDay) -> MarketDay:
    times = (day.start_ns, day.minute_ns(330), day.minute_ns(day.close_minute), day.end_ns)
    return MarketDay(day.date, *times, is_early_close=day.is_early)


class PlainFeed:
    """The frames of the twin: each message judged as docs/semantics.md says, in this file's own words."""

    def __init__(self, symbols: list[str]) -> None:
        self.symbols = symbols
        self.counted: Counter[str] = Counter()
        self._ids = {symbol: index for index, symbol in enumerate(symbols)}
        self._sequence = 0
        self._seen: set[tuple[str, int, int, str]] = set()
        self._day: TradingDay | None = None

    def frame(self, **body: Any) -> bytes:
        self._sequence += 1
        position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=self._sequence)
        return frame_pb2.Frame(position=position, **body).SerializeToString()

    def opening(self) -> Iterator[bytes]:
        yield self.frame(trade_rules=twin_frames.fallback_rules())
        yield self.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.symbols))
        yield self.frame(list_filters=frame_pb2.ListFilters(filters=twin_frames.default_filters()))

    def begin(self, day: TradingDay) -> bytes:
        self._day = day
        self._seen.clear()
        self.counted.clear()
        return self.frame(trading_day=day_of(day).frame())

    def event(self, text: str) -> bytes | None:
        """The frame of a message; None when it is to be set aside."""
        body = json.loads(text)
        if not self._is_good(body):
            return None
        if body["ev"] == "T":
            identity = (body["sym"], body["x"], body.get("trfi", 0), body["i"])
            if identity in self._seen:
                return None
            self._seen.add(identity)
            if not OFFICIAL & set(body.get("c", ())):
                self.counted[body["sym"]] += 1
        return self.frame(**event_body(body, self._ids))

    def watermark(self, time_ns: int) -> bytes:
        return self.frame(watermark=frame_pb2.Watermark(event_time_ns=time_ns))

    def _is_good(self, body: dict[str, Any]) -> bool:
        assert self._day is not None
        kind = body["ev"]
        if body.get("sym", body.get("T")) not in self._ids:
            return False
        if kind == "T":
            is_priced = isinstance(body.get("p"), float) and 0 < body["p"] < 1e7
            is_sized = body["s"] > 0 or bool(OFFICIAL & set(body.get("c", ())))
            is_timed = self._day.start_ns <= body["t"] * 1_000_000 < self._day.end_ns
            return is_priced and is_sized and is_timed
        return kind == "LULD" or bool(body["l"] <= body["o"] <= body["h"] and body["l"] <= body["c"] <= body["h"])


def test_five_days_of_the_simulated_market() -> None:
    start = datetime.datetime(2025, 11, 24, 4, 0, tzinfo=NEW_YORK)
    market = SimulatedMarket(SimSettings(seed=3, symbols=SYMBOLS, start=start))
    first = market.day.number
    days = [market.calendar.day(first + offset) for offset in range(DAYS + 2)]
    assert [day.date.day for day in days[:DAYS]] == [24, 25, 26, 28, 1]
    plain = PlainFeed(list(market.universe.tickers))
    twin = ListsTwin(load_lists(), MarketTwin())
    for frame in plain.opening():
        twin.apply(frame)
    sizes: list[int] = []
    compared = 0
    with PipelineProcess([day_of(day) for day in days]) as pipeline:
        for day in days[:DAYS]:
            twin.apply(plain.begin(day))
            for minute, texts in minutes(market, day):
                pipeline.ask("take", f"[{','.join(texts)}]".encode(), day.minute_ns(minute))
                for frame in filter(None, map(plain.event, texts)):
                    twin.market.apply(frame)
                if minute in MOMENTS:
                    twin.apply(plain.watermark(day.minute_ns(minute)))
                    compared += compare(pipeline.ask("lists"), twin, f"{day.date} {minute} min")
            state = pipeline.ask("state")
            assert (state["date"], state["days"]) == (day.date, len(sizes) + 1)
            assert state["trades"] == plain.counted
            sizes.append(state["bytes"])
    # Lists that are empty would prove nothing.
    assert compared > 100
    assert sizes[-1] - sizes[1] < SPARE_BYTES, sizes


def minutes(market: SimulatedMarket, day: TradingDay) -> Iterator[tuple[int, list[str]]]:
    """The messages of each minute of a day, with the minute after 04:00 at which it ends."""
    texts: list[str] = []
    while market.day.number == day.number and not market.tape.is_over:
        second = market.tape.next_second
        texts += [event.text for event in market.step()]
        if second % MINUTE == MINUTE - 1:
            if second // MINUTE < day.end_minute:
                yield second // MINUTE + 1, texts
            texts = []
    # The next day.
    market.step()


def compare(lists: dict[str, list[dict[str, Any]]], twin: ListsTwin, where: str) -> int:
    """Every list, row by row; returns how many rows there were."""
    for name, found in lists.items():
        expected = twin.rows(name)
        assert [row["symbol"] for row in found] == [row["symbol"] for row in expected], f"{where} {name}"
        for row, plain in zip(found, expected, strict=True):
            assert differences(row, plain) == {}, f"{where} {name} {row['symbol']}"
    return sum(map(len, lists.values()))
