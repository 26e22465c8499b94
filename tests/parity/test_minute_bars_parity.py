"""One-minute bars against the twin that keeps everything; when they are given out; late and corrected ones."""

from typing import Any

import pytest
from tradeul.v1 import frame_pb2, market_data_pb2, stream_pb2

from fastcore.market_state import MarketState
from fastcore.minute_bars import Bar, MinuteBars
from fastcore.reference.market_twin import MarketTwin
from fastcore.reference.minute_bars_twin import MINUTE_NS, MinuteBarsTwin
from tests.support.market_stream import MarketStream
from tests.support.tape import SECOND, Tape, at


def conflated(bars: list[Bar]) -> dict[tuple[int, int], tuple[Any, ...]]:
    """What a store would hold: the latest of a minute, but a made one never instead of the vendor's."""
    stored: dict[tuple[int, int], tuple[Any, ...]] = {}
    for bar in bars:
        key = (bar.symbol_id, bar.start_ns)
        if key in stored and bar.is_made and not stored[key][-1]:
            continue
        stored[key] = tuple(bar)[2:]
    return stored


@pytest.mark.parametrize(("seed", "batch_size"), [(0, 1), (1, 20), (2, 20), (3, 500), (4, 20), (5, 7)])
def test_like_the_twin(seed: int, batch_size: int) -> None:
    stream = MarketStream(seed, length=4000, symbols=25)
    state, market = MarketState(), MarketTwin()
    bars, twin = MinuteBars(state, 0), MinuteBarsTwin(market, 0)
    given: list[Bar] = []
    for frame in stream.frames(batch_size):
        state.apply(frame)
        market.apply(frame)
        bars.apply(frame)
        twin.apply(frame)
        given += bars.take()
    closing = frame_pb2.Frame(watermark=frame_pb2.Watermark(event_time_ns=bars.now_ns + MINUTE_NS + 10 * SECOND))
    bars.apply(closing.SerializeToString())
    stored, expected = conflated(given + bars.take()), twin.bars()
    assert stored.keys() == expected.keys()
    assert any(bar[-1] for bar in expected.values()) and not all(bar[-1] for bar in expected.values())
    assert {key: bar for key, bar in stored.items() if bar != expected[key]} == {}
    assert (bars.late_trades, bars.odd_bars) == (twin.late_trades, twin.odd_bars)


class Desk:
    """A state and its minute bars, moved by hand."""

    def __init__(self, whole_from: str | None = "04:00:00", clock: str = "10:00:00") -> None:
        self.tape = Tape(["AAA", "BBB"], clock=clock)
        self.state = MarketState()
        self.bars = MinuteBars(self.state, -1 if whole_from is None else at(whole_from))
        for frame in self.tape.opening():
            self.apply(frame)

    def apply(self, frame: bytes) -> list[Bar]:
        self.state.apply(frame)
        self.bars.apply(frame)
        return self.bars.take()

    def trade(self, clock: str, price: float, size: float = 100, conditions: int = 0) -> list[Bar]:
        batch = market_data_pb2.TradeBatch(
            symbol_id=[0], time_ns=[at(clock)], price=[price], size=[size], conditions=[conditions]
        )
        return self.apply(self.tape.frame(trades=batch))

    def watermark(self, clock: str) -> list[Bar]:
        return self.apply(self.tape.frame(watermark=frame_pb2.Watermark(event_time_ns=at(clock))))

    def bar(self, clock: str, close: float, span: int = 60, volume: float = 500, **more: float) -> list[Bar]:
        nan = [float("nan")]
        batch = market_data_pb2.BarBatch(
            span=market_data_pb2.MINUTE if span == 60 else market_data_pb2.SECOND,
            symbol_id=[0],
            start_ns=[at(clock)],
            end_ns=[at(clock) + span * SECOND],
            open=[10],
            high=[20],
            low=[5],
            close=[close],
            volume=[volume],
            accumulated_volume=nan,
            day_vwap=nan,
            official_open=nan,
            vwap=[more.get("vwap", nan[0])],
            average_size=[more.get("average_size", nan[0])],
        )
        return self.apply(self.tape.frame(bars=batch))


def test_a_minute_without_the_vendors_bar_is_made_of_its_trades() -> None:
    desk = Desk()
    for clock, price in (("10:00:05", 11.0), ("10:00:20", 12.5), ("10:00:10", 9.0), ("10:00:50", 10.0)):
        assert desk.trade(clock, price) == []
    assert desk.watermark("10:01:09") == []
    start = at("10:00:00")
    made = Bar(0, start, 11.0, 12.5, 9.0, 10.0, 400.0, 10.625, 4, True)
    assert desk.watermark("10:01:10") == [made]
    assert desk.watermark("10:01:20") == []
    # Late ones change it, while the minute is among the last four.
    assert desk.trade("10:00:59", 13.0) == []
    assert desk.watermark("10:01:30") == [made._replace(high=13.0, close=13.0, volume=500.0, vwap=11.1, trades=5)]
    desk.trade("10:04:00", 14.0)
    desk.trade("10:00:01", 1.0)
    assert desk.bars.late_trades == 1


def test_the_vendors_bar_goes_before() -> None:
    desk = Desk()
    desk.trade("10:00:05", 11.0)
    vendors = Bar(0, at("10:00:00"), 10, 20, 5, 12, 500, 10.5, 50, False)
    assert desk.bar("10:00:00", 12, vwap=10.5, average_size=10) == [vendors]
    desk.trade("10:00:06", 30.0)
    assert desk.watermark("10:02:00") == []
    # A minute that was made already, and one sent again.
    desk.trade("10:02:05", 11.0)
    assert [bar.is_made for bar in desk.watermark("10:03:10")] == [True]
    assert [bar.is_made for bar in desk.bar("10:02:00", 13)] == [False]
    assert desk.bar("10:00:00", 15)[0] == vendors._replace(close=15, vwap=None, trades=None)
    desk.trade("10:02:06", 40.0)
    assert desk.watermark("10:04:30") == []


def test_one_that_is_not_held_any_more_still_comes() -> None:
    desk = Desk()
    desk.trade("10:30:00", 11.0)
    assert [bar.start_ns for bar in desk.bar("10:00:00", 12)] == [at("10:00:00")]


def test_a_minute_that_is_pushed_out_before_it_was_given_out() -> None:
    desk = Desk()
    desk.trade("10:00:05", 11.0)
    assert [bar.close for bar in desk.trade("10:04:05", 12.0)] == [11.0]


@pytest.mark.parametrize("conditions", [1 << 37, 1 << 15, 1 << 16], ids=["volume only", "close print", "open print"])
def test_trades_that_set_no_price_make_no_bar(conditions: int) -> None:
    desk = Desk()
    desk.trade("10:00:05", 11.0, conditions=conditions)
    assert desk.watermark("10:02:00") == []


def test_form_t_makes_bars_before_the_open_only() -> None:
    desk = Desk(clock="08:00:00")
    desk.trade("08:00:05", 11.0, conditions=1 << 12)
    assert len(desk.watermark("08:02:00")) == 1
    desk.trade("10:00:05", 11.0, conditions=1 << 12)
    assert desk.watermark("10:02:00") == []


def test_a_price_beyond_the_range_widens_it() -> None:
    """Some conditions let a trade set the range and not the last price."""
    desk = Desk()
    desk.trade("10:00:05", 11.0)
    desk.trade("10:00:06", 15.0, conditions=1 << 5)
    (bar,) = desk.watermark("10:01:10")
    assert (bar.open, bar.high, bar.close) == (11.0, 15.0, 11.0)


def test_minutes_that_had_begun_are_not_made() -> None:
    desk = Desk(whole_from=None)
    desk.watermark("10:00:30")
    desk.trade("10:00:40", 11.0)
    desk.trade("10:01:00", 12.0)
    desk.watermark("10:03:00")
    assert desk.bars.whole_from_ns == at("10:01:00")
    assert [bar.start_ns for bar in desk.bars.take()] == []


def test_second_bars_and_odd_ones_are_left_out() -> None:
    desk = Desk()
    assert desk.bar("10:00:00", 12, span=1) == []
    assert desk.bar("10:00:30", 12) == []
    assert desk.bars.odd_bars == 1


def test_what_cannot_be_applied() -> None:
    desk = Desk()
    unknown = market_data_pb2.TradeBatch(symbol_id=[7], time_ns=[1], price=[1], size=[1], conditions=[0])
    frame = frame_pb2.Frame(position=stream_pb2.StreamPosition(epoch=1, sequence=1), trades=unknown)
    with pytest.raises(ValueError, match="symbol_id"):
        desk.bars.apply(frame.SerializeToString())
    with pytest.raises(ValueError):
        desk.bars.apply(b"\x0a\xff")
    with pytest.raises(TypeError):
        desk.bars.__reduce__()
