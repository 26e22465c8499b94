"""A client's messages, put together from its frames."""

from picows import WSFrame, WSMsgType

from services.websocket_server import metrics
from services.websocket_server.deflate import inflated

# Close codes of RFC 6455.
PROTOCOL_ERROR = 1002
INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009


class BadMessage(Exception):
    """A message that cannot be read; `code` is that with which the connection is to be closed."""

    def __init__(self, code: int, counted_as: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        metrics.rejected(counted_as)


class Incoming:
    """Messages of at most `most_bytes`, which may come compressed if `deflates`."""

    __slots__ = ("_deflates", "_is_deflated", "_most_bytes", "_parts")

    def __init__(self, most_bytes: int, deflates: bool) -> None:
        self._most_bytes = most_bytes
        self._deflates = deflates
        self._parts: bytearray | None = None
        # True if the message under way is compressed, as its first frame says.
        self._is_deflated = False

    def take(self, frame: WSFrame) -> bytes | None:
        """Takes a text or continuation frame; returns the message when it is whole. Raises BadMessage."""
        is_first = frame.msg_type != WSMsgType.CONTINUATION
        if (
            is_first != (self._parts is None)
            or frame.rsv2
            or frame.rsv3
            or (frame.rsv1 and not (is_first and self._deflates))
        ):
            raise BadMessage(PROTOCOL_ERROR, "protocol_error", "expected whole messages without other extensions")
        if is_first:
            self._is_deflated = bool(frame.rsv1)
            if frame.fin:
                return self._read(frame.get_payload_as_bytes())
        parts = self._parts if self._parts is not None else bytearray()
        parts += frame.get_payload_as_memoryview()
        self._parts = None if frame.fin else parts
        self._check(len(parts))
        return self._read(bytes(parts)) if frame.fin else None

    def _read(self, payload: bytes) -> bytes:
        if self._is_deflated:
            try:
                payload = inflated(payload, self._most_bytes)
            except ValueError as error:
                raise BadMessage(INVALID_DATA, "invalid_deflate", str(error)) from error
            self._check(len(payload))
        if not is_utf8(payload):
            raise BadMessage(INVALID_DATA, "invalid_utf8", "expected UTF-8")
        return payload

    def _check(self, size: int) -> None:
        if size > self._most_bytes:
            self._parts = None
            raise BadMessage(
                MESSAGE_TOO_BIG, "message_too_big", f"expected messages of at most {self._most_bytes} bytes"
            )


def is_utf8(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
