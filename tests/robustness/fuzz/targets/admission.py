"""Batches of polygon_ws at the gate in front of the stream: what may enter is the twin's choice, row by row."""

import random
from array import array
from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError, Message
from tradeul.v1 import market_data_pb2

from fastcore.admission import REFUSED, UNNAMED, Admission
from fastcore.reference.admission_twin import AdmissionTwin
from tests.robustness.fuzz.target import Target
from tests.support.mutations import structured

HOUR = 3_600_000_000_000
START = 1_773_130_000 * 1_000_000_000
LATEST = START + 2 * HOUR
LATER = ((START + 24 * HOUR, START + 40 * HOUR), (START + 48 * HOUR, START + 64 * HOUR))
IDS = (3, REFUSED, 0, 7, 2, REFUSED, 9, UNNAMED, UNNAMED, UNNAMED, UNNAMED)
CHOICES: tuple[tuple[str, type[Message]], ...] = (
    ("trades", market_data_pb2.TradeBatch),
    ("bars", market_data_pb2.BarBatch),
    ("quotes", market_data_pb2.QuoteBatch),
    ("limits", market_data_pb2.LimitBatch),
)


class Names:
    """Ids of the feed's symbols, given when they are asked for: every third of those without one is refused."""

    def __init__(self) -> None:
        self.ids = array("i", IDS)
        self.asked = 0

    def name(self, feed_id: int) -> int:
        self.asked += 1
        self.ids[feed_id] = REFUSED if self.asked % 3 == 0 else 100 + self.asked
        return self.ids[feed_id]


def run(data: bytes) -> None:
    if not data:
        return
    name, kind = CHOICES[data[0] % len(CHOICES)]
    batch = data[1:]
    names = Names()
    gate = new_gate(names)
    try:
        admitted, count = getattr(gate, f"admit_{name}")(batch, names.ids)
    except ValueError:
        return
    message = kind.FromString(admitted)
    assert count == len(column(message, "symbol_id")) == sum(gate.accepted.values())
    if is_plain(kind, batch):
        twin_names = Names()
        twin = AdmissionTwin(twin_names.name)
        twin.set_bounds(START, START + 16 * HOUR, LATEST)
        twin.set_later_days(LATER)
        expected, twin_count = getattr(twin, f"admit_{name}")(batch, twin_names.ids)
        assert count == twin_count
        assert encoded(message) == encoded(kind.FromString(expected))
        assert {reason: rows for reason, rows in gate.rejected.items() if rows} == dict(twin.rejected)
        assert names.ids == twin_names.ids
        assert gate.later_symbols == twin.later_symbols
        assert gate.newest_ns == twin.newest_ns
    if count:
        admit_again(name, admitted, count)


def alone(data: bytes) -> None:
    if not data:
        return
    name, _ = CHOICES[data[0] % len(CHOICES)]
    names = Names()
    gate = new_gate(names)
    try:
        admitted, count = getattr(gate, f"admit_{name}")(data[1:], names.ids)
    except ValueError:
        return
    assert count == sum(gate.accepted.values())
    if count:
        admit_again(name, admitted, count)


def new_gate(names: Names) -> Admission:
    gate = Admission(max_remembered=1000, name=names.name)
    gate.set_bounds(START, START + 16 * HOUR, LATEST)
    gate.set_later_days(LATER)
    return gate


def admit_again(name: str, admitted: bytes, count: int) -> None:
    """What was admitted is admitted by another gate as it is; raises AssertionError."""
    gate = Admission(max_remembered=1000)
    gate.set_bounds(START, START + 16 * HOUR, LATEST)
    assert getattr(gate, f"admit_{name}")(admitted, array("i", range(200))) == (admitted, count)


def is_plain(kind: type[Message], batch: bytes) -> bool:
    """True for what the generated message understands as the gate does: with whole columns, and nothing unknown."""
    try:
        message = kind.FromString(batch)
    except DecodeError:
        return False
    lengths = {field.name: len(column(message, field.name)) for field in kind.DESCRIPTOR.fields if field.name != "span"}
    if lengths.get("trade_key") == 0:
        del lengths["trade_key"]
    return len(set(lengths.values())) == 1


def column(message: Message, name: str) -> Sequence[object]:
    found: Sequence[object] = getattr(message, name)
    return found


def encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def mutate(data: bytes, rng: random.Random) -> bytes:
    return data[:1] + structured(data[1:], rng)


def seeds() -> Iterator[bytes]:
    ids, times = [0, 2, 7, 8], [START, START + HOUR, START + 1, START + 24 * HOUR]
    prices, sizes = [1.5, 0.0, 12.25, 7.0], [100.0, 1.0, 0.0, 3.0]
    messages = {
        "trades": market_data_pb2.TradeBatch(
            symbol_id=ids, time_ns=times, price=prices, size=sizes, conditions=[0, 1 << 15, 1, 2],
            trade_key=[5, 5, 6, 0],
        ),
        "bars": market_data_pb2.BarBatch(
            span=market_data_pb2.SECOND, symbol_id=ids, start_ns=times, end_ns=[time + 1_000_000_000 for time in times],
            open=[2.0] * 4, high=[3.0] * 4, low=[1.0] * 4, close=prices, volume=sizes, accumulated_volume=sizes,
            day_vwap=prices, official_open=prices, vwap=prices, average_size=sizes,
        ),
        "quotes": market_data_pb2.QuoteBatch(
            symbol_id=ids, time_ns=times, bid=prices, ask=prices, bid_size=sizes, ask_size=sizes
        ),
        "limits": market_data_pb2.LimitBatch(symbol_id=ids, time_ns=times, upper=prices, lower=prices, indicators=ids),
    }  # fmt: skip
    for index, (name, _) in enumerate(CHOICES):
        yield bytes((index,)) + messages[name].SerializeToString()


TARGET = Target(run, seeds, longest=600, mutate=mutate, alone=alone)
