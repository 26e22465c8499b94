"""The journal's files, as a process that was ended may have left them: the market of before, or none.

An input is a message with a field for each file: of the kind that its number says, with its sequence in field 1, its
records in field 2, whose checksums are made here, and in field 3 what follows them.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from struct import Struct
from typing import NamedTuple, cast
from unittest import mock

from tradeul.v1 import frame_pb2, journal_pb2, stream_pb2

from fastcore.market import Market
from fastcore.wire import fields, wrap
from services.data_ingest.journal import JournalDirectory, recover, recovery
from services.data_ingest.journal.files import KINDS, VERSION, JournalFile, Kind
from services.kit.rpc.ring import Position
from tests.robustness.fuzz.readers import read_everything, read_rows
from tests.robustness.fuzz.target import Target
from tests.robustness.fuzz.targets.market import LISTS, stream
from tests.support.market_stream import EPOCH
from tests.support.mutations import structured

BOOT = "boot"
PREFIX = Struct("<II")
SEQUENCE, RECORD, REST = 1, 2, 3
FRAMES = journal_pb2.JournalEntry.DESCRIPTOR.fields_by_name["frames"].number


class File(NamedTuple):
    """What a path is to who reads it."""

    name: str
    content: bytes

    def read_bytes(self) -> bytes:
        return self.content


class Files:
    """A journal's directory that is held in memory."""

    def __init__(self, data: bytes) -> None:
        self.contents: dict[JournalFile, File] = {}
        try:
            for number, _, start, end in fields(data):
                self.add(KINDS[number % len(KINDS)], data[start:end])
        except ValueError:
            return

    def add(self, kind: Kind, data: bytes) -> None:
        sequence, content = 0, b""
        for number, _, start, end in fields(data):
            if number == SEQUENCE:
                sequence = int.from_bytes(data[start : start + 1], "little")
            elif number == RECORD:
                content += PREFIX.pack(end - start, zlib.crc32(data[start:end])) + data[start:end]
            elif number == REST:
                content += data[start:end]
        file = JournalFile(Position(EPOCH, sequence), kind)
        self.contents[file] = File(file.name, content)

    def files(self, kind: Kind) -> list[JournalFile]:
        return sorted(file for file in self.contents if file.kind == kind)

    def path_of(self, file: JournalFile) -> File:
        if file not in self.contents:
            raise FileNotFoundError(file.name)
        return self.contents[file]


def run(data: bytes) -> None:
    with mock.patch.object(recovery, "boot_id", return_value=BOOT), mock.patch.object(recovery.log, "warning"):
        recovered = recover(cast("JournalDirectory", Files(data)), LISTS)
    if recovered is None:
        return
    assert recovered.state is not None
    assert recovered.position.epoch == recovered.state.position.epoch
    assert recovered.position.sequence >= recovered.state.position.sequence
    if recovered.market is not None:
        assert (recovered.market.epoch, recovered.market.sequence) == recovered.position
        assert recovered.market.state is recovered.rows
        read_everything(recovered.market)
    else:
        read_rows(recovered.rows)
        read_everything(Market.of_state(LISTS, EPOCH + 1, recovered.rows))


@cache
def _market_at(length: int) -> Market:
    market = Market(LISTS, EPOCH)
    for frame in stream(1)[:length]:
        market.apply(frame)
    return market


def entry(frames: Sequence[bytes], **others: object) -> bytes:
    """A record of a file of frames."""
    return b"".join(wrap(FRAMES, frame) for frame in frames) + journal_pb2.JournalEntry(**others).SerializeToString()  # type: ignore[arg-type]


def file(kind: Kind, sequence: int, records: Sequence[bytes], rest: bytes = b"") -> bytes:
    parts = [bytes((SEQUENCE << 3, sequence)), *(wrap(RECORD, record) for record in records)]
    return wrap(KINDS.index(kind) + len(KINDS), b"".join(parts) + (wrap(REST, rest) if rest else b""))


def seeds() -> Iterator[bytes]:
    position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=10)
    head = journal_pb2.JournalHead(version=VERSION, position=position, boot_id=BOOT)
    day = next(
        frame for frame in map(frame_pb2.Frame.FromString, stream(1)) if frame.WhichOneof("body") == "trading_day"
    )
    for boot in (BOOT, "another"):
        head.boot_id = boot
        state = journal_pb2.JournalState(
            head=head,
            trading_day=day.trading_day,
            feed=position,
            trade_identities=bytes(16),
            baselines_in=10,
            baselines_after=10,
            market=_market_at(10).to_bytes(False),
        ).SerializeToString()
        frames = [frame for frame in stream(1)[10:20] if len(frame) < 1500]
        entries = [entry(frames[i : i + 2], feed=position, trade_identities=bytes(8)) for i in range(0, len(frames), 2)]
        first = head.SerializeToString()
        yield file("state", 10, [state])
        yield file("state", 10, [state]) + file("frames", 10, [first, *entries], b"\x09\0\0\0rest")
        yield (
            file("frames", 8, [first, entry(stream(1)[8:10])])
            + file("state", 10, [state])
            + file("baselines", 10, [first])
        )


def mutate(data: bytes, rng: random.Random) -> bytes:
    return structured(data, rng, depth=7)


TARGET = Target(run, seeds, longest=30_000, mutate=mutate, python=("services.data_ingest.journal.recovery",))
