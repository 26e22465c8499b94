"""The vendor's JSON through polygon_ws's batches and the sequencer, without a network, against the naive twins."""

import json
import random

import pytest
from tradeul.v1 import frame_pb2, scanner_pb2

from fastcore.market import Market
from fastcore.reference.lists_twin import ListsTwin
from fastcore.reference.market_twin import MarketTwin
from fastcore.trade_rules import fallback_rules
from fastcore.wire import only_field
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.lists import scan_filters
from services.kit.lists.definitions import load_lists
from services.market.calendar import Calendar, TradingDay
from services.polygon_ws.core import FeedBuffer
from tests.support.scripted_day import DAY, ScriptedDay, ms_at
from tests.support.twin_frames import MS, TwinFeed, default_filters, row_values

EPOCH = 1_790_000_000
PARTS = [
    ("04:00:00", "09:29:00", 500, None),
    ("09:30:01", "10:15:10", 600, (16, "09:30:00")),
    ("12:00:00", "15:58:00", 300, None),
    ("16:00:01", "19:30:00", 500, (15, "16:00:00")),
]
SESSION_ENDS = ("04:00:00", "09:30:00", "16:00:00", "20:00:00")


class Pipeline:
    """polygon_ws's buffer, and the sequencer that takes its batches."""

    def __init__(self) -> None:
        start, opening, close, end = (ms_at(clock) * MS for clock in SESSION_ENDS)
        day = TradingDay(DAY, start, opening, close, end, is_early_close=False)
        self.market = Market(load_lists(), EPOCH)
        self.sequencer = Sequencer(EPOCH, self.market)
        self.buffer = FeedBuffer(EPOCH)
        self.feed = FeedInput(self.sequencer, "feed")
        self.feed.days.begin(Calendar([day]), day)
        self.feed.set_trade_rules(fallback_rules())
        self.sequencer.set_list_filters(scan_filters.default_filters())
        self._taken = 0

    def add_reference(self, frame: frame_pb2.Frame) -> None:
        """Reference data of another stream's frame, whose symbol table is ours."""
        body = frame.WhichOneof("body")
        if body == "symbols":
            self.sequencer.add_symbols(frame.symbols.symbols)
        elif body == "reference":
            self.sequencer.add_reference(frame.reference.SerializeToString())
        elif body == "baselines":
            self.sequencer.add_baselines(frame.baselines.SerializeToString())

    def pump(self) -> None:
        """What has come is a batch; all batches are sequenced."""
        self.buffer.flush()
        while self._taken < self.buffer.ring.newest:
            self._taken += 1
            self.feed.sequence(only_field(self.buffer.ring.get(self._taken))[1], 0)


@pytest.mark.parametrize(("seed", "cut"), [(11, 0.02), (12, 0.1), (13, 0.5)])
def test_every_list_equals_the_twins_however_batches_are_cut(seed: int, cut: float) -> None:
    day, rng = ScriptedDay(seed), random.Random(seed)
    tape, pipeline = TwinFeed(day), Pipeline()
    twin = ListsTwin(load_lists(), MarketTwin())
    for frame in tape.opening(default_filters()):
        twin.apply(frame)
        pipeline.add_reference(frame_pb2.Frame.FromString(frame))
    good = compared = 0
    for start, end, count, prints in PARTS:
        events = [*(day.official_prints(*prints) if prints else ()), *day.events(start, end, count)]
        at = 0
        while at < len(events):
            size = rng.choice([1, 2, 7, 40])
            pipeline.buffer.decode(json.dumps([event.body for event in events[at : at + size]]).encode())
            at += size
            if rng.random() < cut:
                pipeline.pump()
        for event in events:
            if event.good:
                twin.apply(tape.event(event.body))
                good += 1
        twin.apply(tape.watermark(end))
        pipeline.pump()
        pipeline.sequencer.add_watermark(0)
        for definition in twin.definitions:
            ranked = scanner_pb2.RankedList.FromString(pipeline.market.snapshot(definition.name))
            expected = twin.rows(definition.name)
            compared += len(expected)
            where = f"{end} {definition.name}"
            assert [row.symbol for row in ranked.rows] == [row["symbol"] for row in expected], where
            for row, twins in zip(ranked.rows, expected, strict=True):
                ours = row_values(row)
                assert ours.keys() == twins.keys(), f"{where} {row.symbol}"
                for name, value in ours.items():
                    wanted = pytest.approx(twins[name], rel=1e-9) if isinstance(value, float) else twins[name]
                    assert value == wanted, f"{where} {row.symbol}.{name}"
    assert sum(pipeline.feed.admission.accepted.values()) == good
    assert compared > 100
