"""The messages from and to clients, as docs/websocket.md defines them.

Requests are checked here. What is sent is JSON as WebSocket frames, ready to be written to any number of clients, and
made of JSON parts that were encoded before, so that nothing is encoded twice.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from fastcore.row_json import instant_json
from services.kit.lists.field_selection import selected_fields
from services.kit.lists.list_json import ending, text_json
from services.kit.rpc.pacing import MAX_INTERVAL_MS
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.websocket_server.deflate import LEAST_BYTES, deflated
from services.websocket_server.sources import ScanText, Source, source_of_scan

# --- requests

ACTIONS: Final = (
    *("subscribe_list", "unsubscribe_list", "subscribe_scan", "unsubscribe_scan"),
    *("subscribe_alerts", "unsubscribe_alerts", "resync", "ping"),
)
# Those about no list or scan.
OF_NO_LIST: Final = ("ping", "subscribe_alerts", "unsubscribe_alerts")
# Characters of a wrong text that its error shows.
SHOWN: Final = 100
# Characters of the name that a client gives a custom scan.
LONGEST_SCAN_NAME: Final = 64

_Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class Subject(NamedTuple):
    """The built-in list of a request, or the custom scan by the client's name for it."""

    name: str
    is_scan: bool = False

    @property
    def key(self) -> str:
        """Names it in messages to clients."""
        return "scan" if self.is_scan else "list"


class RequestError(Exception):
    """A request that cannot be read; `reason` is the counter's label."""

    def __init__(self, reason: str, message: str, subject: Subject | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.subject = subject


class _Raw(msgspec.Struct):
    action: str
    list: str | None = None
    epoch: _Number | None = None
    sequence: _Number | None = None
    scan: str | None = None
    filter: str = ""
    order_by: str = ""
    limit: _Number | None = None
    fields: Sequence[str] = ()
    changed_fields_only: bool = False
    min_interval_ms: _Number = 0
    aggregates: bool = True
    rules: Sequence[str] = ()
    min_quality: float | None = None


class Request(NamedTuple):
    """`subject` is None for a ping and for alerts; `source`: what a subscription is to.

    `position`: the one that the client has.
    """

    action: str
    subject: Subject | None = None
    position: Position | None = None
    source: Source | None = None
    wants_aggregates: bool = True
    min_interval_ms: int = 0
    # Of a subscription to alerts: names of rules, a filter, the least quality.
    rules: str = ""
    filter: str = ""
    min_quality: float | None = None


_decoder: Final = msgspec.json.Decoder(_Raw)


def parse(message: bytes, lists: Collection[str]) -> Request:
    """Reads a request about one of `lists`; raises RequestError."""
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
    if raw.action in OF_NO_LIST:
        position = _position(raw, None)
        return Request(
            raw.action, None, position, rules=",".join(raw.rules), filter=raw.filter, min_quality=raw.min_quality
        )
    subject = _subject(raw, lists)
    source = _source(raw, subject) if raw.action.startswith("subscribe") else None
    if raw.min_interval_ms > MAX_INTERVAL_MS:
        expected = f"expected a min_interval_ms of 0 to {MAX_INTERVAL_MS}, was {raw.min_interval_ms}"
        raise RequestError("invalid_interval", expected, subject)
    return Request(raw.action, subject, _position(raw, subject), source, raw.aggregates, raw.min_interval_ms)


def _subject(raw: _Raw, lists: Collection[str]) -> Subject:
    """Returns the list or the scan that a request names; raises RequestError."""
    if raw.action.endswith("_scan") or (raw.action == "resync" and raw.scan is not None):
        name = raw.scan
        if name is None:
            raise RequestError("scan_missing", f"expected a scan to {raw.action}, was none")
        subject = Subject(name[:SHOWN], is_scan=True)
        if not 1 <= len(name) <= LONGEST_SCAN_NAME or name in lists:
            raise RequestError(
                "invalid_scan_name",
                f"expected a name of 1 to {LONGEST_SCAN_NAME} characters that no list has, was {name[:SHOWN]!r}",
                subject,
            )
        return subject
    name = raw.list
    if name is None:
        raise RequestError("list_missing", f"expected a list to {raw.action}, was none")
    if name not in lists:
        hint = nearest_hint(nearest_name(name[:SHOWN], lists))
        raise RequestError("unknown_list", f"there is no list {name[:SHOWN]!r}{hint}", Subject(name[:SHOWN]))
    return Subject(name)


def _source(raw: _Raw, subject: Subject) -> Source:
    try:
        selection = selected_fields(",".join(raw.fields))
    except ServiceError as error:
        raise RequestError("invalid_fields", error.message, subject) from error
    if subject.is_scan:
        return source_of_scan(ScanText(raw.filter, raw.order_by, raw.limit), selection, raw.changed_fields_only)
    return Source(subject.name, None, selection, changed_fields_only=raw.changed_fields_only)


def _position(raw: _Raw, subject: Subject | None) -> Position | None:
    if (raw.epoch is None) != (raw.sequence is None):
        raise RequestError("invalid_position", "expected epoch and sequence or neither, was one of them", subject)
    if subject is not None and subject.is_scan:
        return None
    return Position(raw.epoch, raw.sequence) if raw.epoch and raw.sequence is not None else None


# --- messages of the server

TEXT_FRAME: Final = 0x81
# The bit of a frame with a compressed message (RFC 7692).
DEFLATED: Final = 0x40
_SMALL: Final = 126
_MEDIUM: Final = 1 << 16

PONG: Final = b'{"type":"pong"}'
_LIST: Final = b',"list":'


def frame(*parts: bytes, first: int = TEXT_FRAME) -> bytes:
    """One whole text frame of RFC 6455 with this payload, unmasked, as servers send it."""
    size = sum(map(len, parts))
    if size < _SMALL:
        head = bytes((first, size))
    elif size < _MEDIUM:
        head = bytes((first, 126)) + size.to_bytes(2)
    else:
        head = bytes((first, 127)) + size.to_bytes(8)
    return b"".join((head, *parts))


def deflated_frame(message: bytes) -> bytes:
    """The frame of the same message compressed; the same frame where that is no shorter."""
    if len(message) < LEAST_BYTES:
        return message
    compressed = frame(deflated(message[_payload_at(message) :]), first=TEXT_FRAME | DEFLATED)
    return compressed if len(compressed) < len(message) else message


def _payload_at(message: bytes) -> int:
    return {126: 4, 127: 10}.get(message[1], 2)


def connected(connection_id: str, lists: Sequence[str], now_ns: int) -> bytes:
    """The first message; `lists` are those that can be subscribed to."""
    return frame(
        b'{"type":"connected","connection_id":',
        text_json(connection_id),
        b',"lists":',
        msgspec.json.encode(lists),
        b',"timestamp":',
        instant_json(now_ns),
        b"}",
    )


def renamed(message: bytes, list_json: bytes, other: bytes) -> bytes:
    """The frame of a list's snapshot or delta under another name of the list; both names are JSON."""
    begin = _payload_at(message)
    name = message.index(_LIST, begin) + len(_LIST)
    return frame(message[begin:name], other, message[name + len(list_json) :])


def subscribed(list_json: bytes) -> bytes:
    return frame(b'{"type":"subscribed_list","list":', list_json, b"}")


def subscribed_scan(name_json: bytes) -> bytes:
    return frame(b'{"type":"subscribed_scan","scan":', name_json, b"}")


def error(
    message: str, subject: Subject | None = None, reason: str = "", metadata: Mapping[str, str] | None = None
) -> bytes:
    """`reason`, `metadata`: those of the catalogue of errors, where it is one of them."""
    content: dict[str, object] = {"type": "error", "message": message}
    if subject is not None:
        content[subject.key] = subject.name
    if reason:
        content |= {"reason": reason, "metadata": metadata or {}}
    return frame(msgspec.json.encode(content))


def alerts_error(message: str, reason: str, metadata: Mapping[str, str]) -> bytes:
    """Why the scanner refuses a subscription to alerts."""
    content = {"type": "error", "message": message, "alerts": True, "reason": reason, "metadata": metadata}
    return frame(msgspec.json.encode(content))


def alerts_reset(position: Position, reason: str) -> bytes:
    """Alerts up to `position` are lost; what follows comes after it."""
    content = {"type": "alerts_reset", "epoch": position.epoch, "sequence": position.sequence, "reason": reason}
    return frame(msgspec.json.encode(content))


def alerts_current(position: Position) -> bytes:
    """All alerts up to `position` that were subscribed to have been sent."""
    return frame(b'{"type":"alerts_current","epoch":%d,"sequence":%d}' % position)


def pong() -> bytes:
    return frame(PONG)


def aggregate(symbol: bytes, data: bytes, timestamp: bytes) -> bytes:
    """`data`: the bar as a JSON object."""
    return frame(b'{"type":"aggregate","symbol":%b,"data":%b' % (symbol, data), ending(timestamp))
