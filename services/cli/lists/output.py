"""Rows of a list as output: a table, CSV, or JSON with a row in each line."""

import csv
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.row_json import read_ranked_list
from services.cli.lists.columns import cell, column, fitted, tone

Shape = Literal["table", "csv", "json"]
# Blue and orange, which colour-blind people can tell; signs say the same.
UP, DOWN, FAINT, PLAIN = "\x1b[38;5;75m", "\x1b[38;5;215m", "\x1b[2m", "\x1b[0m"
RANK_WIDTH: Final = 4
SYMBOL_WIDTH: Final = 8
CONTEXT: Final = ("rank", "symbol")


class Output(NamedTuple):
    """How rows are written: the shape, the fields, and whether with colours."""

    shape: Shape
    columns: Sequence[str]
    # False: JSON has every field.
    are_chosen: bool
    colours: bool = False


def wants_colours() -> bool:
    """True if the output is a terminal that may show colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_rows(ranked: scanner_pb2.RankedList, output: Output) -> None:
    """Writes the rows to the standard output."""
    if output.shape == "json":
        lines: Iterable[str] = json_lines(ranked, output.columns if output.are_chosen else None)
    elif output.shape == "csv":
        write_csv(ranked, output.columns)
        return
    else:
        lines = table_lines(ranked.rows, output.columns, output.colours)
    sys.stdout.writelines(f"{line}\n" for line in lines)


def json_rows(ranked: scanner_pb2.RankedList) -> list[bytes]:
    """Returns each row as JSON, as in REST."""
    _, _, _, rows = read_ranked_list(ranked.SerializeToString())
    return [b'{"rank":%d,%b}' % (rank, members) for _, rank, members in rows]


def json_lines(ranked: scanner_pb2.RankedList, columns: Sequence[str] | None) -> list[str]:
    """Returns each row as JSON with these fields, rank and symbol; None for every field."""
    rows = json_rows(ranked)
    if columns is None:
        return [row.decode() for row in rows]
    names = (*CONTEXT, *columns)
    chosen = [{name: row[name] for name in names if name in row} for row in map(_decoded, rows)]
    return [msgspec.json.encode(row).decode() for row in chosen]


def write_csv(ranked: scanner_pb2.RankedList, columns: Sequence[str]) -> None:
    """Writes a heading and the values as in JSON; an absent one is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = (*CONTEXT, *columns)
    writer.writerow(names)
    for row in map(_decoded, json_rows(ranked)):
        writer.writerow([_csv_value(row.get(name, "")) for name in names])


def table_lines(rows: Sequence[TickerRow], columns: Sequence[str], colours: bool = False) -> list[str]:
    """Returns the heading and a line for each row; a column is as wide as its widest value."""
    heads = ["#", "symbol", *(column(name).heading for name in columns)]
    body = [[str(row.rank), row.symbol, *(cell(row, name) for name in columns)] for row in rows]
    lefts = [False, True, *(column(name).is_left for name in columns)]
    widths = [max(len(line[index]) for line in (heads, *body)) for index in range(len(heads))]
    lines = [_joined(heads, widths, lefts)]
    if colours:
        lines[0] = f"{FAINT}{lines[0]}{PLAIN}"
    for row, values in zip(rows, body, strict=True):
        cells = [fitted(*each) for each in zip(values, widths, lefts, strict=True)]
        if colours:
            tones: Mapping[str, str] = {"up": UP, "down": DOWN}
            for index, name in enumerate(columns, len(CONTEXT)):
                if colour := tones.get(tone(row, name)):
                    cells[index] = f"{colour}{cells[index]}{PLAIN}"
        lines.append("  ".join(cells).rstrip())
    return lines


def _joined(values: Sequence[str], widths: Sequence[int], lefts: Sequence[bool]) -> str:
    return "  ".join(fitted(*each) for each in zip(values, widths, lefts, strict=True)).rstrip()


def _decoded(row: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(row)
    return decoded


def _csv_value(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
