"""A service that the fork server (fork_server.py) starts: asked for, and waited for, over a connection of its own."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# So long the server may take to fork, and to come back after it was killed.
FORK_SECONDS: Final = 15.0
CONNECT_PAUSE_SECONDS: Final = 0.05


def is_possible() -> bool:
    """True where children can be tied to the process that forks them."""
    return sys.platform == "linux"


@dataclass(frozen=True)
class Fork:
    """The `tradeul` command with `arguments`, forked by the server that listens at `path`."""

    path: Path
    arguments: tuple[str, ...]

    async def start(self, environment: Mapping[str, str]) -> "Forked":
        """Starts it. Raises OSError when the server cannot, TimeoutError when it does not answer."""
        output = _Output()
        reading, writing = os.pipe()
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: output, os.fdopen(reading, "rb", buffering=0))
            async with asyncio.timeout(FORK_SECONDS):
                pid, answers, writer = await self._start(environment, writing)
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writing)
        return Forked(pid, output.lines, answers, writer)

    async def _start(
        self, environment: Mapping[str, str], output: int
    ) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """Returns its id, and the connection on which its end will be told."""
        loop = asyncio.get_running_loop()
        connection = await self._connect()
        writer: asyncio.StreamWriter | None = None
        try:
            line = json.dumps({"arguments": self.arguments, "environment": dict(environment)}).encode() + b"\n"
            sent = socket.send_fds(connection, [line], [output])
            await loop.sock_sendall(connection, line[sent:])
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            answer = await _answer(reader)
            if "pid" not in answer:
                raise OSError(answer.get("error", "the fork server has ended"))
        except BaseException:
            if writer is not None:
                writer.close()
            connection.close()
            raise
        return int(answer["pid"]), reader, writer

    async def _connect(self) -> socket.socket:
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(connection, str(self.path))
                return connection
            except (ConnectionRefusedError, FileNotFoundError):
                connection.close()
                await asyncio.sleep(CONNECT_PAUSE_SECONDS)
            except BaseException:
                connection.close()
                raise


class Forked:
    """A running child, as asyncio.subprocess.Process is one. `stdout` has its standard output and error."""

    def __init__(
        self, pid: int, stdout: asyncio.StreamReader, answers: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._end = asyncio.create_task(self._wait(answers, writer), name=f"forked {pid}")

    async def wait(self) -> int:
        return await asyncio.shield(self._end)

    async def _wait(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        answer = await _answer(answers)
        # All its children die with the server.
        self.returncode = int(answer.get("status", -signal.SIGKILL))
        writer.close()
        return self.returncode


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Returns the next answer, empty when the server has ended."""
    try:
        line = await reader.readline()
    except ConnectionError:
        line = b""
    return json.loads(line) if line else {}


class _Output(asyncio.StreamReaderProtocol):
    """Reads a pipe into `lines`, and closes it at its end."""

    def __init__(self) -> None:
        self.lines = asyncio.StreamReader()
        self._pipe: asyncio.BaseTransport | None = None
        super().__init__(self.lines)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe = transport
        super().connection_made(transport)

    def eof_received(self) -> bool:
        super().eof_received()
        self.close()
        return False

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
