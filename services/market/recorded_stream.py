"""The recorded stream of a day: written by the recorder, read by dry runs.

    kind      1 byte: MARKET or FRAME
    length    4 bytes, little-endian
    the rest  a market's snapshot, in the format of fastcore's Market, or an encoded Frame

one after the other, in pieces of gzip. A MARKET comes first, with the market before the day's first frame, or as it was
when the recording began; a further one where frames are missing.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from services.kit.runtime.errors import StartError

MARKET: Final = 1
FRAME: Final = 2
HEADER: Final = struct.Struct("<BI")


class Entry(NamedTuple):
    """`share`: of the file, how much has been read with it, 0 to 1."""

    kind: int
    content: bytes
    share: float


class BrokenStream(StartError):
    """The file ends within an entry: what came before it is whole."""


def entry(kind: int, content: bytes | memoryview) -> bytes:
    """An entry as it stands in the file."""
    return HEADER.pack(kind, len(content)) + content


def read(path: Path) -> Iterator[Entry]:
    """The entries of a file; raises StartError when it cannot be read, BrokenStream where it breaks off."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
            while head := unpacked.read(HEADER.size):
                kind, length = HEADER.unpack(head) if len(head) == HEADER.size else (0, 0)
                content = unpacked.read(length)
                if not kind or len(content) < length:
                    raise BrokenStream(f"{path}: the recording breaks off")
                yield Entry(kind, content, file.tell() / size)
    except (EOFError, zlib.error) as error:
        raise BrokenStream(f"{path}: the recording breaks off: {error}") from error
    except OSError as error:
        raise StartError(f"{path}: {error.strerror or error}") from error
