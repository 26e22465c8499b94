"""The sequencer's core: what enters becomes frames, batches follow each other, the day changes when it should."""

import datetime
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pytest
from tradeul.v1 import data_ingest_pb2, frame_pb2, market_data_pb2, polygon_ws_pb2, stream_pb2

from fastcore.admission import REFUSED, UNNAMED
from fastcore.market import Market
from fastcore.ranked_list import ListUpdate
from fastcore.reference.market_twin import MarketTwin
from fastcore.trade_rules import fallback_rules
from services.data_ingest.feed.feed_input import FeedHole, FeedInput
from services.data_ingest.stream import sequencer as sequencer_module
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.stream.symbols import SymbolTable
from services.kit.lists.definitions import load_lists
from services.kit.lists.scan_filters import ScanFilter, default_filters
from services.kit.rpc.ring import Position
from services.market.calendar import Calendar, TradingDay

EPOCH = 1_790_000_000
FEED_EPOCH = 1_780_000_000
HOUR = 3_600_000_000_000
SECOND = 1_000_000_000
FOUR_OCLOCK = 1_773_129_600 * SECOND  # 2026-03-10T04:00:00-04:00


def day_after(days: int) -> TradingDay:
    """Trading days follow each other without a weekend here."""
    start = FOUR_OCLOCK + days * 24 * HOUR
    times = (start, start + 11 * HOUR // 2, start + 12 * HOUR, start + 16 * HOUR)
    date = datetime.date(2026, 3, 10) + datetime.timedelta(days)
    following = date + datetime.timedelta(1) if days < LAST_DAY else None
    return TradingDay(date, *times, is_early_close=False, next_date=following)


LAST_DAY = 4
CALENDAR = Calendar(day_after(days) for days in range(-5, LAST_DAY + 1))
TODAY, TOMORROW = day_after(0), day_after(1)
Event = tuple[str, int, float]


class Feed:
    """polygon_ws's side: batches of trades, as it encodes them."""

    def __init__(self, first: int = 1) -> None:
        self.symbols: list[str] = []
        self.sequence = first - 1
        self._key = 0

    def batch(self, *trades: Event, sequence: int | None = None, ids_from: int | None = None) -> memoryview:
        """Trades are (symbol, nanoseconds after today's 04:00, price); their ids go on, or begin with `ids_from`."""
        self.sequence = sequence or self.sequence + 1
        self._key = self._key if ids_from is None else ids_from - 1
        known = len(self.symbols)
        self.symbols += dict.fromkeys(symbol for symbol, _, _ in trades if symbol not in self.symbols)
        batch = market_data_pb2.TradeBatch()
        for symbol, time_ns, price in trades:
            self._key += 1
            batch.symbol_id.append(self.symbols.index(symbol))
            batch.time_ns.append(FOUR_OCLOCK + time_ns)
            batch.price.append(price)
            batch.size.append(100)
            batch.conditions.append(0)
            batch.trade_key.append(self._key)
        message = polygon_ws_pb2.MarketBatch(
            position=stream_pb2.StreamPosition(epoch=FEED_EPOCH, sequence=self.sequence),
            first_symbol_id=known,
            new_symbols=self.symbols[known:],
            trades=batch,
        )
        return memoryview(message.SerializeToString())


class Rig:
    """A sequencer with its feed, and what they made."""

    def __init__(self, clock: str = "feed", market: Market | None = None) -> None:
        self.told: list[datetime.date] = []
        self.sequencer = Sequencer(EPOCH, market or Market(load_lists(), EPOCH, encode_deltas=False))
        self.feed = FeedInput(self.sequencer, clock)  # type: ignore[arg-type]
        self.feed.days.listen(lambda: self.told.append(self.sequencer.day.date))
        self.feed.days.begin(CALENDAR, TODAY)
        self.feed.set_trade_rules(fallback_rules())

    def take(self, batch: memoryview, now_ns: int = 0) -> int:
        return self.feed.sequence(batch, now_ns)

    def frames(self) -> list[frame_pb2.Frame]:
        ring = self.sequencer.ring
        messages = (ring.get(sequence) for sequence in range(ring.oldest, ring.newest + 1))
        return [data_ingest_pb2.SubscribeFramesResponse.FromString(message).frame for message in messages]

    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("body") for frame in self.frames()]

    def trades(self) -> list[tuple[str, float]]:
        return [
            (self.sequencer.symbols.texts[symbol_id], price)
            for frame in self.frames()
            for symbol_id, price in zip(frame.trades.symbol_id, frame.trades.price, strict=True)
        ]

    def rejected(self) -> dict[str, int]:
        return {reason: count for reason, count in self.feed.rejected.items() if count}


def test_symbol_table() -> None:
    table = SymbolTable(max_symbols=3)
    assert [table.add(symbol) for symbol in ("AAPL", "BRK.B", "AAPL")] == [0, 1, 0]
    message = table.unpublished()
    assert frame_pb2.SymbolTable.FromString(message) == frame_pb2.SymbolTable(first_id=0, symbols=["AAPL", "BRK.B"])
    assert (table.add("BRK.B"), table.unpublished()) == (1, b"")
    odd = ["", "1BAD", "no spaces", "TOOLONGSYMBOL", "AAPL\n", "É"]
    assert [table.add(symbol) for symbol in odd] == [REFUSED] * 6
    # Asked for, a name is not kept.
    assert [table.find(symbol) for symbol in ("X", "AAPL")] == [UNNAMED, 0]
    assert [table.add(symbol) for symbol in ("BACpL", "X", "Y")] == [2, REFUSED, REFUSED]
    message = table.unpublished()
    assert frame_pb2.SymbolTable.FromString(message) == frame_pb2.SymbolTable(first_id=2, symbols=["BACpL"])
    assert table.refused == 8
    assert (table.texts, len(table)) == (["AAPL", "BRK.B", "BACpL"], 3)


def test_everything_becomes_the_next_frame() -> None:
    rig = Rig()
    sequencer = rig.sequencer
    assert sequencer.set_list_filters(default_filters())
    assert not sequencer.set_list_filters(default_filters())
    assert sequencer.set_list_filters([])
    rig.take(Feed().batch(("AAPL", HOUR, 10.0)))
    sequencer.add_watermark(FOUR_OCLOCK)
    assert rig.kinds() == [
        "trading_day", "trade_rules", "list_filters", "list_filters", "symbols", "trades", "watermark",
    ]  # fmt: skip
    frames = rig.frames()
    assert [(f.position.epoch, f.position.sequence) for f in frames] == [(EPOCH, n) for n in range(1, 8)]
    # A watermark is never behind what was accepted.
    assert frames[-1].watermark.event_time_ns == sequencer.now_ns == FOUR_OCLOCK + HOUR
    # Only between polygon_ws and us.
    assert not frames[-2].trades.trade_key
    assert sequencer.frames == Counter(rig.kinds())


def test_the_stream_is_what_any_copy_makes_the_same_of() -> None:
    rig, feed, rng = Rig(), Feed(), random.Random(5)
    copy, twin = Market(load_lists(), EPOCH), MarketTwin()
    for step in range(200):
        events = [(f"S{rng.randrange(9)}", step * SECOND * 60 + rng.randrange(SECOND), rng.randint(1, 900) / 4)
                  for _ in range(rng.randrange(12))]  # fmt: skip
        rig.take(feed.batch(*events))
        if rng.random() < 0.3:
            rig.sequencer.add_watermark(0)
    rig.sequencer.add_watermark(0)
    for frame in rig.frames():
        copy.apply(frame.SerializeToString())
        twin.apply(frame.SerializeToString())
    position, _, whole, _ = rig.sequencer.market_at(with_baselines=True)
    assert (position.epoch, position.sequence) == (copy.epoch, copy.sequence)
    assert Market.from_bytes(load_lists(), whole).hash() == copy.hash()
    assert {s: copy.state.row(s)["volume_today"] for s in twin.symbols} == {
        s: twin.row(s)["volume_today"] for s in twin.symbols
    }


def test_feed_ids_are_translated_and_odd_symbols_set_aside() -> None:
    rig, feed = Rig(), Feed()
    rig.sequencer.add_symbols(["ZZZ", "MSFT"])
    rig.take(feed.batch(("AAPL", 1, 1.0), ("MSFT", 2, 2.0), ("1ODD", 3, 3.0)))
    rig.take(feed.batch(("TSLA", 4, 4.0), ("AAPL", 5, 5.0), ("1ODD", 6, 6.0)))
    assert rig.trades() == [("AAPL", 1.0), ("MSFT", 2.0), ("TSLA", 4.0), ("AAPL", 5.0)]
    assert rig.rejected() == {"unknown_symbol": 2}
    assert rig.sequencer.symbols.texts == ["ZZZ", "MSFT", "AAPL", "TSLA"]


def test_a_hole_is_refused_and_the_next_one_goes_on() -> None:
    rig, feed = Rig(), Feed(first=7)
    rig.take(feed.batch(("AAPL", 1, 1.0)))
    missed = feed.batch(("MSFT", 2, 2.0))
    later = feed.batch(("MSFT", 3, 3.0))
    with pytest.raises(FeedHole, match=f"after {FEED_EPOCH}/7, was {FEED_EPOCH}/9"):
        rig.take(later)
    assert rig.feed.position == Position(FEED_EPOCH, 7)
    with pytest.raises(FeedHole):
        rig.take(feed.batch(("AAPL", 1, 1.0), sequence=7))
    # Asked for again from there, everything comes.
    rig.take(missed)
    rig.take(later)
    assert rig.trades() == [("AAPL", 1.0), ("MSFT", 2.0), ("MSFT", 3.0)]


def test_a_reset_counts_what_was_lost() -> None:
    rig, feed = Rig(), Feed()
    rig.take(feed.batch(("AAPL", 1, 1.0)))
    lost = [feed.batch((f"L{n}", n, 2.0)) for n in range(4)]
    assert len(lost) == 4
    rig.feed.skip_to(Position(FEED_EPOCH, 5), "dropped")
    # Its symbols go on where the lost batches' ended: the whole table has to come first.
    message = feed.batch(("AAPL", 2, 3.0), ("NEW", 3, 4.0))
    with pytest.raises(FeedHole, match="symbols from 1 on, was 5"):
        rig.take(message)
    rig.feed.set_symbols(feed.symbols)
    rig.take(message)
    assert rig.trades() == [("AAPL", 1.0), ("AAPL", 3.0), ("NEW", 4.0)]
    assert (rig.feed.resets, rig.feed.lost_batches) == (1, 4)
    # A new polygon_ws counts from 1 again.
    rig.feed.skip_to(Position(FEED_EPOCH + 9, 0), "another epoch")
    assert rig.feed.lost_batches == 4


def test_a_redelivered_trade_counts_once() -> None:
    rig, feed = Rig(), Feed()
    batch = feed.batch(("AAPL", 1, 1.0), ("AAPL", 2, 2.0))
    rig.take(batch)
    rig.feed.skip_to(Position(FEED_EPOCH, 0), "as if acknowledged never")
    rig.take(batch)
    assert len(rig.trades()) == 2
    assert rig.rejected() == {"duplicate": 2}


@pytest.mark.parametrize("cut", [1, 9, 30, 60])
def test_a_malformed_batch_is_set_aside_alone(cut: int) -> None:
    rig, feed = Rig(), Feed()
    rig.take(feed.batch(("AAPL", 1, 1.0)))
    rig.take(feed.batch(("AAPL", 2, 2.0))[:-cut])
    rig.take(feed.batch(("AAPL", 3, 3.0)))
    assert rig.trades() == [("AAPL", 1.0), ("AAPL", 3.0)]
    assert rig.rejected() == {"malformed_batch": 1}


def test_a_malformed_column_loses_nothing_else() -> None:
    rig = Rig()
    wrong = market_data_pb2.LimitBatch(symbol_id=[0], time_ns=[FOUR_OCLOCK, FOUR_OCLOCK])
    good = polygon_ws_pb2.MarketBatch.FromString(bytes(Feed().batch(("AAPL", 1, 1.0))))
    good.limits.CopyFrom(wrong)
    rig.take(memoryview(good.SerializeToString()))
    assert rig.trades() == [("AAPL", 1.0)]
    assert rig.rejected() == {"malformed_batch": 1}


# --- trading days


def tomorrow(events: Iterable[str], price: float = 1.0) -> list[Event]:
    return [(symbol, 24 * HOUR + n, price + n) for n, symbol in enumerate(events)]


def test_in_feed_mode_one_wrong_timestamp_moves_nothing() -> None:
    rig, feed = Rig(), Feed()
    rig.take(feed.batch(("A", 1, 1.0), *tomorrow(["A", "A", "A", "B"])))
    rig.take(feed.batch(("C", 300 * 24 * HOUR, 1.0), ("D", 48 * HOUR, 1.0), ("B", 2, 2.0)))
    assert rig.told == [TODAY.date]
    assert rig.trades() == [("A", 1.0), ("B", 2.0)]
    assert rig.rejected() == {"time_out_of_session": 6}


def test_in_feed_mode_three_symbols_change_the_day_and_nothing_of_it_is_lost() -> None:
    rig, feed = Rig(), Feed()
    rig.take(feed.batch(("A", 1, 1.0), *tomorrow(["A"], 50.0)))
    rig.take(feed.batch(*tomorrow(["B"], 60.0), ("A", 2, 2.0)))
    # The third comes in a batch of both days, with a bad row of each and one of neither.
    bad = [("A", 4, -1.0), ("B", 24 * HOUR, -1.0), ("C", 40 * HOUR, 9.0)]
    rig.take(feed.batch(("B", 3, 3.0), *tomorrow(["C", "A", "C"], 70.0), *bad))
    rig.take(feed.batch(*tomorrow(["A"], 90.0), ("A", 5, 5.0)))
    assert rig.told == [TODAY.date, TOMORROW.date]
    assert rig.trades() == [
        ("A", 1.0), ("A", 2.0), ("B", 3.0),
        ("A", 50.0), ("B", 60.0), ("C", 70.0), ("A", 71.0), ("C", 72.0), ("A", 90.0),
    ]  # fmt: skip
    # One of neither day, yesterday's late one; every row counts once, whatever it waited for.
    assert rig.rejected() == {"time_out_of_session": 2, "price": 2}
    assert rig.kinds().count("trading_day") == 2
    kinds = [kind for kind in rig.kinds() if kind != "symbols"]
    assert kinds[-6:] == ["trades", "trading_day", "trades", "trades", "trades", "trades"]
    assert rig.feed.days.next == day_after(2)


def test_in_wall_mode_the_day_follows_the_clock() -> None:
    rig, feed = Rig("wall"), Feed()
    noon = FOUR_OCLOCK + 8 * HOUR
    rig.take(feed.batch(("A", 8 * HOUR + 4 * SECOND, 1.0), ("B", 8 * HOUR + 6 * SECOND, 2.0)), noon)
    # However many events say so, only the clock changes the day.
    rig.take(feed.batch(*tomorrow(["A", "B", "C", "D"])), noon)
    assert rig.told == [TODAY.date]
    assert rig.rejected() == {"time_ahead": 1, "time_out_of_session": 4}
    rig.feed.days.follow_clock(TOMORROW.pre_market_start_ns - 1)
    assert rig.told == [TODAY.date]
    rig.take(feed.batch(*tomorrow(["A", "B"], 5.0), ("A", 9 * HOUR, 7.0)), TOMORROW.pre_market_start_ns)
    assert rig.told == [TODAY.date, TOMORROW.date]
    assert rig.trades() == [("A", 1.0), ("A", 5.0), ("B", 6.0)]
    # Asleep over several days.
    rig.feed.days.follow_clock(day_after(3).market_open_ns)
    assert rig.told[-1] == day_after(3).date
    assert len(rig.told) == 3


def test_a_calendar_with_other_hours_of_today() -> None:
    rig = Rig()
    rig.feed.days.set_calendar(CALENDAR)
    assert rig.told == [TODAY.date]
    early = TODAY._replace(market_close_ns=FOUR_OCLOCK + 9 * HOUR, post_market_end_ns=FOUR_OCLOCK + 13 * HOUR)
    rig.feed.days.set_calendar(Calendar([early if day == TODAY else day for day in CALENDAR.days]))
    assert rig.told == [TODAY.date] * 2
    rig.take(Feed().batch(("A", 13 * HOUR - 1, 1.0), ("A", 13 * HOUR, 2.0)))
    assert rig.trades() == [("A", 1.0)]


# --- what else is in the stream


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], []),
        ([ScanFilter("a", "price > 1", ("MARKET_OPEN", "CLOSED"))], [("a", "price > 1", [2, 4])]),
    ],
)
def test_list_filters(filters: Sequence[ScanFilter], expected: list[tuple[str, str, list[int]]]) -> None:
    rig = Rig()
    rig.sequencer.set_list_filters(filters)
    message = rig.frames()[-1].list_filters
    assert [(each.name, each.expression, list(each.sessions)) for each in message.filters] == expected


def test_a_frame_nobody_can_apply_is_not_sent() -> None:
    rig = Rig()
    before = rig.sequencer.position
    with pytest.raises(ValueError, match="expected 1 values"):
        rig.sequencer.add_events("trades", b"\x82\x01\x04\x00\x00\x00\x00")
    assert rig.sequencer.position == before


def test_readers_do_not_wait_for_the_lists_of_our_own_copy() -> None:
    """Which are ranked later, but before anything can tell."""
    order: list[str] = []
    waiting: list[Callable[[], None]] = []
    market = Market(load_lists(), EPOCH, encode_deltas=False)
    sequencer = Sequencer(EPOCH, market, defer=waiting.append)
    sequencer.listen(lambda body, content: order.append("frame"))
    whole = Rig()
    for rig_feed, running in ((FeedInput(sequencer, "feed"), sequencer), (whole.feed, whole.sequencer)):
        if running is sequencer:
            rig_feed.days.begin(CALENDAR, TODAY)
            rig_feed.set_trade_rules(fallback_rules())
        source = Feed()
        for hour in (1, 2, 6, 7):
            rig_feed.sequence(source.batch(("AAPL", hour * HOUR, 10.0 + hour), ("MSFT", hour * HOUR, 20.0)), 0)
            running.add_watermark(FOUR_OCLOCK + hour * HOUR)
            if running is sequencer and hour == 2:
                # The loop came to it at once; elsewhere the next frame is before.
                waiting[-1]()
    assert order == ["frame"] * sequencer.position.sequence and len(waiting) == 4
    assert market.list_sequence("filtered") < whole.sequencer.market.list_sequence("filtered")  # type: ignore[attr-defined]
    assert sequencer.market_at(with_baselines=True) == whole.sequencer.market_at(with_baselines=True)
    for function in waiting:
        function()
    assert sequencer.market_at(with_baselines=True) == whole.sequencer.market_at(with_baselines=True)


def test_rankings_that_were_kept_waiting_do_not_say_how_long_ranking_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of them lately would make watermarks rarer for as long."""
    now, durations = 100.0, iter((0.002, 0.003, 0.002, 0.3, 0.4, 0.002, 0.3, 0.4, 0.5))

    class SlowMarket(Market):
        def refresh(self) -> list[ListUpdate]:
            nonlocal now
            now += next(durations)
            return super().refresh()

    monkeypatch.setattr(sequencer_module, "monotonic", lambda: now)
    rig = Rig(market=SlowMarket(load_lists(), EPOCH, encode_deltas=False))
    feed = Feed()
    assert rig.sequencer.ranking_seconds == 0

    def ranked(hour: int) -> float:
        rig.take(feed.batch(("AAPL", hour * HOUR, 10.0)))
        rig.sequencer.add_watermark(0)
        return rig.sequencer.ranking_seconds

    assert ranked(1) == pytest.approx(0.002)
    assert [ranked(hour) for hour in range(2, 7)] == pytest.approx([0.0025, 0.002, 0.0025, 0.003, 0.003])
    # Where most of them take long, ranking does.
    assert [ranked(hour) for hour in range(7, 10)] == pytest.approx([0.3, 0.3, 0.4])
