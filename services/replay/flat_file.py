"""The vendor's flat files (SEMANTICS 11): what they hold, and rows that cannot be read."""

import datetime
import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of

Kind = Literal["trades", "minute_bars"]

TRADES: Final[Kind] = "trades"
MINUTE_BARS: Final[Kind] = "minute_bars"

# SQL types of the columns that are read, by header name.
COLUMNS: Final[dict[Kind, dict[str, str]]] = {
    TRADES: {
        "ticker": "VARCHAR",
        "conditions": "VARCHAR",
        "correction": "INTEGER",
        "exchange": "VARCHAR",
        "id": "VARCHAR",
        "price": "DOUBLE",
        "sequence_number": "BIGINT",
        "sip_timestamp": "BIGINT",
        "size": "DOUBLE",
        "trf_id": "VARCHAR",
    },
    MINUTE_BARS: {
        "ticker": "VARCHAR",
        "volume": "DOUBLE",
        "open": "DOUBLE",
        "close": "DOUBLE",
        "high": "DOUBLE",
        "low": "DOUBLE",
        "window_start": "BIGINT",
        "transactions": "DOUBLE",
        # Not in the vendor's files: the stored bars have it.
        "vwap": "DOUBLE",
    },
}
# Without these a row says nothing.
NEEDED: Final[dict[Kind, tuple[str, ...]]] = {
    TRADES: ("ticker", "price", "sip_timestamp", "size"),
    MINUTE_BARS: ("ticker", "volume", "open", "close", "high", "low", "window_start"),
}
_DATE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})")
_HEADER_BYTES: Final = 65_536
_COPY_BYTES: Final = 1 << 20


class BadRow(NamedTuple):
    """A row that is set aside; lines count from 1, the header."""

    line: int
    reason: str
    problem: str


class Header(NamedTuple):
    """What a file says of itself."""

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


def date_in_name(path: Path) -> datetime.date | None:
    """The day that a file's name tells, as the vendor's do."""
    if (found := _DATE.search(path.name)) is None:
        return None
    try:
        return datetime.date.fromisoformat(found[1])
    except ValueError:
        return None


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def salvage(path: Path, to: Path) -> str:
    """Writes the whole lines before the place where a gzip file breaks off; returns what is wrong there."""
    problem = "is whole"
    end = 0
    with gzip.open(path) as source, to.open("wb") as target:
        try:
            while chunk := source.read1(_COPY_BYTES):
                target.write(chunk)
                if (newline := chunk.rfind(b"\n")) >= 0:
                    end = target.tell() - len(chunk) + newline + 1
        except (OSError, EOFError, zlib.error) as error:
            problem = reason_of(error)
        target.truncate(end)
    return problem


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
