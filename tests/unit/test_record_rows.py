"""Frames as rows of flat files, and files that survive whatever ends the recorder."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from tradeul.v1 import frame_pb2, market_data_pb2, stream_pb2

from fastcore.columns import condition_mask
from services.kit.runtime.errors import StartError
from services.market.flat_files import MINUTE_BARS_KIND, TRADES_KIND, file_name
from services.record.core import Recording
from services.record.files import STATE
from services.record.rows import RowWriter, conditions_text
from services.replay.prepare import conditions_of, prepare
from tests.support.flat_trades import DAY, ns_at
from tests.support.tape import apply_next

SYMBOLS = ["AAPL", "BRK.B"]


def trades(*rows: tuple[int, int, float, float, int]) -> market_data_pb2.TradeBatch:
    ids, times, prices, sizes, masks = zip(*rows, strict=True)
    return market_data_pb2.TradeBatch(symbol_id=ids, time_ns=times, price=prices, size=sizes, conditions=masks)


def bars(span: market_data_pb2.BarSpan.ValueType, average_size: float = 25.0) -> market_data_pb2.BarBatch:
    nan = [float("nan")]
    return market_data_pb2.BarBatch(
        span=span, symbol_id=[1], start_ns=[ns_at("09:30:00")], end_ns=[ns_at("09:31:00")], open=[10.5], high=[12],
        low=[9], close=[11], volume=[100.5], accumulated_volume=nan, day_vwap=nan, official_open=nan, vwap=nan,
        average_size=[average_size],
    )  # fmt: skip


class Stream:
    """Encoded frames of an epoch, in order."""

    def __init__(self, epoch: int = 1000) -> None:
        self.epoch = epoch
        self.frames: list[memoryview] = []

    def frame(self, **body: object) -> "Stream":
        position = stream_pb2.StreamPosition(epoch=self.epoch, sequence=len(self.frames) + 1)
        frame = frame_pb2.Frame(position=position, **body)  # type: ignore[arg-type]
        self.frames.append(memoryview(frame.SerializeToString()))
        return self

    def trade(self, clock: str, price: float) -> "Stream":
        return self.frame(trades=trades((0, ns_at(clock), price, 100.0, 0)))


def begun() -> Stream:
    stream = Stream().frame(trading_day=frame_pb2.TradingDay(trading_date=str(DAY)))
    return stream.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=SYMBOLS))


def prices(folder: Path) -> list[float]:
    with gzip.open(folder / file_name(TRADES_KIND, DAY), "rt") as file:
        return [float(row["price"]) for row in csv.DictReader(file)]


def test_trades_are_the_vendors_rows() -> None:
    writer = RowWriter(sequence=7)
    time = ns_at("09:30:00")
    batch = trades((1, time, 10.1, 0.25, condition_mask([12, 37])), (0, time + 1, 200.0, 100.0, condition_mask([41])))
    lines = writer.trades(memoryview(batch.SerializeToString()), SYMBOLS)
    rows = list(csv.reader(io.StringIO("".join(lines))))
    assert rows == [
        ["BRK.B", "12,37", "0", "", "", "", "10.1", "8", str(time), "0.25", "", "", ""],
        ["AAPL", "41", "0", "", "", "", "200.0", "9", str(time + 1), "100", "", "", ""],
    ]


def test_minute_bars_are_the_vendors_rows_and_second_bars_are_not_there() -> None:
    writer = RowWriter()
    body = memoryview(bars(market_data_pb2.MINUTE).SerializeToString())
    assert writer.minute_bars(body, SYMBOLS) == [f"BRK.B,100.5,10.5,11.0,12.0,9.0,{ns_at('09:30:00')},4\n"]
    body = memoryview(bars(market_data_pb2.MINUTE, float("nan")).SerializeToString())
    assert writer.minute_bars(body, SYMBOLS)[0].endswith(",\n")
    assert writer.minute_bars(memoryview(bars(market_data_pb2.SECOND).SerializeToString()), SYMBOLS) == []


@pytest.mark.parametrize("conditions", [[], [12], [0, 12, 62], [999], [12, 999]])
def test_conditions_are_read_again_as_they_were(conditions: list[int]) -> None:
    mask = condition_mask(conditions)
    text = conditions_text(mask) if mask else ""
    assert conditions_of(next(csv.reader([text]), [""])[0] if text else "") == mask


def test_a_recording_is_a_days_file(tmp_path: Path) -> None:
    stream = begun().trade("09:30:00", 1.5).frame(bars=bars(market_data_pb2.MINUTE)).trade("09:30:01", 2.5)
    recording = Recording(tmp_path)
    apply_next(recording, *stream.frames)
    recording.flush()
    assert prices(tmp_path) == [1.5, 2.5]
    day = prepare(tmp_path / file_name(TRADES_KIND, DAY), tmp_path / "cache")
    assert (day.manifest.rows, day.manifest.date, day.manifest.in_order_of_arrival) == (2, DAY, True)
    minutes = prepare(tmp_path / file_name(MINUTE_BARS_KIND, DAY), tmp_path / "cache")
    assert minutes.columns["volume"].tolist() == [100.5]


@pytest.mark.parametrize("garbage", [b"", b"\x1f\x8b\x08half a member"])
def test_after_a_crash_it_goes_on_where_it_was(tmp_path: Path, garbage: bytes) -> None:
    stream = begun()
    for number in range(20):
        stream.trade(f"09:30:{number:02d}", 1.0 + number)
    recording = Recording(tmp_path)
    apply_next(recording, *stream.frames[:12])
    recording.flush()
    # Never written.
    apply_next(recording, *stream.frames[12:15])
    with (tmp_path / file_name(TRADES_KIND, DAY)).open("ab") as file:
        # Written without its place in the stream.
        file.write(garbage)
    again = Recording(tmp_path)
    assert again.position == (stream.epoch, 12)
    apply_next(again, *stream.frames[12:])
    again.flush()
    assert prices(tmp_path) == [1.0 + number for number in range(20)]
    assert again.gaps == 0


def test_a_new_day_has_files_of_its_own(tmp_path: Path) -> None:
    stream = begun().trade("09:30:00", 1.5)
    stream.frame(trading_day=frame_pb2.TradingDay(trading_date="2025-11-25"))
    stream.frame(trades=trades((1, ns_at("09:30:00") + 86_400 * 10**9, 9.0, 100.0, 0)))
    recording = Recording(tmp_path)
    apply_next(recording, *stream.frames)
    recording.flush()
    assert prices(tmp_path) == [1.5]
    assert recording.day.paths[TRADES_KIND].name == "2025-11-25.csv.gz"
    assert recording.day.rows[TRADES_KIND] == 1


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / file_name(TRADES_KIND, DAY)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"the vendor's")
    with pytest.raises(StartError, match="is there already"):
        apply_next(Recording(tmp_path), begun().frames[0])
    assert path.read_bytes() == b"the vendor's"
    (tmp_path / STATE).write_text("{")
    with pytest.raises(StartError, match=STATE):
        Recording(tmp_path)
