"""A day's events in the order in which they are to be fed: one file per column, used where they are.

    manifest.json            what it is, written last
    <column>.bin             little-endian elements, one per event

Being mapped and not read, a day of any size costs little memory, and a reader
can begin anywhere.
"""

import datetime
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.replay.flat_file import MINUTE_BARS, TRADES, Kind

MANIFEST: Final = "manifest.json"
# Of this code: a directory of another version is rebuilt.
VERSION: Final = 2

# In the order of the fields of TradeBatch and BarBatch; `arrival_ns` is when the event is fed.
COLUMNS: Final[Mapping[Kind, Mapping[str, str]]] = {
    TRADES: {
        "arrival_ns": "<i8",
        "symbol_id": "<u4",
        "time_ns": "<i8",
        "price": "<f8",
        "size": "<f8",
        "conditions": "<u8",
        "trade_key": "<u8",
    },
    MINUTE_BARS: {
        "arrival_ns": "<i8",
        "symbol_id": "<u4",
        "start_ns": "<i8",
        "end_ns": "<i8",
        "open": "<f8",
        "high": "<f8",
        "low": "<f8",
        "close": "<f8",
        "volume": "<f8",
        "accumulated_volume": "<f8",
        "day_vwap": "<f8",
        "official_open": "<f8",
        "vwap": "<f8",
        "average_size": "<f8",
    },
}


class Manifest(msgspec.Struct, frozen=True):
    """Describes a prepared day.

    `symbols`: element i has id i. `set_aside`: rows of the source that were not
    taken, by reason; `examples`: the first of them, as "file:line: what is wrong".
    """

    version: int
    source: str
    kind: Kind
    date: datetime.date
    rows: int
    in_order_of_arrival: bool
    symbols: list[str]
    set_aside: dict[str, int]
    examples: list[str]


class DayFile:
    """A prepared day; raises StartError when `directory` does not hold one."""

    def __init__(self, directory: Path) -> None:
        self.manifest = read_manifest(directory)
        self.columns: dict[str, NDArray[Any]] = {}
        for name, kind in COLUMNS[self.manifest.kind].items():
            # An empty file cannot be mapped. A plain array is cheaper to cut than what maps it.
            mapped = np.memmap(directory / f"{name}.bin", dtype=kind, mode="r") if self.manifest.rows else None
            self.columns[name] = np.empty(0, kind) if mapped is None else mapped.view(np.ndarray)
        if wrong := [name for name, values in self.columns.items() if len(values) != self.manifest.rows]:
            raise StartError(f"{directory}: expected {self.manifest.rows} elements of {', '.join(wrong)}")

    @property
    def arrival_ns(self) -> NDArray[np.int64]:
        """When each event is fed, ascending."""
        return self.columns["arrival_ns"]

    @property
    def epoch(self) -> int:
        """Names the numbering of its batches: the same day has the same, another day another one."""
        manifest = self.manifest
        text = f"{manifest.version} {manifest.source} {manifest.date} {manifest.rows} {len(manifest.symbols)}"
        last = int(self.arrival_ns[-1]) if manifest.rows else 0
        return _checksum(f"{text} {last}".encode())


def read_manifest(directory: Path) -> Manifest:
    """Raises StartError when there is none of this version."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise StartError(f"{directory}: no prepared day: {reason_of(error)}") from error
    if manifest.version != VERSION:
        raise StartError(f"{directory}: expected version {VERSION}, was {manifest.version}")
    return manifest


def _checksum(data: bytes) -> int:
    """31 bits, never 0: an epoch is a number from 1 on."""
    return zlib.crc32(data) & 0x7FFFFFFF or 1
