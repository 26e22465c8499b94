"""Frames of the stream: a copy of the market takes or refuses them, whatever their batches' sizes, and can be restored.

The frames of an input follow on an opening that all have; their positions are given here.
"""

from collections.abc import Iterator
from functools import cache

from google.protobuf.message import DecodeError
from tradeul.v1 import frame_pb2, stream_pb2

from fastcore.market import Market
from fastcore.wire import wrap
from services.kit.lists.definitions import ListSpec
from tests.robustness.fuzz.readers import read_everything
from tests.robustness.fuzz.target import Target, joined, mutated_parts, parts_of
from tests.support.alert_frames import RULES, numbered
from tests.support.market_stream import EPOCH, MarketStream

LISTS = (
    ListSpec("all", "", "", "volume_today desc, price asc", "", "", True, 1000, 1000),
    ListSpec("sticky", "", "change_percent >= 1", "chg_1m desc", "change_percent >= 0.5", "has(price)", False, 2, 10),
)
SYMBOLS = 3
BATCHES = ("trades", "bars", "quotes", "limits", "vendor_snapshot")


@cache
def opening() -> tuple[bytes, int]:
    """The market that all begin with, and its sequence."""
    market = Market(LISTS, EPOCH)
    frames = stream(1)[:40]
    for frame in frames:
        market.apply(frame)
    return market.to_bytes(), len(frames)


def stream(seed: int, batch_size: int = 4) -> list[bytes]:
    made = MarketStream(seed, length=120, symbols=SYMBOLS, two_days=seed % 2 == 0)
    return numbered(made.frames(batch_size), {0: RULES[:6]})


def run(data: bytes) -> None:
    whole, sequence = opening()
    market, halves = (Market.from_bytes(LISTS, whole) for _ in range(2))
    taken, is_whole = take(market, data)
    for body in taken:
        for half in halved(body):
            sequence += 1
            # What the whole batch may, its halves may.
            halves.apply(positioned(half, sequence))
    if is_whole:
        assert market.hash() == halves.hash()
    read_everything(market)
    copy = Market.from_bytes(LISTS, market.to_bytes())
    assert copy.to_bytes() == market.to_bytes()
    assert copy.hash() == market.hash()


def alone(data: bytes) -> None:
    market = Market.from_bytes(LISTS, opening()[0])
    take(market, data)
    market.refresh()


def take(market: Market, data: bytes) -> tuple[list[bytes], bool]:
    """Applies an input's bodies after the opening; returns those before the first one refused, and if these are all."""
    taken: list[bytes] = []
    for body in parts_of(data):
        try:
            market.apply(positioned(body, market.sequence + 1))
        except ValueError:
            return taken, False
        taken.append(body)
    return taken, True


def positioned(body: bytes, sequence: int) -> bytes:
    """The frame with this body."""
    position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=sequence)
    return wrap(1, position.SerializeToString()) + body


def halved(body: bytes) -> list[bytes]:
    """The frame's batch as two; the frame as it is when it is none, or not quite one."""
    try:
        frame = frame_pb2.Frame.FromString(body)
    except DecodeError:
        return [body]
    kind = frame.WhichOneof("body")
    if kind not in BATCHES or len(list(parts_of(body))) != 1:
        return [body]
    columns = [(field.name, value) for field, value in getattr(frame, kind).ListFields() if field.is_repeated]
    rows = len(getattr(frame, kind).symbol_id)
    if rows < 2 or any(len(column) != rows for _, column in columns):
        return [body]
    halves = []
    for rows_of in (slice(0, rows // 2), slice(rows // 2, rows)):
        half = frame_pb2.Frame.FromString(body)
        for name, column in columns:
            values = list(column)[rows_of]
            getattr(half, kind).ClearField(name)
            getattr(getattr(half, kind), name).extend(values)
        halves.append(half.SerializeToString())
    return halves


def seeds() -> Iterator[bytes]:
    for seed in (1, 2, 3):
        bodies = []
        for frame in stream(seed):
            message = frame_pb2.Frame.FromString(frame)
            message.ClearField("position")
            bodies.append(message.SerializeToString())
        if seed == 1:
            bodies = bodies[40:]
        for i in range(0, len(bodies), 5):
            yield joined(body for body in bodies[i : i + 5] if len(body) < 1500)


TARGET = Target(run, seeds, longest=3000, mutate=mutated_parts, alone=alone)
