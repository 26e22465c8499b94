"""Ways in which bytes that should be a protobuf message can be wrong."""

import random
import struct

from fastcore.wire import read_fields, write_fields

DOUBLES = (0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf"), 5e-324, 1.7e308, 1e-300)
INTEGERS = (0, 1, 2**31, 2**32 - 1, 2**63, 2**63 - 1, 2**64 - 1, 192, 10**18)


def blind(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, doubled, inserted or overwritten anywhere."""
    if not data:
        return rng.randbytes(rng.randint(1, 20))
    at = rng.randrange(len(data))
    choice = rng.randrange(6)
    if choice == 0:
        return data[:at]
    if choice == 1:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if choice == 2:
        return data[:at] + rng.randbytes(rng.randint(1, 9)) + data[at:]
    if choice == 3:
        end = min(len(data), at + rng.randint(1, 16))
        return data[:at] + data[end:]
    if choice == 4:
        return data[:at] + b"\xff" * rng.randint(1, 11) + data[at + 1 :]
    return data + data[at:]


def structured(data: bytes, rng: random.Random, depth: int = 4) -> bytes:
    """The message with one of its fields changed: left out, twice, of another kind, or itself mutated."""
    try:
        fields = read_fields(data)
    except ValueError:
        return _values(data, rng)
    if not fields or depth == 0:
        return _values(data, rng)
    index = rng.randrange(len(fields))
    number, wire, value = fields[index]
    choice = rng.randrange(10)
    if choice == 0:
        del fields[index]
    elif choice == 1:
        fields.insert(rng.randrange(len(fields) + 1), fields[index])
    elif choice == 2:
        fields[index] = (rng.choice((1, 2, 3, 16, 17, number + 1)), wire, value)
    elif choice == 3:
        fields[index] = (number, 0, rng.choice(INTEGERS))
    elif isinstance(value, bytes):
        inner = structured(value, rng, depth - 1) if rng.random() < 0.6 else _values(value, rng)
        fields[index] = (number, wire, inner)
    else:
        limit = 2**32 if wire == 5 else 2**64
        fields[index] = (number, wire, rng.choice((*INTEGERS, rng.randrange(2**64))) % limit)
    return write_fields(fields)


def _values(data: bytes, rng: random.Random) -> bytes:
    """A column with one element changed, or of another length."""
    if len(data) < 4 or rng.random() < 0.2:
        return blind(data, rng)
    if len(data) % 8 or rng.random() < 0.3:
        at = rng.randrange(len(data) // 4) * 4
        return data[:at] + struct.pack("<I", rng.choice(INTEGERS) % 2**32) + data[at + 4 :]
    at = rng.randrange(len(data) // 8) * 8
    element = rng.choice((struct.pack("<d", rng.choice(DOUBLES)), struct.pack("<Q", rng.choice(INTEGERS))))
    return data[:at] + element + data[at + 8 :]


def mutated(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = (structured if rng.random() < 0.7 else blind)(data, rng)
    return data
