"""Notices a child whose event loop stands still: as long as that runs, it sends messages (kit/runtime/watchdog.py).

Such a process answers nobody and closes no connection, so that nobody else learns of it soon. systemd does this with
WatchdogSec; here a child that only waits for a processor, on a machine that has too much to do, is not ended.
"""

import asyncio
import socket
import sys
import uuid
from pathlib import Path
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
        self._pid = 0
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

    def watch(self, pid: int) -> None:
        """Begins to count the silence of this process."""
        self._pid = pid
        self._heard()

    @property
    def is_hung(self) -> bool:
        """True if nothing was heard for so long, the time apart in which the process waited for a processor."""
        return monotonic() - self._heard_at - (processor_wait(self._pid) - self._waited) > self.seconds

    def _read(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(64):
                self._heard()
        except BlockingIOError:
            return

    def _heard(self) -> None:
        self._heard_at = monotonic()
        self._waited = processor_wait(self._pid)


def processor_wait(pid: int) -> float:
    """Returns the seconds that the process's first thread, the loop's, could have run and had no processor.

    Linux's /proc/PID/schedstat has them in ns, after the time that it ran; without it, 0.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def is_possible() -> bool:
    """True where there are sockets without a path."""
    return sys.platform == "linux"
