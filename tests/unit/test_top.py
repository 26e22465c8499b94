"""What `tradeul top` draws of a row."""

import io

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from tradeul.v1 import scanner_pb2, stream_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.cli.top import render
from services.kit.lists.list_client import ListCopy


def drawn(title: str, row: TickerRow) -> str:
    copy = ListCopy()
    position = stream_pb2.StreamPosition(epoch=1, sequence=1)
    snapshot = scanner_pb2.RankedList(list=title, epoch=1, sequence=1, rows=[row], position=position)
    copy.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(render(copy, title, 5))
    return capture.get()


def test_halts_have_columns_of_their_own() -> None:
    row = TickerRow(
        rank=1, symbol="BRK.B", price=475.0, halt_reason="T1", halted_at=Timestamp(seconds=1_763_996_400), halts_today=2
    )
    text = drawn("halts", row)
    for word in ("reason", "halted", "resumes", "halts", "475.00", "T1", "11-24 10:00:00"):
        assert word in text, word
    assert "rvol" not in text
    assert "rvol" in drawn("winners", row)
