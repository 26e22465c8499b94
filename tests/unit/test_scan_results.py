"""What is to be stored of the lists: the same in every replica, bounded, and nothing but entries and minutes."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.kit.rpc.frames import next_frame
from services.scanner.record_spool import Record
from services.scanner.scan_results import COLUMNS, ScanRecorder, result_rows
from tests.support.settled_core import SettledCore
from tests.support.tape import Tape, a_list, at

SPECS = [a_list("risers"), a_list("fallers", "change_percent < 0", "change_percent asc")]


class Replica:
    """A scanner's core and its recorder."""

    def __init__(self, **limits: int) -> None:
        self.core = SettledCore(SPECS)
        self.recorder = ScanRecorder(self.core, **limits)

    def apply(self, *frames: bytes) -> None:
        for frame in frames:
            parts = next_frame(memoryview(frame), self.core.position)
            updates = self.core.apply(parts)
            if parts.begins_market:
                self.recorder.market_replaced()
            self.recorder.frame_applied(parts, updates)

    def load(self, other: "Replica") -> None:
        position = other.core.position
        assert position is not None
        self.core.load(other.core.market.to_bytes(), position)
        self.recorder.market_replaced()

    def take(self) -> list[dict[str, Any]]:
        return [
            dict(zip(COLUMNS, row, strict=True)) for record in self.recorder.take(1000) for row in result_rows(record)
        ]


@pytest.fixture
def tape() -> Tape:
    return Tape(["AAA", "BBB", "CCC"], clock="09:59:58")


def moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)


def test_an_entry_is_recorded_with_its_own_time_and_values(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.trades({"AAA": 104.0, "BBB": 97.0}), tape.watermark())
    rows = {row["symbol"]: row for row in replica.take()}
    assert rows.keys() == {"AAA", "BBB"}
    first = rows["AAA"]
    assert first["time"] == moment(tape.now_ns)
    assert (first["list"], first["session"], first["rank"], first["is_entry"]) == ("risers", "MARKET_OPEN", 1, True)
    assert (first["price"], first["change_percent"], first["volume_today"]) == (104.0, 4.0, 100.0)
    assert (first["rvol"], first["score"]) == (None, None)


def test_updates_and_reranks_are_no_entries(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.trades({"AAA": 104.0, "BBB": 103.0}), tape.watermark())
    replica.take()
    replica.apply(tape.trades({"BBB": 106.0}), tape.watermark())
    assert replica.take() == []
    replica.apply(tape.trades({"BBB": 99.0}), tape.watermark(), tape.trades({"BBB": 101.0}), tape.watermark())
    assert [(row["list"], row["symbol"], row["rank"]) for row in replica.take()] == [
        ("fallers", "BBB", 1),
        ("risers", "BBB", 2),
    ]


def test_every_list_is_recorded_once_a_minute_at_the_minute(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.trades({"AAA": 104.0, "BBB": 97.0}), tape.watermark())
    replica.take()
    replica.apply(*(tape.watermark(0.5) for _ in range(20)))
    rows = replica.take()
    assert [(row["list"], row["symbol"], row["is_entry"]) for row in rows] == [
        ("risers", "AAA", False),
        ("fallers", "BBB", False),
    ]
    assert {row["time"] for row in rows} == {moment(at("10:00:00"))}
    replica.apply(tape.watermark(60), tape.watermark(1))
    assert {row["time"] for row in replica.take()} == {moment(at("10:01:00"))}


def test_replicas_record_the_same_and_one_that_came_late_nothing_else(tape: Tape) -> None:
    one, other, late = Replica(), Replica(), Replica()
    frames = [*tape.opening(), tape.trades({"AAA": 104.0}), tape.watermark(), tape.watermark(3)]
    one.apply(*frames)
    other.apply(*frames)
    late.load(one)
    # Whoever loads the state within a minute has not seen how the minute began.
    more = [tape.trades({"BBB": 103.0}), tape.watermark(20), tape.watermark(30), tape.watermark(30)]
    for replica in (one, other, late):
        replica.apply(*more)
    whole = one.take()
    assert other.take() == whole
    seen = late.take()
    assert [row for row in whole if row in seen] == seen
    assert Counter(row["time"] for row in seen) == {
        moment(at("10:00:21") + 2_000_000): 1,
        moment(at("10:01:00")): 2,
    }


def test_a_new_epoch_begins_anew(tape: Tape) -> None:
    replica = Replica()
    replica.apply(*tape.opening(), tape.trades({"AAA": 104.0}), tape.watermark())
    replica.take()
    restarted = Tape(["AAA"], clock="10:05:00", epoch=tape.epoch + 1)
    replica.apply(*restarted.opening(), restarted.trades({"AAA": 104.0}), restarted.watermark())
    assert [(row["is_entry"], row["time"]) for row in replica.take()] == [(True, moment(restarted.now_ns))]


def test_beyond_the_bound_the_oldest_go_and_are_counted(tape: Tape) -> None:
    def dropped() -> float:
        return REGISTRY.get_sample_value("tradeul_scan_records_dropped_total", {"reason": "full"}) or 0.0

    replica = Replica(max_bytes=2000)
    before = dropped()
    replica.apply(*tape.opening(), tape.watermark())
    for i in range(40):
        replica.apply(tape.trades({"AAA": 101.0 if i % 2 else 99.0}), tape.watermark())
    kept = replica.take()
    assert 0 < len(kept) < 40
    assert len(kept) + dropped() - before == 40
    assert kept[-1]["time"] == moment(tape.now_ns)


def test_a_record_that_cannot_be_read_says_so() -> None:
    for minute in (None, 1):
        with pytest.raises(ValueError, match="list message"):
            list(result_rows(Record(1, b"\xff\xff", minute)))
