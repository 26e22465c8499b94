"""Analytics' pure parts: the queue of bars, the texts for Redis, positions to go on from."""

import math

import pytest

from fastcore.market import Market
from fastcore.measures import Measures
from fastcore.minute_bars import Bar
from services.analytics import redis_values
from services.analytics.bar_catch_up import is_behind
from services.analytics.bar_queue import BarQueue, Mark
from services.analytics.core import AnalyticsCore
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frames import FrameError, StreamHole
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError
from tests.support.measured import measured
from tests.support.tape import EPOCH, Tape, apply_next, at

START = at("10:00:00")
MINUTE = 60_000_000_000
BAR = Bar(0, START, 1.0, 2.0, 0.5, 1.5, 100.0, 1.2, 7, False)


def core_at(tape: Tape) -> AnalyticsCore:
    core = AnalyticsCore(BarQueue())
    apply_next(core, *tape.opening())
    return core


def feed(core: AnalyticsCore, *frames: bytes) -> None:
    apply_next(core, *frames)


def test_of_a_minute_the_latest_bar_waits_and_a_made_one_never_instead_of_the_vendors() -> None:
    queue = BarQueue()
    queue.put("AAA", BAR._replace(is_made=True, close=1.0))
    queue.put("AAA", BAR._replace(is_made=True, close=1.1))
    assert [row[5] for row in queue.take(10)] == [1.1]
    queue.put("AAA", BAR)
    queue.put("AAA", BAR._replace(is_made=True))
    queue.put("AAA", BAR._replace(close=1.7))
    queue.put("BBB", BAR)
    rows = queue.take(1)
    assert [(row[0], row[5], row[-1]) for row in rows] == [("AAA", 1.7, False)]
    assert rows[0][1].timestamp() * 1e9 == START  # type: ignore[attr-defined]
    assert len(queue) == 1


def test_beyond_its_bound_the_oldest_bars_go() -> None:
    queue = BarQueue(max_bars=2)
    for i in range(4):
        queue.put("AAA", BAR._replace(start_ns=START + i * MINUTE, close=float(i)))
    assert [row[5] for row in queue.take(10)] == [2.0, 3.0]


def test_questions_before_there_is_a_state() -> None:
    core = AnalyticsCore(BarQueue())
    with pytest.raises(ServiceError) as caught:
        core.symbol_id("AAA")
    assert caught.value.reason.name == "NOT_READY"
    core.collect_bars()
    assert core.queue.mark is None


def test_a_frame_that_does_not_follow() -> None:
    tape = Tape(["AAA"])
    core = core_at(tape)
    tape.watermark()
    with pytest.raises(StreamHole):
        apply_next(core, tape.watermark())
    with pytest.raises(FrameError):
        apply_next(core, b"\xff")
    with pytest.raises(ValueError):
        core.load(b"nothing", Position(EPOCH, 9))
    core.forget()
    assert core.position is None and core.is_loaded


def test_the_mark_says_from_where_open_minutes_can_be_made_again() -> None:
    tape = Tape(["AAA"], clock="10:00:30")
    core = core_at(tape)
    feed(core, tape.watermark())
    core.collect_bars()
    assert core.queue.mark == Mark(Position(EPOCH, 4), None, 0)
    # One minute after the other begins; the first was not seen as a whole.
    positions = []
    for _ in range(4):
        positions.append(core.position)
        feed(core, tape.watermark(60))
    core.collect_bars()
    assert core.queue.mark == Mark(Position(EPOCH, 8), positions[1], at("10:02:00"))


def test_a_mark_of_another_epoch_is_of_no_use() -> None:
    mark = Mark(Position(EPOCH, 5), None, 0)
    assert is_behind(mark, Position(EPOCH, 6))
    assert not is_behind(mark, Position(EPOCH, 5))
    assert not is_behind(mark, Position(EPOCH + 1, 6))


def test_frames_wait_while_missed_ones_are_read_again() -> None:
    tape = Tape(["AAA"])
    core = core_at(tape)
    core.collect_bars()
    assert core.queue.mark is not None
    core.begin_catch_up(START)
    missed = tape.trades({"AAA": 10.0})
    later = [tape.trades({"AAA": 11.0}), tape.watermark(75)]
    apply_next(core, missed)
    feed(core, *later)
    assert core.is_catching_up
    core.collect_bars()
    assert core.queue.mark is None and not len(core.queue)
    core.end_catch_up(is_whole=True)
    core.collect_bars()
    assert [row[2:6] for row in core.queue.take(10)] == [(10.0, 11.0, 10.0, 11.0)]
    assert core.queue.mark is not None


@pytest.mark.parametrize(("is_whole", "opened_at"), [(True, 9.0), (False, 10.0)])
def test_an_open_minute_goes_on_when_what_was_missed_does_not_come(is_whole: bool, opened_at: float) -> None:
    tape = Tape(["AAA"], clock="09:59:59")
    core = core_at(tape)
    missed = [tape.watermark(), tape.watermark(1)]
    feed(core, *missed, tape.trades({"AAA": 10.0}))
    core.begin_catch_up(START)
    if is_whole:
        core.replay(memoryview(tape.trades({"AAA": 9.0})))
        tape.sequence -= 1
    feed(core, tape.trades({"AAA": 11.0}), tape.watermark(75))
    core.end_catch_up(is_whole)
    core.collect_bars()
    assert [(row[2], row[5]) for row in core.queue.take(10)] == [(opened_at, 11.0)]
    assert core.queue.mark is not None


def test_a_stop_while_missed_bars_are_read_again_marks_nothing_as_stored() -> None:
    tape = Tape(["AAA"], clock="09:59:59")
    core = core_at(tape)
    feed(core, tape.watermark(), tape.watermark(1))
    core.begin_catch_up(START)
    feed(core, tape.trades({"AAA": 11.0}), tape.watermark(75))
    core.give_up_catch_up()
    core.collect_bars()
    # What has come is stored; what is missing is read by the next process, from the mark of the one before.
    assert len(core.queue.take(10)) == 1
    assert core.queue.mark is None


def test_volumes_at_the_ends_of_slots() -> None:
    tape = Tape(["AAA", "BBB"])
    core = core_at(tape)
    feed(core, tape.watermark(), tape.trades({"AAA": 10.0}), tape.watermark(301))
    assert core.slot == 73
    assert list(core.slot_volumes) == [72]
    assert core.slot_volumes[72][0] == 100.0 and math.isnan(core.slot_volumes[72][1])


def test_the_state_of_a_whole_market_is_taken() -> None:
    tape = Tape(["AAA"])
    market = Market(load_lists(), EPOCH)
    for frame in [*tape.opening(), tape.trades({"AAA": 10.0}), tape.watermark()]:
        market.apply(frame)
    core = AnalyticsCore(BarQueue())
    core.load(market.to_bytes(), Position(EPOCH, 5))
    assert measured(core.state) == measured(market.state)
    assert core.measures(core.symbol_id("aaa")).volume_today == 100.0
    assert core.symbols == ["AAA"]


def test_values_as_texts() -> None:
    assert [redis_values.number(value) for value in (None, 3.0, 3, 0.5, 1e-06)] == ["", "3", "3", "0.5", "1e-06"]
    assert redis_values.time(None) == ""
    assert redis_values.time(START) == "2026-03-10T14:00:00Z"
    silent = Measures(None, None, None, 5.0, 30, None, None, None, None, None)
    assert set(redis_values.rvol_texts(silent, "72", "MARKET_OPEN")) == {""}
    assert redis_values.intraday_texts(silent) == ("", "", "", "")
    traded = Measures(100.0, 0.5, None, 200.0, 30, 11.0, START, 10.0, START, START)
    assert redis_values.rvol_texts(traded, "72", "MARKET_OPEN")[:4] == ("0.5", "", "72", "MARKET_OPEN")


def test_everything_goes_before_the_next_day() -> None:
    assert redis_values.seconds_left("2026-03-10", at("10:00:00")) == 18 * 3600
    assert redis_values.seconds_left("2026-03-10", at("10:00:00") + 10**15) == 60
    assert redis_values.seconds_left("", 0) == 60


def test_what_is_due_for_redis() -> None:
    tape = Tape([f"S{i:04}" for i in range(1500)])
    core = core_at(tape)
    values = redis_values.RedisValues(core)
    values.note()
    first = values.take()
    assert first is not None and len(first.ids) == redis_values.SYMBOLS_AT_ONCE
    values.give_back(first)
    sizes = []
    while (batch := values.take()) is not None:
        sizes.append(len(batch.ids))
    assert sum(sizes) == 1500
    values.note()
    assert values.take() is None
    feed(core, tape.trades({"S0007": 10.0}))
    values.note()
    batch = values.take()
    assert batch is not None and batch.rvol.keys == ["rvol:S0007"] == [f"rvol:{core.symbols[i]}" for i in batch.ids]
    assert (batch.intraday.keys, batch.volumes.keys) == (["intraday:S0007"], ["slot:S0007:72"])
    # A trade at the same price moves no extreme.
    feed(core, tape.trades({"S0007": 10.0}))
    values.note()
    batch = values.take()
    assert batch is not None and (batch.rvol.keys, batch.intraday.keys) == (["rvol:S0007"], [])


def test_slots_that_are_over_are_written_again_in_parts() -> None:
    tape = Tape([f"S{i:04}" for i in range(1200)])
    core = core_at(tape)
    values = redis_values.RedisValues(core)
    feed(core, tape.watermark(), tape.trades({symbol: 10.0 for symbol in tape.symbols}))
    feed(core, tape.watermark(301), tape.trades({"S0001": 10.0}), tape.watermark(300))
    values.everything()
    keys: list[str] = []
    values.note()
    while (batch := values.take()) is not None:
        assert len(batch.volumes.keys) <= redis_values.SLOT_VALUES_AT_ONCE
        keys += [key for key in batch.volumes.keys if not key.endswith(":74")]
    assert sorted(keys) == sorted([*(f"slot:{symbol}:72" for symbol in tape.symbols), "slot:S0001:73"])


def test_another_epoch_or_day_is_written_anew() -> None:
    tape = Tape(["AAA"])
    core = core_at(tape)
    values = redis_values.RedisValues(core)
    feed(core, tape.trades({"AAA": 10.0}))
    values.note()
    while values.take() is not None:
        pass
    later = Tape(["BBB", "AAA"], epoch=EPOCH + 60)
    feed(core, *later.opening(), later.trades({"AAA": 12.0}))
    values.note()
    batch = values.take()
    assert batch is not None and batch.rvol.keys == ["rvol:BBB", "rvol:AAA"]
    assert batch.intraday.values[1][0] == "12"
