"""The market that a recording began with: written by the recorder, read by the sequencer of its replay.

    a line of JSON      RecordedMarket
    the rest            the snapshot, in the format of fastcore's Market

compressed together. The state's own first line names its layout: one of another version
of this program cannot be read.
"""

import datetime
import gzip
import os
import zlib
from pathlib import Path
from typing import Final

import msgspec

from fastcore.market import state_of
from fastcore.market_state import MarketState
from services.kit.runtime.errors import StartError

VERSION: Final = 1
# A state of 12,000 symbols is some 70 MB: a second or two of the recorder.
LEVEL: Final = 1


class RecordedMarket(msgspec.Struct, frozen=True):
    """The first line of a market file; the position is the recorded stream's."""

    version: int
    date: datetime.date
    epoch: int
    sequence: int
    # Newest event time in it, ns since 1970 UTC.
    now_ns: int
    symbols: int


def write(path: Path, head: RecordedMarket, state: bytes) -> None:
    """Writes the file by one rename: it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=LEVEL, mtime=0) as packed:
            packed.write(msgspec.json.encode(head) + b"\n")
            packed.write(state)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def read(path: Path, date: datetime.date) -> tuple[RecordedMarket, MarketState]:
    """The market of that day; raises StartError, in one line, when it is not readable or of another version."""
    try:
        with gzip.open(path) as file:
            head = msgspec.json.decode(file.readline(), type=RecordedMarket)
            if head.version != VERSION:
                raise ValueError(f"expected version {VERSION}, was {head.version}")
            if head.date != date:
                raise ValueError(f"expected the market of {date}, was of {head.date}")
            state = state_of(file.read())
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise StartError(f"{path}: the market that the recording began with cannot be read: {error}") from error
    if state.trading_date != str(date):
        raise StartError(f"{path}: expected the market of {date}, was of {state.trading_date or 'no day'}")
    return head, state
