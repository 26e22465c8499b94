"""Notices a child whose event loop stands still: as long as that runs, it sends messages (kit/runtime/watchdog.py).

Such a process answers nobody and closes no connection, so that nobody else learns of it soon. systemd does this with
WatchdogSec; here a child that only waits for a processor, on a machine that has too much to do, is not ended.
"""

import asyncio
import contextlib
import os
import socket
import sys
import uuid
from typing import Self

from services.kit.runtime.clock import monotonic
from services.kit.runtime.watchdog import PERIOD, SOCKET, socket_address


class Watchdog:
    """The messages of one child. Use it as a context; `environment` is for the child."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Of this machine's network namespace, gone with this process.
        name = f"@tradeul-{uuid.uuid4().hex}"
        self.environment = {SOCKET: name, PERIOD: str(round(seconds * 1e6))}
        self._address = socket_address(name)
        self._socket: socket.socket | None = None
        self._waits: ProcessorWait | None = None
        self._heard_at = 0.0
        self._waited = 0.0

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self._address)
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        if self._waits is not None:
            self._waits.close()

    def watch(self, pid: int) -> None:
        """Begins to count the silence of this process."""
        self._waits = ProcessorWait(pid)
        self._heard()

    @property
    def is_hung(self) -> bool:
        """True if nothing was heard for so long, the time apart in which the process waited for a processor."""
        assert self._waits is not None, "watch() first"
        return monotonic() - self._heard_at - (self._waits.seconds() - self._waited) > self.seconds

    def _read(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(64):
                self._heard()
        except BlockingIOError:
            return

    def _heard(self) -> None:
        self._heard_at = monotonic()
        if self._waits is not None:
            self._waited = self._waits.seconds()


class ProcessorWait:
    """How long a process's first thread, the loop's, could have run and had no processor.

    Linux's /proc/PID/schedstat has it in ns, after the time that it ran. The file stays open: a process that may open
    no more could not tell who waits from who hangs. Close it.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._file = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1
        self._last = 0.0

    def seconds(self) -> float:
        """Returns it, or what it was last where that cannot be read; 0 where it never could."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            self._last = int(os.pread(self._file, 256, 0).split()[1]) / 1e9
        return self._last

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def is_possible() -> bool:
    """True where there are sockets without a path."""
    return sys.platform == "linux"
