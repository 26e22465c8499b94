"""Counter-based randomness: the same key gives the same bits, in any order and any number.

`mix` is the finaliser of splitmix64 (Steele, Lea and Flood 2014).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]
F4 = npt.NDArray[np.float32]
I4 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint64]
B1 = npt.NDArray[np.bool_]

MASK: Final = (1 << 64) - 1
STRIDE: Final = 0x9E3779B97F4A7C15


def mix(values: U8) -> U8:
    """64 well-mixed bits of each element."""
    x = values ^ (values >> np.uint64(30))
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def mix_one(value: int) -> int:
    """`mix` of one number."""
    x = value & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def key(*parts: int) -> int:
    """One 64-bit key of several numbers; their order matters."""
    value = 0
    for part in parts:
        value = mix_one(value + STRIDE + part)
    return value


def spread(base: int, numbers: npt.NDArray[np.int64]) -> U8:
    """The bits of each number under one key."""
    return mix(np.uint64(base) + numbers.astype(np.uint64) * np.uint64(STRIDE))


def unit(bits: U8, shift: int = 0) -> F8:
    """Numbers in [0, 1) of 24 of the bits."""
    return ((bits >> np.uint64(shift)) & np.uint64(0xFFFFFF)).astype(np.float64) / 16_777_216.0


def generator(*parts: int) -> np.random.Generator:
    """A generator of its own for the key."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


class Rekeyed:
    """The generators of many keys, one after the other: a new one would take as long as some hundred draws."""

    def __init__(self) -> None:
        self._rng = generator(0)
        self._fresh: dict[str, Any] = dict(self._rng.bit_generator.state)

    def of(self, *parts: int) -> np.random.Generator:
        """The generator of a key as `generator` makes it, until the next call."""
        self._fresh["state"]["key"][0] = key(*parts)
        self._rng.bit_generator.state = self._fresh
        return self._rng
