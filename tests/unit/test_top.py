"""What `tradeul top` draws: the list's rows, how current it is, and what is wrong."""

from rich.console import Console
from tradeul.v1 import scanner_pb2

from services.cli.top import render, status_line
from services.kit.list_client import ListCopy
from tests.support.list_messages import ListModel


def drawn(copy: ListCopy) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        console.print(render(copy, "winners", 25))
    return captured.get()


def test_rows_and_how_current_they_are() -> None:
    copy = ListCopy()
    assert "waiting for the list" in drawn(copy)
    model = ListModel()
    model.change_to([("AAA", 12.5), ("BBB", 3.0)])
    copy.apply(scanner_pb2.WatchListResponse(snapshot=scanner_pb2.RankedList.FromString(model.snapshot())))
    text = drawn(copy)
    assert text.index("AAA") < text.index("BBB")
    assert "12.50" in text
    assert f"change {copy.sequence} of {copy.epoch}" in text
    copy.problem = "the scanner is restarting"
    assert status_line(copy).plain == "the scanner is restarting"
