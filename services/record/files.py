"""The files of the day that is being recorded.

Each piece is a gzip member of its own at the file's end, and after it the state,
by one rename: how long the files are, and up to where in the stream they reach.
After a crash what is behind that length is cut off and read again.
"""

import datetime
import os
import zlib
from pathlib import Path
from typing import Final

import msgspec

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.market import recorded_market
from services.market.flat_files import (
    BAR_COLUMNS,
    MINUTE_BARS_KIND,
    TRADE_COLUMNS,
    TRADES_KIND,
    file_name,
    market_file_beside,
    stream_file_beside,
)
from services.market.recorded_market import RecordedMarket

log = get_logger(__name__)

HEADERS: Final = {TRADES_KIND: TRADE_COLUMNS, MINUTE_BARS_KIND: BAR_COLUMNS}
# The kind of the stream itself, which is no table.
STREAM_KIND: Final = "stream"
STATE: Final = "recording.json"
# Fast enough for the busiest second, and within a few percent of the best size.
LEVEL: Final = 4
_GZIP: Final = 31


class RecordingState(msgspec.Struct):
    """The contents of the files, and the context to continue with them."""

    date: datetime.date
    epoch: int
    sequence: int
    trade_number: int
    sizes: dict[str, int]
    symbols: list[str]
    gaps: int = 0


class DayRecording:
    """One day's files below `folder`; raises StartError where a file is that is none of a recording under way."""

    def __init__(self, folder: Path, date: datetime.date) -> None:
        self.date = date
        self.rows = {kind: 0 for kind in HEADERS}
        self._folder = folder
        self._paths = {kind: folder / file_name(kind, date) for kind in HEADERS}
        self._paths[STREAM_KIND] = stream_file_beside(self._paths[TRADES_KIND])
        self._waiting: dict[str, list[bytes]] = {kind: [] for kind in self._paths}
        self.waiting_bytes = 0
        # The stream's is there where it is kept.
        self._sizes = {kind: 0 for kind in HEADERS}
        self._market = market_file_beside(self._paths[TRADES_KIND])

    @property
    def paths(self) -> dict[str, Path]:
        """By kind; a file is there once it has a row."""
        return self._paths

    def begin(self, head: RecordedMarket | None = None, market: bytes = b"") -> None:
        """Begins files that must not be there yet, with the market that everything recorded comes after."""
        for path in (*self._paths.values(), self._market):
            if path.exists():
                raise StartError(f"{path}: is there already, and is no recording under way; --out names another folder")
        if head is not None:
            recorded_market.write(self._market, head, market)

    def go_on(self, state: RecordingState) -> None:
        """Continues with files as they were at `state`, cutting off what follows."""
        for kind, size in state.sizes.items():
            path = self._paths[kind]
            there = path.stat().st_size if path.exists() else 0
            if there < size:
                raise StartError(f"{path}: expected at least {size} bytes, was {there}")
            if there > size:
                os.truncate(path, size)
                log.warning(
                    "the end of a recording, written without its position in the stream, is cut off", file=str(path)
                )
            self._sizes[kind] = size

    def add(self, kind: str, lines: list[str]) -> None:
        """Keeps lines for the next flush()."""
        if lines:
            self._wait(kind, "".join(lines).encode())
            self.rows[kind] += len(lines)

    def add_to_stream(self, entry: bytes) -> None:
        """Keeps an entry of the recorded stream for the next flush()."""
        self._sizes.setdefault(STREAM_KIND, 0)
        self._wait(STREAM_KIND, entry)

    @property
    def stream_path(self) -> Path:
        """Of the recorded stream, where it is kept."""
        return self._paths[STREAM_KIND]

    def _wait(self, kind: str, data: bytes) -> None:
        self._waiting[kind].append(data)
        self.waiting_bytes += len(data)

    def flush(self, position: Position, trade_number: int, symbols: list[str], gaps: int) -> None:
        """Writes what waits, and then that all up to `position` is written."""
        for kind, pieces in self._waiting.items():
            if pieces:
                self._append(kind, b"".join(pieces))
                pieces.clear()
        self.waiting_bytes = 0
        state = RecordingState(
            self.date, position.epoch, position.sequence, trade_number, dict(self._sizes), symbols, gaps
        )
        write_state(self._folder, state)

    def _append(self, kind: str, data: bytes) -> None:
        path = self._paths[kind]
        if not self._sizes[kind]:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind in HEADERS:
                data = ",".join(HEADERS[kind]).encode() + b"\n" + data
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        member = compressor.compress(data) + compressor.flush()
        with path.open("ab") as file:
            file.write(member)
            file.flush()
            os.fsync(file.fileno())
        self._sizes[kind] += len(member)


def read_state(folder: Path) -> RecordingState | None:
    """The recording under way; None when there is none. Raises StartError when it cannot be read."""
    path = folder / STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=RecordingState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StartError(f"{path}: {reason_of(error)}") from error


def write_state(folder: Path, state: RecordingState) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{STATE}.new"
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, folder / STATE)
