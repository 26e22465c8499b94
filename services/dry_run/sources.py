"""Where a day's events are: a recording of the stream, else a file of trades, else minute bars of a file or stored."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tradeul.v1 import dry_run_pb2

from services.market.flat_files import MINUTE_BARS_KIND, ROOT, TRADES_KIND, file_name, stream_file_beside

RECORDING: Final = dry_run_pb2.DryRunDay.RECORDING
TRADES: Final = dry_run_pb2.DryRunDay.TRADES
MINUTE_BARS_FILE: Final = dry_run_pb2.DryRunDay.MINUTE_BARS_FILE
STORED_MINUTE_BARS: Final = dry_run_pb2.DryRunDay.STORED_MINUTE_BARS


class DayFound(NamedTuple):
    """A file with a day's events."""

    source: "dry_run_pb2.DryRunDay.Source.ValueType"
    path: Path


def file_of_day(folder: Path, date: datetime.date) -> DayFound | None:
    """The file that tells most of a day; None without one."""
    if (stream := stream_file_beside(folder / file_name(TRADES_KIND, date))).is_file():
        return DayFound(RECORDING, stream)
    for source, kind in ((TRADES, TRADES_KIND), (MINUTE_BARS_FILE, MINUTE_BARS_KIND)):
        for path in _places(folder, file_name(kind, date)):
            if path.is_file():
                return DayFound(source, path)
    return None


def _places(folder: Path, name: str) -> Iterator[Path]:
    """The paths that a day's file may have: a folder may begin below the vendor's root, and a file may be plain."""
    for each in (name, name.removeprefix(f"{ROOT}/")):
        yield folder / each
        yield folder / each.removesuffix(".gz")
