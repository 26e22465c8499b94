"""Tells the process manager that the event loop runs, as sd_notify(3) says: to `tradeul up`, and to systemd alike."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
PERIOD: Final = "WATCHDOG_USEC"
READY: Final = b"READY=1"
ALIVE: Final = b"WATCHDOG=1"
# Of the time after which the manager gives up.
OFTEN: Final = 4


def socket_address(name: str) -> str:
    """Returns the address that a NOTIFY_SOCKET stands for: a path, or @NAME in Linux's abstract namespace."""
    return "\0" + name[1:] if name.startswith("@") else name


async def notify(environment: Mapping[str, str] = os.environ) -> None:
    """Says that this process is ready, then again and again that it lives, until cancelled; returns without a manager.

    A manager that is gone or does not read loses the message, and nobody waits for it.
    """
    if not (name := environment.get(SOCKET, "")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.setblocking(False)

        def send(message: bytes) -> None:
            with contextlib.suppress(OSError):
                connection.sendto(message, socket_address(name))

        send(READY)
        period = environment.get(PERIOD, "")
        if not period.isdigit() or int(period) == 0:
            return
        while True:
            send(ALIVE)
            await asyncio.sleep(int(period) / 1e6 / OFTEN)
