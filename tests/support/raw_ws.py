"""A WebSocket client that does what well-kept clients refuse to: broken frames, silence, not reading."""

import asyncio
import base64
import contextlib
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Final

from tests.support.ws_client import PATH, TIMEOUT

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

# Of a frame's first byte: set in the first frame of a compressed message.
RSV1_BIT: Final = 0x40

MASK: Final = b"\x12\x34\x56\x78"


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, mask_bit | len(payload)))
    elif len(payload) < 1 << 16:
        head = bytes((first, mask_bit | 126)) + len(payload).to_bytes(2)
    else:
        head = bytes((first, mask_bit | 127)) + len(payload).to_bytes(8)
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


def inflated(payload: bytes) -> bytes:
    """The text of a message that was compressed by itself."""
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


class RawClient:
    """Bytes out, frames in; reads only when asked to, so that the kernel's buffers fill up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def upgrade(
        self,
        *,
        path: str = PATH,
        host: str = "test",
        connection: str = "keep-alive, Upgrade",
        extensions: str = "",
    ) -> bytes:
        """Sends the handshake's request; returns the answer's head."""
        key = base64.b64encode(bytes(16)).decode()
        self.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{f'Sec-WebSocket-Extensions: {extensions}' if extensions else 'X-None: 1'}\r\n\r\n".encode()
        )
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readuntil(b"\r\n\r\n")

    def send(self, opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv: int = 0) -> None:
        self.writer.write(client_frame(opcode, payload, fin=fin, masked=masked, rsv=rsv))

    async def read(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Raises IncompleteReadError at the end."""
        first, payload = await self.read_first()
        return first & 0x0F, payload

    async def read_first(self) -> tuple[int, bytes]:
        """The next frame: its first byte, with the bits of extensions, and payload."""
        async with asyncio.timeout(TIMEOUT):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return first, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Reads until the server closes; the code it gives."""
        while True:
            opcode, payload = await self.read()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2])

    async def ended(self) -> None:
        """Reads until the connection ends."""
        async with asyncio.timeout(TIMEOUT):
            with contextlib.suppress(ConnectionResetError):
                while await self.reader.read(65_536):
                    pass


@contextlib.asynccontextmanager
async def raw_client(port: int, *, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
