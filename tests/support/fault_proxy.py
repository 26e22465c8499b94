"""A TCP proxy that does to connections what networks do: cut, hold, lose, delay, throttle, truncate, reorder them."""

import asyncio
import contextlib
import random
import socket
from types import TracebackType
from typing import Final, Self

from tests.support.first_to_end import first_to_end
from tests.support.vanished import vanish

READ_BYTES: Final = 65_536
SLICES_PER_SECOND: Final = 10


class FaultProxy:
    """`async with FaultProxy(host, port) as proxy`: what connects to `proxy.port` is passed on, until told otherwise.

    Each fault lasts until heal(). Bytes of one connection never change their order; connections may.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self._target = (host, port)
        self._rng = random.Random(f"proxy {seed}")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._vanished: list[socket.socket] = []
        self._refuses = False
        self._truncates = False
        self._delay = 0.0
        self._bytes_per_second = 0.0
        self._longest_wait = 0.0
        # Connections accepted since the start.
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._vanished:
            connection.close()

    def cut(self) -> None:
        """Ends all connections at once, and each new one."""
        self._refuses = True
        self.drop()

    def drop(self) -> None:
        """Ends all connections, once."""
        for writer in list(self._writers):
            writer.transport.abort()

    def hold(self) -> None:
        """Connections stay open, new ones are accepted, and nothing passes: what is sent meanwhile passes later."""
        self._passing.clear()

    def vanish(self) -> None:
        """Nothing comes to the connections of now any more, and nobody is told; new ones are passed on."""
        self._vanished += [vanish(writer.get_extra_info("socket")) for writer in self._writers]

    def delay(self, seconds: float) -> None:
        """What is sent passes so much later."""
        self._delay = seconds

    def throttle(self, bytes_per_second: float) -> None:
        """No more than that passes in either direction of a connection."""
        self._bytes_per_second = bytes_per_second

    def truncate(self) -> None:
        """Of what is sent next the first half passes; then the connection ends."""
        self._truncates = True

    def reorder(self, longest_wait: float = 1.0) -> None:
        """Ends all connections; those that come wait for a random time, so that later ones may get ahead."""
        self._longest_wait = longest_wait
        self.drop()

    def heal(self) -> None:
        """Everything passes again."""
        self._refuses = self._truncates = False
        self._delay = self._bytes_per_second = self._longest_wait = 0.0
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            # That it was cancelled at the end, asyncio's server would show as an error.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            return
        await self._passing.wait()
        await asyncio.sleep(self._rng.uniform(0, self._longest_wait))
        target_reader, target_writer = await asyncio.open_connection(*self._target)
        self._writers.add(target_writer)
        try:
            await first_to_end(self._copy(reader, target_writer), self._copy(target_reader, writer))
        finally:
            self._writers.discard(target_writer)
            # What has been passed on arrives.
            target_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            await self._passing.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            if self._truncates:
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return
            if self._bytes_per_second:
                await self._write_slowly(data, writer)
            else:
                writer.write(data)
                await writer.drain()

    async def _write_slowly(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data and self._bytes_per_second:
            size = max(1, int(self._bytes_per_second / SLICES_PER_SECOND))
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            await asyncio.sleep(1 / SLICES_PER_SECOND)
        writer.write(data)
        await writer.drain()
