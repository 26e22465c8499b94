"""A list stream as server-sent events: each change as JSON, made once for all subscribers.

An EventSource reconnects by itself, with the id of the last event as Last-Event-ID; the gateway says after how long.
"""

import contextlib
import functools
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import grpc.aio
from tradeul.v1 import scanner_pb2

from services.kit.lists.list_json import events_body, list_delta_json, message_json, ranked_list_json
from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_POSITION

Context = grpc.aio.ServicerContext[Any, Any]

# The newest events are held for subscribers that are at the same position.
MAX_HELD_BYTES: Final = 16 * 1024 * 1024
LAST_EVENT_ID: Final = "last-event-id"
_ToJson = dict[str, Callable[[str, memoryview], bytes]]
# After these messages the client has applied all changes up to the position that is the event's id.
_CHANGES: Final[_ToJson] = {"snapshot": ranked_list_json, "delta": list_delta_json}
_CHANGED_FIELDS: Final[_ToJson] = {**_CHANGES, "delta": functools.partial(list_delta_json, changed_fields_only=True)}
_POSITION: Final = re.compile(r"([0-9]{1,10})/([0-9]{1,10})")
_MAX: Final = 2**32 - 1


class ListEvents:
    """Encodes messages of list streams as encoded HttpBodies of server-sent events."""

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        # By the encoded message, which all subscribers share and whose hash Python keeps. One that says the same with
        # changed fields only as with complete rows has the same JSON, too.
        self._held: OrderedDict[bytes, bytes] = OrderedDict()
        self._held_bytes = 0

    async def messages(
        self,
        name: str,
        messages: AsyncGenerator[bytes, None],
        position: Callable[[], Position] | None,
        changed_fields_only: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """Yields the messages of a subscription as events; closes them.

        `name` is the list's; `position` returns that of the last message, from which the list can be resumed;
        `changed_fields_only`: that is what its updates have.
        """
        to_json = _CHANGED_FIELDS if changed_fields_only else _CHANGES
        async with contextlib.aclosing(messages):
            async for message in messages:
                kind, payload = LIST.read(message)
                if kind in to_json:
                    make = functools.partial(to_json[kind], name, payload)
                    yield self._change(kind, message, make, position() if position else None)
                else:
                    yield event_body(message_json(scanner_pb2.WatchListResponse.FromString(message)))

    def _change(self, kind: str, message: bytes, make: Callable[[], bytes], position: Position | None) -> bytes:
        event = self._held.get(message)
        if event is None:
            event = event_body(b'{"%b":%b}' % (kind.encode(), make()), position)
            self._held[message] = event
            self._held_bytes += len(message) + len(event)
            while self._held_bytes > self._max_held_bytes:
                oldest, dropped = self._held.popitem(last=False)
                self._held_bytes -= len(oldest) + len(dropped)
        return event


def last_event_position(context: Context) -> Position | None:
    """Returns the position of the last event that the client received; None without one. Raises INVALID_POSITION."""
    text = str(_metadata(context).get(LAST_EVENT_ID, ""))
    if not text:
        return None
    match = _POSITION.fullmatch(text)
    position = Position(int(match[1]), int(match[2])) if match else None
    if position is None or not position.epoch or max(position) > _MAX:
        raise INVALID_POSITION.error(
            f"expected a Last-Event-ID of epoch/sequence, was {text[:100]!r}", field="Last-Event-ID"
        )
    return position


def _metadata(context: Context) -> dict[str, str | bytes]:
    return {key: value for key, value in context.invocation_metadata() or ()}


def event_body(data: bytes, position: Position | None = None) -> bytes:
    """An encoded HttpBody of one event; its id is the position, if there is one."""
    head = b"" if position is None else b"id: %d/%d\n" % position
    return events_body(b"%bdata: %b\n\n" % (head, data))
