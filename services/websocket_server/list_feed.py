"""One list as its clients get it: its rows now, and its newest changes, each encoded and framed once.

Pure: takes the scanner's messages as bytes, returns WebSocket frames.
"""

from collections.abc import KeysView, Mapping
from typing import Any, Final

from services.kit.lists.field_selection import FieldSelection
from services.kit.lists.kept_rows import KeptRows, ListHole, ListRows, PatchedRows
from services.kit.rpc.ring import Position, Ring
from services.websocket_server.client_messages import deflated_frame, frame, renamed

MAX_HELD: Final = 2048
MAX_HELD_BYTES: Final = 4 * 1024 * 1024


class ListFeed:
    """A list from its first snapshot on.

    The ring holds framed delta messages by the list's own sequence. When the list
    is replaced, or makes several steps in one, `generation` grows and the ring
    starts again. `selection`: the fields of its rows that are shown; None for all. `changed_fields_only`: the scanner's
    updates have no more than these.
    Frames carry the list's name, or the one (as JSON) that a client gave it.
    """

    def __init__(
        self,
        name: str,
        max_held: int = MAX_HELD,
        max_held_bytes: int = MAX_HELD_BYTES,
        selection: FieldSelection | None = None,
        *,
        changed_fields_only: bool = False,
    ) -> None:
        self.name = name
        self.generation = 0
        self._selection = selection
        self._list: KeptRows[Any] = (
            PatchedRows(name) if changed_fields_only else ListRows(name, skips_equal=selection is not None)
        )
        self.name_json = self._list.name_json
        self._max_held = max_held
        self._max_held_bytes = max_held_bytes
        self._ring = Ring(0, max_held, max_held_bytes)
        self._snapshot: bytes | None = None
        # Compressed, once somebody has wanted them so: changes of the ring by their sequence, and the snapshot.
        self._deflated: dict[int, bytes] = {}
        self._deflated_snapshot: bytes | None = None

    @property
    def is_loaded(self) -> bool:
        """True while there is a snapshot that can be trusted."""
        return self._list.is_loaded

    @property
    def position(self) -> Position:
        """Of the newest change; meaningful once it is loaded."""
        return self._ring.position

    @property
    def oldest(self) -> int:
        """The sequence of the oldest change held; one more than the newest when none is."""
        return self._ring.oldest

    @property
    def has_dropped(self) -> bool:
        """True once older changes had to make room."""
        return self._ring.has_dropped

    @property
    def held_bytes(self) -> int:
        return self._ring.held_bytes

    @property
    def symbols(self) -> KeysView[bytes]:
        """The symbols (as JSON) that are in the list."""
        return self._list.rows.keys()

    @property
    def mean_bytes(self) -> float:
        """Of a change among those held; 0 when none is."""
        ring = self._ring
        return ring.held_bytes / max(1, ring.newest - ring.oldest + 1)

    def load(self, ranked_list: bytes | memoryview) -> bool:
        """Takes the whole list, an encoded RankedList; False if it stands there already. Raises ValueError."""
        if self._selection is not None:
            ranked_list = self._selection.ranked_list(ranked_list)
        if not self._list.load(ranked_list):
            return False
        self._jump()
        return True

    def apply(self, list_delta: bytes | memoryview) -> bool:
        """Takes the next change, an encoded ListDelta; False if clients cannot make it, since it is several in one.

        Raises ListHole when it does not fit, ValueError when it cannot be read; a
        snapshot has to come then.
        """
        before = self.position
        if self._selection is not None:
            list_delta = self._selection.list_delta(list_delta)
        try:
            encoded = self._list.apply(list_delta)
        except ListHole:
            self._drop_snapshot()
            raise
        position = self._list.position
        if position.sequence != before.sequence + 1:
            self._jump()
            return False
        self._drop_snapshot()
        self._ring.append(frame(*self._list.delta(encoded)))
        while self._deflated and (oldest := next(iter(self._deflated))) < self._ring.oldest:
            del self._deflated[oldest]
        return True

    def past_change(self, list_delta: bytes | memoryview) -> bytes:
        """Returns the frame of an encoded ListDelta that is not applied here; raises ValueError for several in one."""
        if self._selection is not None:
            list_delta = self._selection.list_delta(list_delta)
        return frame(*self._list.past_delta(list_delta))

    def prepend(self, after: Position, frames: list[bytes]) -> None:
        """Puts the frames of the changes after `after` before those held; does nothing if they do not end there."""
        ring = self._ring
        if (ring.epoch, ring.oldest) != (after.epoch, after.sequence + len(frames) + 1):
            return
        longer = Ring(ring.epoch, self._max_held, self._max_held_bytes, after.sequence)
        for each in (*frames, *(ring.get(sequence) for sequence in range(ring.oldest, ring.newest + 1))):
            longer.append(each)
        self._ring = longer

    def forget(self) -> None:
        """Drops the list, which can no longer be trusted or is not wanted: the next response must be a snapshot."""
        self._list.forget()
        self._drop_snapshot()

    def snapshot(self, name_json: bytes | None = None, *, deflates: bool = False) -> bytes:
        """The whole list as a framed message; made at most once per change and form, but for other names."""
        if self._snapshot is None:
            self._snapshot = frame(*self._list.snapshot())
        if not deflates:
            return self._named(self._snapshot, name_json)
        if self._is_other(name_json):
            return deflated_frame(self._named(self._snapshot, name_json))
        if self._deflated_snapshot is None:
            self._deflated_snapshot = deflated_frame(self._snapshot)
        return self._deflated_snapshot

    def holds_after(self, sequence: int) -> bool:
        """True if every change after `sequence` is held."""
        return self._ring.oldest <= sequence + 1 <= self._ring.newest + 1

    def bytes_after(self, sequence: int) -> int:
        """Bytes of all changes after `sequence`, which must be held."""
        newest = self._ring.newest
        return self._ring.span_bytes(sequence + 1, newest) if sequence < newest else 0

    def changes_after(self, sequence: int, name_json: bytes | None = None, *, deflates: bool = False) -> bytes:
        """The frames of all changes after `sequence`, which must be held."""
        make = self._deflated_change if deflates else self._change
        return b"".join([make(each, name_json) for each in range(sequence + 1, self._ring.newest + 1)])

    def note_changes(self, *, is_noted: bool) -> None:
        """Keeps from now on what `merged` needs; or no longer."""
        self._list.touch(is_noted=is_noted)

    @property
    def ranks(self) -> dict[bytes, int]:
        """By symbol (as JSON), a copy."""
        return self._list.ranks

    def merged(
        self, sequence: int, ranks: Mapping[bytes, int], name_json: bytes | None = None, *, deflates: bool = False
    ) -> bytes:
        """The frame of all changes since `sequence`, at which these were the ranks, as one."""
        merged = frame(*self._list.delta(self._list.changes_since(sequence, ranks), sequence))
        merged = self._named(merged, name_json)
        return deflated_frame(merged) if deflates else merged

    def _change(self, sequence: int, name_json: bytes | None) -> bytes:
        return self._named(self._ring.get(sequence), name_json)

    def _deflated_change(self, sequence: int, name_json: bytes | None) -> bytes:
        if self._is_other(name_json):
            return deflated_frame(self._change(sequence, name_json))
        if (change := self._deflated.get(sequence)) is None:
            change = self._deflated[sequence] = deflated_frame(self._ring.get(sequence))
        return change

    def _is_other(self, name_json: bytes | None) -> bool:
        return name_json is not None and name_json != self.name_json

    def _named(self, message: bytes, name_json: bytes | None) -> bytes:
        return renamed(message, self.name_json, name_json) if name_json and self._is_other(name_json) else message

    def _drop_snapshot(self) -> None:
        self._snapshot = self._deflated_snapshot = None

    def _jump(self) -> None:
        position = self._list.position
        self._ring = Ring(position.epoch, self._max_held, self._max_held_bytes, position.sequence)
        self._deflated.clear()
        self._drop_snapshot()
        self.generation += 1
