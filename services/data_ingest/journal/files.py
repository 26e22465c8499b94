"""The journal's files: their names, their records, and who may write them."""

import fcntl
import functools
import os
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Final, Literal, NamedTuple

from tradeul.v1 import journal_pb2

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import StartError

VERSION: Final = 2
KINDS: Final = ("state", "frames", "baselines")
Kind = Literal["state", "frames", "baselines"]
# Before each record: its length and its CRC-32.
_PREFIX: Final = Struct("<II")
# What is written at once of a large record.
PIECE_BYTES: Final = 1 << 18
# Yields the pieces, with or without pauses.
Pace = Callable[[Iterable[memoryview]], Iterable[memoryview]]
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Damaged(ValueError):
    """The bytes that follow in the journal are not those that were written."""


class JournalFile(NamedTuple):
    """A file by its name: what it holds from `position` on."""

    position: Position
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.position.epoch:010d}-{self.position.sequence:010d}.{self.kind}"


class JournalDirectory:
    """Held by one process at a time, until close(); raises StartError when another one holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = (path / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StartError(f"another data_ingest writes its journal to {path.resolve()}") from error

    def close(self) -> None:
        self._lock.close()

    def path_of(self, file: JournalFile) -> Path:
        return self.path / file.name

    def files(self, kind: Kind) -> list[JournalFile]:
        """All of a kind, the oldest first."""
        found = []
        for path in self.path.glob(f"*.{kind}"):
            epoch, _, sequence = path.stem.partition("-")
            if epoch.isdecimal() and sequence.isdecimal():
                found.append(JournalFile(Position(int(epoch), int(sequence)), kind))
        return sorted(found)

    def others(self, keep: Container[JournalFile] = ()) -> list[Path]:
        """All files but those to keep, states first: without one nobody continues from the others."""
        names = [self.path_of(file) for kind in KINDS for file in self.files(kind) if file not in keep]
        return [*names, *self.path.glob("*.new")]


def remove(paths: Iterable[Path]) -> None:
    """Removes them in this order, as far as they are there. For a large file that takes tens of milliseconds."""
    for path in paths:
        path.unlink(missing_ok=True)


def begin_with(directory: JournalDirectory, position: Position, messages: Sequence[bytes]) -> JournalFile:
    """Removes what is there, and writes the messages of the frames up to `position`, which another process had.

    Returns the file of them: who has the state at `position` goes on from there. Raises OSError.
    """
    remove(directory.others())
    file = JournalFile(Position(position.epoch, position.sequence - len(messages)), "frames")
    with directory.path_of(file).open("wb", buffering=0) as target:
        write_record(target.fileno(), [head(file.position).SerializeToString()])
        write_record(target.fileno(), [b"".join(messages)])
    return file


@functools.cache
def boot_id() -> str:
    """Names this start of the machine; empty where the system has no such name.

    Read once: a process that is out of files would seem to have none.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def head(position: Position) -> journal_pb2.JournalHead:
    """Of a file that begins after `position`, written now."""
    return journal_pb2.JournalHead(version=VERSION, position=position.message(), boot_id=boot_id())


def write_record(file: int, parts: Sequence[bytes | memoryview]) -> int:
    """Appends the record that is these parts, by one call; returns its bytes. Raises OSError when it was cut short."""
    size = checksum = 0
    for part in parts:
        size += len(part)
        checksum = zlib.crc32(part, checksum)
    written = os.writev(file, (_PREFIX.pack(size, checksum), *parts))
    if written != _PREFIX.size + size:
        raise OSError(f"expected to write {_PREFIX.size + size} bytes, was {written}")
    return written


def write_large_record(file: int, parts: Sequence[bytes | memoryview], pace: Pace) -> None:
    """Appends the record that is these parts, piece by piece: adds up its checksum, then writes it, both at this pace.

    Raises OSError.
    """
    size = checksum = 0
    pieces = [memoryview(part)[i : i + PIECE_BYTES] for part in parts for i in range(0, len(part), PIECE_BYTES)]
    for piece in pace(pieces):
        size += len(piece)
        checksum = zlib.crc32(piece, checksum)
    for piece in pace([memoryview(_PREFIX.pack(size, checksum)), *pieces]):
        while piece:
            piece = piece[os.write(file, piece) :]


def read_records(data: memoryview) -> Iterator[memoryview]:
    """The records, up to the last if that is incomplete: its writer was ended while it wrote, and nobody has read it.

    Raises Damaged for a complete one that is not what was written.
    """
    offset = 0
    while offset + _PREFIX.size <= len(data):
        size, checksum = _PREFIX.unpack_from(data, offset)
        offset += _PREFIX.size
        record = data[offset : offset + size]
        if len(record) < size:
            return
        if zlib.crc32(record) != checksum:
            raise Damaged(f"record at byte {offset - _PREFIX.size}: expected CRC-32 {checksum:08x}, was another")
        yield record
        offset += size
