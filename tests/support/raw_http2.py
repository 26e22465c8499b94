"""HTTP/2 frame by frame: a request in pieces, and whatever comes back, resets included."""

import asyncio
from typing import Final, NamedTuple, Self

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
STREAM: Final = 1
PATIENCE_SECONDS: Final = 60.0


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class RawHttp2:
    """One connection with one request; `async with await RawHttp2.connect(host, port)`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._pings = 0

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        connection = cls(*await asyncio.open_connection(host, port))
        connection._writer.write(PREFACE)
        connection._send(SETTINGS, 0, 0, b"")
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def headers(self, **fields: str) -> None:
        """Sends the request's headers, and no end; pseudo headers without their colon, "_" for "-"."""
        self._send(HEADERS, END_HEADERS, STREAM, headers(**fields))

    def data(self, content: bytes) -> None:
        """Sends the body, and the end of the request."""
        self._send(DATA, END_STREAM, STREAM, content)

    async def until_answered(self) -> list[Frame]:
        """Frames of the stream up to the end of the response."""
        frames = [await self._next()]
        while not (frames[-1].kind in (DATA, HEADERS) and frames[-1].flags & END_STREAM):
            frames.append(await self._next())
        return [frame for frame in frames if frame.stream == STREAM]

    async def until_pong(self) -> list[Frame]:
        """Frames of the stream that came before the answer to a ping: what has been sent already."""
        self._pings += 1
        content = self._pings.to_bytes(8, "big")
        self._send(PING, 0, 0, content)
        frames = [await self._next()]
        while not (frames[-1].kind == PING and frames[-1].payload == content):
            frames.append(await self._next())
        return [frame for frame in frames if frame.stream == STREAM]

    async def _next(self) -> Frame:
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self._reader.readexactly(9)
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = await self._reader.readexactly(size)
        if kind == SETTINGS and not flags & ACK:
            self._send(SETTINGS, ACK, 0, b"")
        return Frame(kind, flags, int.from_bytes(head[5:], "big"), payload)

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._writer.write(frame(kind, flags, stream, payload))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers(**fields: str) -> bytes:
    """A block of headers; pseudo headers without their colon, "_" for "-"."""
    pseudo = ("method", "scheme", "path", "authority")
    names = [(f":{name}" if name in pseudo else name.replace("_", "-"), text) for name, text in fields.items()]
    # Each a literal of HPACK, without its tables.
    return b"".join(b"\0" + _text(name) + _text(text) for name, text in names)


def _text(text: str) -> bytes:
    content = text.encode()
    assert len(content) < 127, text
    return bytes((len(content),)) + content
