"""Lists in the terminal: values as traders write them, the columns that fit, and the reason why a list is empty."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import scanner_pb2, stream_pb2
from tradeul.v1.session_pb2 import CLOSED, MARKET_OPEN, PRE_MARKET
from tradeul.v1.ticker_row_pb2 import LARGE, TickerRow

from fastcore.fields import FIELDS
from fastcore.filter_ast import FilterError
from services.cli.lists.columns import cell, column, default_columns, fitted, mentioned, that_fit, tone
from services.cli.lists.output import DOWN, UP, json_lines, table_lines
from services.cli.terminal.bars import key_line, tab_line
from services.cli.terminal.prompt import WordSuggester, error_line
from services.cli.terminal.sheet import Sheet, filter_error, matching, ordered
from services.kit.lists.list_client import Followed

Response = scanner_pb2.WatchListResponse


def a_row(symbol: str, rank: int = 1, **values: Any) -> TickerRow:
    return TickerRow(symbol=symbol, rank=rank, **values)


def ranked(*rows: TickerRow, sequence: int = 1) -> scanner_pb2.RankedList:
    position = stream_pb2.StreamPosition(epoch=1, sequence=sequence)
    return scanner_pb2.RankedList(list="winners", epoch=1, sequence=sequence, rows=rows, position=position)


def a_sheet(name: str = "winners") -> Sheet:
    return Sheet(name, scanner_pb2.WatchListRequest(list=name))


def take(sheet: Sheet, response: Response, now: float = 0.0) -> None:
    sheet.take(Followed(response, sheet.copy.apply(response)), now)


def test_every_field_has_a_column_and_a_value() -> None:
    empty = TickerRow(symbol="A")
    for field in FIELDS:
        each = column(field.name)
        assert len(each.heading) <= each.width <= 24
        assert cell(empty, field.name) == ("A" if field.name == "symbol" else "-")
    assert len({column(field.name).heading for field in FIELDS}) == len(FIELDS)


@pytest.mark.parametrize(
    ("values", "name", "text", "direction"),
    [
        ({"price": 12.5}, "price", "12.50", ""),
        ({"price": 0.4567}, "price", "0.4567", ""),
        ({"change_percent": 4.2}, "change_percent", "+4.20", "up"),
        ({"change_percent": -12.345}, "change_percent", "-12.35", "down"),
        ({"change_percent": 0.0}, "change_percent", "+0.00", ""),
        ({"spread_percent": 0.31}, "spread_percent", "0.31", ""),
        ({"change": -0.5}, "change", "-0.5000", "down"),
        ({"volume_today": 2_350_000.0}, "volume_today", "2.35M", ""),
        ({"volume_today": 999.0}, "volume_today", "999", ""),
        ({"market_cap": 3.2e12}, "market_cap", "3.20T", ""),
        ({"rvol": 3.14159}, "rvol", "3.14", ""),
        ({"halted": True}, "halted", "yes", ""),
        ({"gap_size": 3}, "gap_size", "LARGE", ""),
        ({"halted_at": Timestamp(seconds=1_763_996_400)}, "halted_at", "11-24 10:00:00", ""),
        ({"updated_at": Timestamp(seconds=1_763_996_400)}, "updated_at", "10:00:00", ""),
    ],
)
def test_values_are_as_traders_write_them(values: dict[str, Any], name: str, text: str, direction: str) -> None:
    row = a_row("A", **values)
    assert (cell(row, name), tone(row, name)) == (text, direction)


def test_halts_have_columns_of_their_own() -> None:
    assert {"halt_reason", "halted_at", "resumes_at", "halts_today"} <= set(default_columns("halts"))
    assert "rvol" not in default_columns("halts")
    assert "rvol" in default_columns("winners")


def test_as_many_columns_are_shown_as_fit() -> None:
    columns = [column(name) for name in default_columns("winners")]
    counts = [that_fit(columns, width) for width in (1, 68, 121, 1000)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert counts[-1] == len(columns)
    assert fitted("abcdef", 4, True) == "abc…"
    assert fitted("ab", 4, False) == "  ab"


def test_a_filter_of_rows_knows_times_and_enums() -> None:
    rows = [a_row("A"), a_row("B", 2)]
    rows[0].updated_at.FromJsonString("2026-01-05T14:30:00Z")
    rows[0].gap_size = LARGE
    texts = ('updated_at >= "2026-01-05T14:30:00Z"', 'NOT updated_at > "2026-01-05T14:30:00Z"', "gap_size > MEDIUM")
    for text in texts:
        assert [row.symbol for row in matching(text, rows)] == ["A"], text


def test_a_table_and_json_of_the_same_rows() -> None:
    rows = ranked(a_row("AB", 1, price=12.5, change_percent=4.2), a_row("C", 2, price=0.5, change_percent=-1.0))
    lines = table_lines(rows.rows, ["price", "change_percent"])
    assert lines == ["#  symbol   price  chg %", "1  AB       12.50  +4.20", "2  C       0.5000  -1.00"]
    coloured = table_lines(rows.rows, ["price", "change_percent"], colours=True)
    assert (UP in coloured[1], DOWN in coloured[1], DOWN in coloured[2]) == (True, False, True)
    assert json_lines(rows, ["change_percent"])[1] == '{"rank":2,"symbol":"C","change_percent":-1}'
    assert '"price":12.5' in json_lines(rows, None)[0]


def test_fields_that_a_filter_mentions_are_found() -> None:
    assert mentioned(["gap_percent > 4 AND has(rvol) OR gap_percent<1", "chg_5m desc"]) == [
        "gap_percent",
        "rvol",
        "chg_5m",
    ]


def test_rows_are_filtered_and_sorted_as_the_scanner_does() -> None:
    rows = [a_row("A", price=3.0), a_row("B", price=7.0, rvol=2.0), a_row("C", price=5.0, rvol=1.0)]
    assert [row.symbol for row in matching("price > 4 AND has(rvol)", rows)] == ["B", "C"]
    rows[0].company_name = "Apex Semiconductor"
    assert [row.symbol for row in matching("semi", rows)] == ["A"]
    assert [row.symbol for row in matching("c", rows)] == ["A", "C"]
    assert [row.symbol for row in ordered(rows, "rvol", False)] == ["C", "B", "A"]
    assert [row.symbol for row in ordered(rows, "rvol", True)] == ["B", "C", "A"]
    assert [row.symbol for row in ordered(rows, "symbol", True)] == ["C", "B", "A"]


def test_who_came_and_who_left_is_logged() -> None:
    sheet = a_sheet()
    take(sheet, Response(snapshot=ranked(a_row("A"), a_row("B", 2))))
    assert not sheet.log and not sheet.is_new("A", 0.0)
    take(sheet, Response(snapshot=ranked(a_row("B"), a_row("C", 2), sequence=2)), now=5.0)
    assert [(line.sign, line.row.symbol) for line in sheet.log] == [("-", "A"), ("+", "C")]
    assert (sheet.unseen, sheet.is_new("C", 6.0), sheet.is_new("C", 16.0)) == (1, True, False)


def test_held_rows_stay_while_changes_wait() -> None:
    sheet = a_sheet()
    take(sheet, Response(snapshot=ranked(a_row("A"))))
    sheet.hold()
    take(sheet, Response(snapshot=ranked(a_row("B"), sequence=2)))
    assert ([row.symbol for row in sheet.rows()], sheet.waiting) == (["A"], 1)
    sheet.hold()
    assert ([row.symbol for row in sheet.rows()], sheet.waiting) == (["B"], 0)


def test_an_empty_list_says_why() -> None:
    sheet = a_sheet()
    status = scanner_pb2.ScannerStatus(session=MARKET_OPEN, active_symbols=5)
    assert sheet.empty_reason("host:8000", None) == "loading winners from host:8000"
    sheet.copy.unhealthy_reason = "UNAVAILABLE: failed to connect to all addresses; last error: UNKNOWN: ipv4: refused"
    assert sheet.empty_reason("host:8000", None) == "not connected to host:8000: refused; trying again"
    sheet.copy.unhealthy_reason = "UNAVAILABLE: upstream connect error or disconnect/reset before headers"
    assert "host:8000: the gateway does not reach the scanner" in sheet.empty_reason("host:8000", None)
    sheet.copy.unhealthy_reason = "nothing was received for 30 s"
    assert "host:8000: nothing was received for 30 s; trying" in sheet.empty_reason("host:8000", None)
    take(sheet, Response(snapshot=ranked()))
    assert sheet.empty_reason("host:8000", status) == "no symbol passes now: the filter of winners"
    sheet.definition = scanner_pb2.ListDefinition(
        filter="rvol >= 2", base_filter="price > 1", uses_scanner_filters=True
    )
    assert sheet.empty_reason("h", status) == "no symbol passes now: rvol >= 2 AND price > 1 AND the scanner filters"
    early = scanner_pb2.ScannerStatus(session=PRE_MARKET, active_symbols=5)
    assert "premarket volume" in sheet.empty_reason("h", early)
    assert "closed" in sheet.empty_reason("h", scanner_pb2.ScannerStatus(session=CLOSED, active_symbols=5))
    assert "traded today" in sheet.empty_reason("h", scanner_pb2.ScannerStatus(session=PRE_MARKET))
    assert "not current: lost" in sheet.empty_reason("h", scanner_pb2.ScannerStatus(problem="lost"))
    take(sheet, Response(snapshot=ranked(a_row("A", price=3.0), sequence=2)))
    sheet.filter_text = "price > 4"
    assert "none of the 1 rows matches price > 4" in sheet.empty_reason("h", status)
    sheet.refused = "refused: unknown"
    assert sheet.empty_reason("h", status) == "refused: unknown"


def test_an_error_is_shown_at_its_position() -> None:
    assert filter_error("price > 4") is None
    error = filter_error("pric > 4")
    assert isinstance(error, FilterError)
    assert error_line(error, 80).startswith("^ unknown field 'pric'; did you mean price?")
    late = FilterError("expected a value", 60)
    assert error_line(late, 80).rstrip()[60:] == "^ expected a value"[: 80 - 60]
    narrow = FilterError("expected a value", 70)
    assert error_line(narrow, 80)[70] == "^"
    assert error_line(FilterError("expected " + "x" * 90, 50), 80).startswith("at 51: expected")


async def test_the_last_word_is_completed() -> None:
    suggest = WordSuggester().get_suggestion
    assert await suggest("price > 1 AND gap_p") == "price > 1 AND gap_percent"
    assert await suggest("gap_size = EXT") == "gap_size = EXTREME"
    assert await suggest("price > ") is None


@pytest.mark.parametrize("width", [80, 133])
def test_the_lines_around_the_table_fit(width: int) -> None:
    sheets = [a_sheet(f"list_{number:02}") for number in range(20)]
    for active in (0, 9, 19):
        line = tab_line(sheets, active, width).plain
        assert len(line) <= width
        assert f" {active + 1} list_{active:02} " in line
        assert (line.startswith("<"), line.endswith(">")) == (active > 0, active < 19)
    assert len(key_line(width).plain.rstrip()) <= width
    assert "? keys" in key_line(width).plain
