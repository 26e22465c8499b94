"""JSON of many rows of numbers at once: columns of digits from tables, without an object for each row or value."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.simulator.hashing import F8, I8

# Of int64, float64 or bytes (`S`).
Column = npt.NDArray[Any]
Pieces = list[bytes | Column]

# Digits are written four at a time, each four a number of 4 bytes. Bytes of zero fill what is shorter, and are taken
# out at the end.
GROUP: Final = 10_000


def _table(texts: list[str]) -> npt.NDArray[np.uint32]:
    return np.array([text.encode() for text in texts], dtype="S4").view("<u4")


# All digits; without leading zeros; of these 0 as nothing; decimals without zeros at the end.
FULL: Final = _table([f"{n:04d}" for n in range(GROUP)])
PLAIN: Final = _table([str(n) for n in range(GROUP)])
LEADING: Final = _table(["", *(str(n) for n in range(1, GROUP))])
DECIMALS: Final = _table([f"{n:04d}".rstrip("0") or "0" for n in range(GROUP)])


def json_rows(columns: Mapping[str, Column]) -> bytes:
    """The rows of parallel columns, one row and more, as an array of objects, as msgspec writes them.

    Floats have at most four decimals; no number is negative, or so large that JSON would write an exponent. Texts
    (`S`) are printable ASCII without quotes and backslashes.
    """
    pieces: Pieces = []
    before = b",{"
    for name, column in columns.items():
        pieces.append(before + f'"{name}":'.encode())
        if column.dtype.kind == "S":
            pieces += [b'"', column, b'"']
        elif column.dtype.kind == "f":
            pieces += _decimal(column)
        else:
            pieces += _whole(column)
        before = b","
    pieces.append(b"}")
    text = _joined(pieces)
    # In the place of the first row's comma, and after the last row.
    text[0], text[-1] = b"[]"
    return text.tobytes().translate(None, b"\0")


def _decimal(numbers: F8) -> Pieces:
    """Floats, of which msgspec writes the shortest text that is read as the same number."""
    scaled = np.rint(numbers * float(GROUP)).astype(np.int64)
    whole = scaled // GROUP
    return [*_whole(whole), b".", DECIMALS.take(scaled - whole * GROUP)]


def _whole(numbers: I8) -> Pieces:
    """The groups of digits of whole numbers, the highest first."""
    groups: Pieces = []
    while numbers.max() >= GROUP:
        high = numbers // GROUP
        low = numbers - high * GROUP
        groups.append(np.where(high > 0, FULL.take(low), (LEADING if groups else PLAIN).take(low)))
        numbers = high
    groups.append((LEADING if groups else PLAIN).take(numbers))
    groups.reverse()
    return groups


def _joined(pieces: Pieces) -> npt.NDArray[np.uint8]:
    """The rows of columns and constant texts, one after the other, each column as wide as its type, and one byte."""
    template = b""
    offsets, arrays = [], []
    for piece in pieces:
        if isinstance(piece, bytes):
            template += piece
        else:
            offsets.append(len(template))
            arrays.append(piece)
            template += bytes(piece.dtype.itemsize)
    names = [str(place) for place in range(len(arrays))]
    formats = [array.dtype for array in arrays]
    layout = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": len(template)})
    text = np.empty(len(arrays[0]) * len(template) + 1, dtype=np.uint8)
    text[:-1].reshape(-1, len(template))[:] = np.frombuffer(template, dtype=np.uint8)
    rows = text[:-1].view(layout)
    for name, array in zip(names, arrays, strict=True):
        rows[name] = array
    return text
