"""What a day's batches are: cut by event time, the same whatever the speed, encoded as the live feed's."""

import gzip
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tradeul.v1 import polygon_ws_pb2

from fastcore.columns import condition_mask
from services.kit.rpc.cursor import Timers
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError, StartError
from services.replay.core import CELL_NS, MAX_ROWS, Cut, Pace, cuts, encode
from services.replay.day_file import DayFile
from services.replay.flat_file import lines_of
from services.replay.prepare import conditions_of, prepare
from services.replay.servicer import ReplaySubscription
from tests.support.flat_trades import (
    BAR_COLUMNS,
    DAY,
    TRADE_COLUMNS,
    ns_at,
    random_trades,
    trade_row,
    vendor_file,
    write_rows,
)

SECOND = 10**9


def day_of(tmp_path: Path, *rows: str, name: str = "day.csv.gz") -> DayFile:
    return prepare(write_rows(tmp_path / name, TRADE_COLUMNS, rows), tmp_path / "cache")


def test_a_vendors_file_is_brought_into_the_order_of_time(tmp_path: Path) -> None:
    trades = random_trades(1, 20, 5000)
    by_ticker = prepare(vendor_file(tmp_path / "2025-11-24.csv.gz", trades), tmp_path / "cache")
    by_time = prepare(
        write_rows(tmp_path / "arrived.csv", TRADE_COLUMNS, [row for _, _, row in trades]), tmp_path / "cache"
    )
    assert (by_ticker.manifest.in_order_of_arrival, by_time.manifest.in_order_of_arrival) == (False, True)
    assert by_ticker.manifest.date == by_time.manifest.date == DAY
    counted = [row for _, _, row in trades if not row_is_cancelled(row)]
    assert by_ticker.manifest.rows == len(counted)
    assert by_ticker.manifest.set_aside == {"correction": len(trades) - len(counted)}
    for name, values in by_ticker.columns.items():
        assert values.tolist() == by_time.columns[name].tolist(), name
    assert by_ticker.columns["time_ns"].tolist() == [time for _, time, row in trades if not row_is_cancelled(row)]


def row_is_cancelled(row: str) -> bool:
    """By the column `correction`, the 11th from the end."""
    return row.split(",")[-11] in ("7", "8", "10", "11", "12")


def test_columns_are_those_of_the_live_feed(tmp_path: Path) -> None:
    time = ns_at("09:30:00.05")
    day = day_of(
        tmp_path,
        trade_row("B", time, 10.25, 0.5, "12,37", trade_id=7),
        trade_row("A", time + 1, 20, 100),
        trade_row("B", time + 2, 10.5, 100, "999", trade_id=7),
    )
    assert day.manifest.symbols == ["A", "B"]
    (cut,) = cuts(day)
    assert cut == Cut(0, 3, (time // CELL_NS + 1) * CELL_NS, (time // CELL_NS + 1) * CELL_NS)
    batch = polygon_ws_pb2.MarketBatch.FromString(encode(day, cut))
    assert batch.watermark_ns == cut.watermark_ns
    trades = batch.trades
    assert list(trades.symbol_id) == [1, 0, 1]
    assert list(trades.time_ns) == [time, time + 1, time + 2]
    assert list(trades.price) == [10.25, 20, 10.5]
    assert list(trades.size) == [0.5, 100, 100]
    assert list(trades.conditions) == [condition_mask([12, 37]), 0, condition_mask([999])]
    # The same identity twice; one without an id is nobody's duplicate.
    assert trades.trade_key[0] == trades.trade_key[2] != 0
    assert trades.trade_key[1] == 0


def test_quiet_seconds_have_watermarks_and_cells_are_never_mixed(tmp_path: Path) -> None:
    times = [ns_at("09:30:00.05"), ns_at("09:30:00.06"), ns_at("09:30:00.1"), ns_at("09:30:03.95")]
    day = day_of(tmp_path, *(trade_row("A", time, 1) for time in times))
    marks = [(cut.last - cut.first, cut.watermark_ns) for cut in cuts(day)]
    assert marks == [
        # The end of a cell is its last time.
        (3, ns_at("09:30:00.1")),
        (0, ns_at("09:30:01")),
        (0, ns_at("09:30:02")),
        (0, ns_at("09:30:03")),
        (1, ns_at("09:30:04")),
    ]


def test_a_second_in_which_nothing_comes_and_one_that_ends_a_cell(tmp_path: Path) -> None:
    times = [ns_at("09:30:01"), ns_at("09:30:03"), ns_at("09:30:03") + 1]
    day = day_of(tmp_path, *(trade_row("A", time, 1) for time in times))
    assert [(cut.last - cut.first, cut.watermark_ns) for cut in cuts(day)] == [
        (1, ns_at("09:30:01")),
        (0, ns_at("09:30:02")),
        (1, ns_at("09:30:03")),
        (1, ns_at("09:30:03.1")),
    ]


@given(
    st.lists(st.integers(0, 5 * SECOND) | st.integers(0, 50).map(lambda n: n * CELL_NS), min_size=1, max_size=60),
    st.none() | st.integers(0, 6 * SECOND),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_are_those_of_the_source_and_watermarks_have_no_noise(
    tmp_path: Path, offsets: list[int], until: int | None
) -> None:
    """Every nanosecond of the file is fed; lists refresh at whole tenths, after all that came up to then."""
    start = ns_at("09:30:00")
    times = sorted(start + offset for offset in offsets)
    until_ns = None if until is None else start + until
    day = day_of(tmp_path, *(trade_row("A", time, 1) for time in times), name=f"{abs(hash(tuple(offsets)))}.csv.gz")
    fed: list[int] = []
    marked = 0
    for cut in cuts(day, until_ns):
        batch = polygon_ws_pb2.MarketBatch.FromString(encode(day, cut))
        new = list(batch.trades.time_ns)
        assert all(time > marked for time in new)
        fed += new
        if cut.watermark_ns:
            assert marked < cut.watermark_ns and (fed == [] or fed[-1] <= cut.watermark_ns)
            assert cut.watermark_ns % CELL_NS == 0 or cut.watermark_ns == until_ns
            marked = cut.watermark_ns
    assert fed == [time for time in times if until_ns is None or time <= until_ns]
    assert marked == until_ns or (until_ns is None and marked >= times[-1])


def test_until_is_the_last_watermark(tmp_path: Path) -> None:
    times = [ns_at("09:30:00.05"), ns_at("09:30:00.06"), ns_at("09:30:03.95")]
    day = day_of(tmp_path, *(trade_row("A", time, 1) for time in times))

    def until(clock: str) -> list[tuple[int, int]]:
        return [(cut.last - cut.first, cut.watermark_ns) for cut in cuts(day, ns_at(clock))]

    assert until("09:30:00.05") == [(1, times[0])]
    assert until("09:30:00.07") == [(2, ns_at("09:30:00.07"))]
    assert until("09:30:01.5") == [
        (2, ns_at("09:30:00.1")),
        (0, ns_at("09:30:01")),
        (0, ns_at("09:30:01.5")),
    ]
    assert until("09:29:00") == [(0, ns_at("09:29:00"))]
    assert until("09:31:00")[-1] == (0, ns_at("09:31:00"))
    # What is fed before does not depend on where the day stops, but for its last cell.
    assert list(cuts(day))[:2] == list(cuts(day, ns_at("09:30:02.5")))[:2]


def test_large_cells_are_several_batches_and_one_watermark(tmp_path: Path) -> None:
    time = ns_at("09:30:00")
    day = day_of(tmp_path, *(trade_row("A", time + 1 + number, 1) for number in range(MAX_ROWS + 3)))
    assert [(cut.last - cut.first, cut.watermark_ns > 0) for cut in cuts(day)] == [(MAX_ROWS, False), (3, True)]


def test_late_prints_of_a_recorded_file_stay_late(tmp_path: Path) -> None:
    start = ns_at("09:30:00")
    times = [start + number * SECOND for number in range(300)]
    # Told two minutes after it happened.
    times.insert(200, times[80])
    day = day_of(tmp_path, *(trade_row("A", time, 1 + number) for number, time in enumerate(times)))
    assert day.manifest.in_order_of_arrival
    assert day.columns["price"].tolist() == [float(1 + number) for number in range(301)]
    assert day.columns["arrival_ns"][200] == times[199]
    assert day.columns["time_ns"][200] == times[80]


def test_bad_rows_are_logged_with_their_lines_and_set_aside(tmp_path: Path) -> None:
    time = ns_at("09:30:00")
    good = trade_row("A", time, 1)
    day = day_of(
        tmp_path,
        good,
        trade_row("A", time, "ten"),
        good,
        trade_row("", time, 3),
        trade_row("A", time, 4, conditions="odd"),
        good.replace(str(time), "soon"),
        trade_row("A", time - 86400 * SECOND, 5),
        good,
    )
    assert day.manifest.rows == 3
    assert day.manifest.set_aside == {"unreadable": 2, "missing_value": 1, "conditions": 1, "other_day": 1}
    assert [example.split(": ")[0] for example in day.manifest.examples] == [
        f"day.csv.gz:{line}" for line in (3, 5, 6, 7, 8)
    ]
    assert "ten" in day.manifest.examples[0]


def test_lines_count_those_that_could_not_be_read() -> None:
    assert lines_of([0, 1, 2, 3], [3, 5]) == [2, 4, 6, 7]
    assert lines_of([0], [2, 3]) == [4]
    assert lines_of([], [2]) == []


def test_a_file_that_breaks_off_is_good_up_to_there(tmp_path: Path) -> None:
    whole = vendor_file(tmp_path / "2025-11-24.csv.gz", random_trades(2, 10, 20_000))
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    day = prepare(broken, tmp_path / "cache")
    assert 1000 < day.manifest.rows < prepare(whole, tmp_path / "cache").manifest.rows
    assert day.manifest.set_aside["broken_file"] == 1
    assert "breaks off" in day.manifest.examples[-1]


def test_what_is_no_flat_file_is_refused(tmp_path: Path) -> None:
    quotes = write_rows(tmp_path / "quotes.csv.gz", "ticker,ask,bid", ["A,1,2"])
    with pytest.raises(StartError, match="line 1: expected the columns of trades"):
        prepare(quotes, tmp_path / "cache")
    with pytest.raises(StartError, match="No such file"):
        prepare(tmp_path / "none.csv.gz", tmp_path / "cache")
    garbage = tmp_path / "garbage.csv.gz"
    garbage.write_bytes(gzip.compress(b"x")[:-4] + b"\x00" * 50)
    with pytest.raises(StartError):
        prepare(garbage, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_a_day_is_prepared_once_until_its_file_changes(tmp_path: Path) -> None:
    steps: list[str] = []
    path = write_rows(tmp_path / "day.csv.gz", TRADE_COLUMNS, [trade_row("A", ns_at("09:30:00"), 1)])
    first = prepare(path, tmp_path / "cache", steps.append)
    assert steps
    steps.clear()
    assert prepare(path, tmp_path / "cache", steps.append).epoch == first.epoch
    assert not steps
    write_rows(path, TRADE_COLUMNS, [trade_row("A", ns_at("09:30:00"), 1), trade_row("A", ns_at("09:30:01"), 1)])
    assert prepare(path, tmp_path / "cache", steps.append).epoch != first.epoch
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_minute_bars_get_what_the_live_ones_have(tmp_path: Path) -> None:
    rows = [
        f"A,100,10,11,12,9,{ns_at('09:28:00')},4",
        f"A,300,11,11,11,11,{ns_at('09:30:00')},3",
        f"A,100,12,13,14,12,{ns_at('09:31:00')},0",
        f"B,50,1,1,1,1,{ns_at('03:59:00')},1",
        f"B,70,2,2,2,2,{ns_at('04:00:00')},1",
    ]
    day = prepare(write_rows(tmp_path / "bars.csv.gz", BAR_COLUMNS, rows), tmp_path / "cache")
    bars = polygon_ws_pb2.MarketBatch()
    for cut in cuts(day):
        bars.MergeFromString(encode(day, cut))
    assert bars.minute_bars.span == 2
    assert list(bars.minute_bars.symbol_id) == [1, 1, 0, 0, 0]
    assert list(bars.minute_bars.accumulated_volume) == [0, 70, 100, 400, 500]
    typical = [(12 + 9 + 11) / 3, 11, (14 + 12 + 13) / 3]
    assert bars.minute_bars.day_vwap[2:] == pytest.approx(
        [typical[0], (100 * typical[0] + 300 * 11) / 400, (100 * typical[0] + 300 * 11 + 100 * typical[2]) / 500]
    )
    assert [value == value for value in bars.minute_bars.official_open] == [False, False, False, True, True]
    assert list(bars.minute_bars.official_open)[3:] == [11, 11]
    assert list(bars.minute_bars.average_size)[:4] == [50, 70, 25, 100]
    assert [end - start for start, end in zip(bars.minute_bars.start_ns, bars.minute_bars.end_ns, strict=True)] == [
        60 * SECOND
    ] * 5
    assert day.arrival_ns.tolist() == list(bars.minute_bars.end_ns)


@pytest.mark.parametrize(
    ("text", "mask"),
    [(None, 0), ("", 0), ("12", 1 << 12), ("12,37", 1 << 12 | 1 << 37), ("[12, 41]", 1 << 12 | 1 << 41), ("x", None)],
)
def test_conditions_are_those_of_the_live_decoder(text: str | None, mask: int | None) -> None:
    assert conditions_of(text) == mask


def test_pace_follows_the_day_at_its_speed() -> None:
    pace = Pace(10.0)
    pace.begin()
    assert pace.delay(100 * SECOND, now=5.0) == 0
    assert pace.delay(110 * SECOND, now=5.0) == pytest.approx(1.0)
    assert pace.delay(110 * SECOND, now=5.9) == pytest.approx(0.1)
    pace.sent(110 * SECOND)
    assert pace.delay(120 * SECOND, now=6.5) == pytest.approx(0.5)
    # A reader that begins anew gets what was reached at once, and time goes on from there.
    pace.begin()
    assert pace.delay(105 * SECOND, now=50.0) == 0
    assert pace.delay(120 * SECOND, now=50.0) == pytest.approx(1.0)
    assert Pace("max").delay(10**18, now=0) == 0


def test_pace_skips_to_its_start() -> None:
    pace = Pace(1.0, start_ns=100 * SECOND)
    pace.begin()
    assert pace.delay(50 * SECOND, now=1.0) == 0
    assert pace.delay(103 * SECOND, now=2.0) == pytest.approx(3.0)


def test_a_paused_day_stands_still_and_continues_where_it_was() -> None:
    pace = Pace(10.0)
    pace.begin()
    assert pace.delay(100 * SECOND, now=5.0) == 0
    pace.sent(100 * SECOND)
    pace.pause()
    assert pace.delay(101 * SECOND, now=6.0) == math.inf
    # What was sent before is due for a reader that begins anew.
    pace.begin()
    assert pace.delay(100 * SECOND, now=7.0) == 0
    assert pace.delay(101 * SECOND, now=7.0) == math.inf
    pace.resume()
    assert pace.delay(110 * SECOND, now=20.0) == pytest.approx(1.0)


def test_a_new_speed_counts_from_where_the_day_is() -> None:
    pace = Pace(1.0)
    assert pace.delay(100 * SECOND, now=0.0) == 0
    pace.sent(100 * SECOND)
    pace.set_speed(50.0)
    assert pace.delay(200 * SECOND, now=30.0) == pytest.approx(2.0)
    pace.set_speed("max")
    assert pace.delay(10**18, now=30.0) == 0


def test_a_jump_is_due_at_once_and_a_pause_ends_it() -> None:
    pace = Pace(1.0)
    assert pace.delay(100 * SECOND, now=0.0) == 0
    pace.sent(100 * SECOND)
    pace.pause()
    pace.jump(400 * SECOND)
    assert pace.jump_ns == 400 * SECOND
    pace.begin()
    assert [pace.delay(at * SECOND, now=1.0) for at in (101, 400, 401)] == [0, 0, math.inf]
    pace.sent(400 * SECOND)
    assert pace.jump_ns == 0
    pace.resume()
    assert pace.delay(403 * SECOND, now=9.0) == pytest.approx(3.0)
    pace.jump(800 * SECOND)
    pace.sent(500 * SECOND)
    pace.pause()
    assert pace.jump_ns == 0
    assert pace.delay(501 * SECOND, now=10.0) == math.inf


async def test_a_position_of_another_day_is_refused(tmp_path: Path) -> None:
    day = day_of(tmp_path, trade_row("A", ns_at("09:30:00"), 1))
    with pytest.raises(ServiceError, match="another day is being replayed"):
        ReplaySubscription(day, Pace("max"), Position(day.epoch + 1, 1), Timers(10.0))
    subscription = ReplaySubscription(day, Pace("max"), None, Timers(10.0))
    with pytest.raises(ServiceError, match="at most"):
        subscription.acknowledge(Position(day.epoch, 1))
