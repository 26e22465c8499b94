"""The vendor's flat files: what they hold, and rows that cannot be read."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.market.flat_files import BAR_COLUMNS, TRADE_COLUMNS

Kind = Literal["trades", "minute_bars"]

TRADES: Final[Kind] = "trades"
MINUTE_BARS: Final[Kind] = "minute_bars"

# SQL types of the columns that are read, by header name.
COLUMNS: Final[dict[Kind, dict[str, str]]] = {
    TRADES: {
        name: kind
        for name, kind in TRADE_COLUMNS.items()
        if name not in ("participant_timestamp", "tape", "trf_timestamp")
    },
    # Files of other makers may have fractions of trades; vwap is only in the stored bars.
    MINUTE_BARS: {**BAR_COLUMNS, "transactions": "DOUBLE", "vwap": "DOUBLE"},
}
# Rows without these are set aside.
NEEDED: Final[dict[Kind, tuple[str, ...]]] = {
    TRADES: ("ticker", "price", "sip_timestamp", "size"),
    MINUTE_BARS: ("ticker", "volume", "open", "close", "high", "low", "window_start"),
}
_HEADER_BYTES: Final = 65_536
_COPY_BYTES: Final = 1 << 20


class BadRow(NamedTuple):
    """A row that is set aside; lines count from 1, the header."""

    line: int
    reason: str
    detail: str


class Header(NamedTuple):
    """The first line of a file."""

    kind: Kind
    columns: tuple[str, ...]


def read_header(path: Path) -> Header:
    """Raises StartError for a file that cannot be read or is no flat file of trades or minute bars."""
    try:
        with _open(path) as file:
            line = file.readline(_HEADER_BYTES).decode("utf-8-sig", errors="replace").strip()
    except (OSError, EOFError, zlib.error) as error:
        raise StartError(f"{path}: {reason_of(error)}") from error
    columns = tuple(name.strip().strip('"') for name in line.split(","))
    for kind, needed in NEEDED.items():
        if set(needed) <= set(columns):
            return Header(kind, columns)
    raise StartError(
        f"{path}, line 1: expected the columns of trades ({', '.join(NEEDED[TRADES])}) "
        f"or of minute bars ({', '.join(NEEDED[MINUTE_BARS])}), was {line[:200]!r}"
    )


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def salvage(path: Path, to: Path) -> str:
    """Writes the whole lines before a gzip file breaks off; returns why it does."""
    why = "is whole"
    end = 0
    with gzip.open(path) as source, to.open("wb") as target:
        try:
            while chunk := source.read1(_COPY_BYTES):
                target.write(chunk)
                if (newline := chunk.rfind(b"\n")) >= 0:
                    end = target.tell() - len(chunk) + newline + 1
        except (OSError, EOFError, zlib.error) as error:
            why = reason_of(error)
        target.truncate(end)
    return why


def select(header: Header) -> str:
    """The columns to read: those that a file does not have are NULL."""
    types = COLUMNS[header.kind]
    return ", ".join(name if name in header.columns else f"NULL::{kind} AS {name}" for name, kind in types.items())


def types(header: Header) -> dict[str, str]:
    """SQL types for the reader of the file."""
    known = COLUMNS[header.kind]
    return {name: known.get(name, "VARCHAR") for name in header.columns}


def lines_of(rows: Sequence[int], refused_lines: Sequence[int]) -> list[int]:
    """The lines of rows (from 0, of those that could be read, ascending) of a file whose `refused_lines`,
    ascending, could not."""
    lines, refused = [], 0
    for row in rows:
        while refused < len(refused_lines) and refused_lines[refused] <= row + 2 + refused:
            refused += 1
        lines.append(row + 2 + refused)
    return lines


def _open(path: Path) -> gzip.GzipFile:
    # A plain file is read through the same interface.
    return gzip.open(path) if is_gzip(path) else path.open("rb")  # type: ignore[return-value]
