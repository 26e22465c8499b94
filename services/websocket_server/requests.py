"""What clients send: each message checked, or a RequestError to answer with."""

import difflib
from collections.abc import Collection
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from services.kit.rpc.ring import Position

Action = Literal["subscribe_list", "unsubscribe_list", "resync", "ping"]
ACTIONS: Final = ("subscribe_list", "unsubscribe_list", "resync", "ping")
# What is shown of a wrong text in its error.
SHOWN: Final = 100

_Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class RequestError(Exception):
    """A message that asks for nothing we know; `reason` is for the counter, `list_name` what it named."""

    def __init__(self, reason: str, message: str, list_name: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.list_name = list_name


class _Raw(msgspec.Struct):
    action: str
    list: str | None = None
    epoch: _Number | None = None
    sequence: _Number | None = None


class Request(NamedTuple):
    """`list_name` is "" for a ping; `position` is what a subscriber says it has."""

    action: str
    list_name: str = ""
    position: Position | None = None


_decoder: Final = msgspec.json.Decoder(_Raw)


def parse(message: bytes, lists: Collection[str]) -> Request:
    """Raises RequestError."""
    try:
        raw = _decoder.decode(message)
    except msgspec.ValidationError as error:
        raise RequestError(
            "invalid_request", f'expected {{"action":...,"list":...,"epoch":...,"sequence":...}}: {error}'
        ) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError("invalid_json", f"expected a JSON object: {error}") from error
    if raw.action not in ACTIONS:
        raise RequestError(
            "unknown_action", f"expected action to be one of {', '.join(ACTIONS)}, was {raw.action[:SHOWN]!r}"
        )
    if raw.action == "ping":
        return Request(raw.action)
    name = raw.list
    if name is None:
        raise RequestError("list_missing", f"expected a list to {raw.action}, was none")
    if name not in lists:
        nearest = difflib.get_close_matches(name[:SHOWN], lists, n=1, cutoff=0.0)
        hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
        raise RequestError("unknown_list", f"there is no list {name[:SHOWN]!r}{hint}", name[:SHOWN])
    if (raw.epoch is None) != (raw.sequence is None):
        raise RequestError("invalid_position", "expected epoch and sequence or neither, was one of them", name)
    position = Position(raw.epoch, raw.sequence) if raw.epoch and raw.sequence is not None else None
    return Request(raw.action, name, position)
