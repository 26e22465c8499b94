"""The Redis entries of a list, made of its stream's messages: JSON texts, and the scores of its sorted set. Pure."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from fastcore.filter_ast import Arithmetic, Call, Constant, FieldValue, Negative, Node
from fastcore.filter_types import check_order
from fastcore.row_json import read_list_delta, read_ranked_list
from fastcore.wire import fields
from services.kit.lists.kept_rows import ListRows
from services.kit.rpc.envelope import LIST

STREAM_ENTRIES: Final = 1000
# Entries of long, lively lists are large: streams hold fewer of them.
STREAM_BYTES: Final = 8 * 1024 * 1024
# So many rows take about half a millisecond.
ROWS_AT_ONCE: Final = 100
Arguments = list[bytes | str | int]
_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {"abs": abs, "min": min, "max": max}


def _read_in_parts(
    read: Callable[[bytes], tuple[Any, ...]], message: memoryview
) -> Generator[None, None, tuple[Any, ...]]:
    """Returns what `read` makes of a RankedList or a ListDelta: its values, and at the end the list of its rows."""
    starts = [first for _, first, _, _ in fields(message)]
    bounds = [*starts[::ROWS_AT_ONCE], len(message)]
    values: list[Any] | None = None
    rows: list[Any] = []
    for first, after in itertools.pairwise(bounds):
        # Any fields of a message are a message; what it lacks is 0 or empty.
        *found, more = read(bytes(message[first:after]))
        values = found if values is None else [one or other for one, other in zip(values, found, strict=True)]
        rows += more
        yield None
    return (*(values or ()), rows)


def stream_key(name: str) -> str:
    return f"stream:scanner:{name}"


def keys_of(name: str) -> tuple[str, ...]:
    """Of a list: stream, snapshot, sequence, epoch, sorted set."""
    of_list = f"scanner:list:{name}"
    return stream_key(name), f"{of_list}:snapshot", f"{of_list}:sequence", f"{of_list}:epoch", f"scanner:ranked:{name}"


class ListEntries:
    """Follows one list's stream."""

    def __init__(self, name: str, order_by: str) -> None:
        self.keys = keys_of(name)
        self._rows = ListRows(name)
        self._score = OrderScore(order_by)
        # By symbol: the members that were scored last, and their score. Most rows are as they were at the last write.
        self._scored: dict[bytes, tuple[bytes, float]] = {}
        self._sizes: deque[int] = deque(maxlen=STREAM_ENTRIES)

    def take(self, message: bytes) -> Iterator[Arguments | None]:
        """Yields the arguments of the script that writes a WatchListResponse; nothing when that changes nothing.

        Of a list of 1,000 rows it takes some milliseconds, in parts: after each it yields None, so that others can have
        their turn. Raises ListHole.
        """
        kind, content = LIST.read(message)
        rows = self._rows
        previous: str | int = ""
        changes: list[bytes] | None = None
        if kind == "snapshot":
            rows.load_rows(*(yield from _read_in_parts(read_ranked_list, content)))
        elif kind == "delta":
            previous = rows.position.sequence
            changes = rows.make_changes(*(yield from _read_in_parts(read_list_delta, content)))
        else:
            return
        yield None
        parts: list[bytes] = []
        for part in rows.snapshot_parts(ROWS_AT_ONCE):
            parts.append(part)
            yield None
        snapshot = b"".join(parts)
        yield None
        payload = snapshot if changes is None else b"".join(rows.delta(changes, int(previous)))
        self._sizes.append(len(payload))
        scores = yield from self._scores()
        yield [*rows.position, previous, self._stream_entries(), rows.name, kind, payload, snapshot, scores]

    def _scores(self) -> Generator[None, None, bytes]:
        """Returns each row's score and symbol, as MessagePack of Redis' kind: it knows no bytes, only texts."""
        before, self._scored = self._scored, {}
        found: list[tuple[float, str]] = []
        for symbol, (rank, members) in self._rows.rows.items():
            scored = before.get(symbol)
            if scored is None or scored[0] != members or self._score.is_rank:
                scored = (members, self._score.of(rank, members))
            self._scored[symbol] = scored
            found.append((scored[1], symbol[1:-1].decode()))
            if len(found) % ROWS_AT_ONCE == 0:
                yield None
        return msgspec.msgpack.encode(found)

    def _stream_entries(self) -> int:
        """The number of entries that the stream may keep."""
        mean = sum(self._sizes) / len(self._sizes)
        return max(1, min(STREAM_ENTRIES, int(STREAM_BYTES / mean)))


class OrderScore:
    """A row's first order value as one number; the rank where a list is in the order of symbols or of enums."""

    def __init__(self, order_by: str) -> None:
        keys = check_order(order_by)
        self._key = keys[0] if keys else None
        fields = list(_fields(self._key.value)) if self._key is not None else []
        if any(field.kind not in ("number", "time") for field in fields):
            self._key = None
        names = dict.fromkeys(field.field.name for field in fields)
        # Only these are read of a row; NaN is absent.
        row = msgspec.defstruct("OrderedRow", [(name, float | str, math.nan) for name in names])
        self._decoder = msgspec.json.Decoder(row)

    @property
    def is_rank(self) -> bool:
        """True if a row's score is its rank, whatever its members are."""
        return self._key is None

    def of(self, rank: int, members: bytes) -> float:
        """The score of a row: its JSON members, without braces. An absent value comes last, whatever the direction."""
        if self._key is None:
            return rank
        row = msgspec.structs.asdict(self._decoder.decode(b"{%b}" % members))
        value = _value(self._key.value, row)
        if math.isnan(value):
            return -math.inf if self._key.descending else math.inf
        return value


def _fields(node: Node) -> Iterator[FieldValue]:
    match node:
        case FieldValue():
            yield node
        case Negative(operand, _):
            yield from _fields(operand)
        case Call(_, arguments, _):
            for argument in arguments:
                yield from _fields(argument)
        case Arithmetic(first, rest, _):
            yield from _fields(first)
            for _, operand in rest:
                yield from _fields(operand)


def _value(node: Node, row: Mapping[str, Any]) -> float:
    """NaN when anything that it needs is absent."""
    match node:
        case FieldValue(field, _):
            value = row[field.name]
            return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)
        case Constant(value, _, _):
            return float(value)
        case Negative(operand, _):
            return -_value(operand, row)
        case Call(function, arguments, _):
            values = [_value(argument, row) for argument in arguments]
            # min and max would ignore NaN, depending on its position.
            return math.nan if any(map(math.isnan, values)) else _FUNCTIONS[function](*values)
        case Arithmetic(first, rest, _):
            return _sum(first, rest, row)
    raise TypeError(f"expected a value to order by, was {node!r}")


def _sum(first: Node, rest: tuple[tuple[str, Node], ...], row: Mapping[str, Any]) -> float:
    result = _value(first, row)
    for operator, node in rest:
        operand = _value(node, row)
        if operator == "+":
            result += operand
        elif operator == "-":
            result -= operand
        elif operator == "*":
            result *= operand
        else:
            result = result / operand if operand else math.nan
    return result
