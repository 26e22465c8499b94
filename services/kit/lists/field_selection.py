"""The fields of a row that a request selects (`fields=price,rvol`), and list messages with only those.

A row always has its rank and its symbol. Messages are encoded ones, and stay so: what a selection is made of is copied.
"""

import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Final

from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.row_fields import select_list_delta, select_ranked_list, select_row
from services.kit.rpc.envelope import LIST
from services.kit.runtime.errors import INVALID_FIELDS
from services.kit.runtime.nearest import nearest_hint, nearest_name

NAMES: Final = {field.name: field.number for field in TickerRow.DESCRIPTOR.fields}
ALWAYS: Final = ("rank", "symbol")
# All names together have about half as many characters.
MAX_TEXT: Final = 2_000
# The newest selected messages are held for subscribers with the same selection.
MAX_HELD_BYTES: Final = 16 * 1024 * 1024
_SHOWN: Final = 80
_NUMBERS: Final = 128


class FieldSelection:
    """A set of fields of a row. Equal sets are equal, in whatever order they were requested."""

    __slots__ = ("_hash", "_kept", "names")

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names.union(ALWAYS)
        kept = bytearray(_NUMBERS)
        for name in self.names:
            kept[NAMES[name]] = 1
        self._kept = bytes(kept)
        self._hash = hash(self._kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSelection) and self._kept == other._kept

    def __hash__(self) -> int:
        return self._hash

    def ranked_list(self, message: bytes | memoryview) -> bytes:
        """The encoded RankedList with the selected fields of its rows."""
        return select_ranked_list(message, self._kept)

    def list_delta(self, message: bytes | memoryview) -> bytes:
        """The encoded ListDelta with the selected fields of its rows."""
        return select_list_delta(message, self._kept)

    def row(self, message: bytes | memoryview) -> bytes:
        """The encoded TickerRow with the selected fields."""
        return select_row(message, self._kept)


def selected_fields(text: str) -> FieldSelection | None:
    """The selection of comma-separated names; None, for all fields, when `text` is empty.

    Raises INVALID_FIELDS, with the nearest name, for one that no row has.
    """
    if not text:
        return None
    if len(text) > MAX_TEXT:
        raise INVALID_FIELDS.error(f"expected fields of at most {MAX_TEXT} characters, was {len(text)}")
    names = frozenset(name.strip() for name in text.split(","))
    for name in names:
        if name not in NAMES:
            shown = name[:_SHOWN]
            nearest = nearest_name(shown, NAMES) if shown else ""
            raise INVALID_FIELDS.error(
                f"fields: there is no field {shown!r}{nearest_hint(nearest)}", name=shown, nearest=nearest
            )
    return FieldSelection(names)


class SelectedMessages:
    """Messages of list streams with some fields of their rows, made once for all subscribers that select the same."""

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        # By the encoded message, which all subscribers share and whose hash Python keeps.
        self._held: OrderedDict[tuple[bytes, FieldSelection], bytes] = OrderedDict()
        self._held_bytes = 0

    def messages(
        self, messages: AsyncGenerator[bytes, None], selection: FieldSelection | None
    ) -> AsyncGenerator[bytes, None]:
        """The encoded WatchListResponses with the selected fields of their rows; all fields without a selection."""
        return messages if selection is None else self._selected(messages, selection)

    def select(self, message: bytes, selection: FieldSelection) -> bytes:
        """The encoded WatchListResponse with the selected fields of its rows."""
        kind, payload = LIST.read(message)
        if kind not in ("snapshot", "delta"):
            return message
        key = (message, selection)
        selected = self._held.get(key)
        if selected is None:
            make = selection.ranked_list if kind == "snapshot" else selection.list_delta
            selected = self._held[key] = LIST.wrap(kind, make(payload))
            self._held_bytes += len(message) + len(selected)
            while self._held_bytes > self._max_held_bytes:
                (oldest, _), dropped = self._held.popitem(last=False)
                self._held_bytes -= len(oldest) + len(dropped)
        return selected

    async def _selected(
        self, messages: AsyncGenerator[bytes, None], selection: FieldSelection
    ) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield self.select(message, selection)
