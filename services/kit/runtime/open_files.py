"""How many files a process may have open: each connection is one."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from pathlib import Path
from typing import Final, NamedTuple

# For what a process opens besides its clients: connections to other services, certificates, refused clients.
RESERVED: Final = 256
# More than a service is ever given; gRPC's counters have 32 bits.
MOST: Final = 1_000_000
# Of the room for clients: an operator is to know of it above the first, until it is below the second.
SCARCE_SHARE: Final = 0.9
ENOUGH_SHARE: Final = 0.85
OWN: Final = Path("/proc/self/fd")


class OpenFiles(NamedTuple):
    """How many files this process has open, and how many it may have."""

    used: int
    limit: int


async def open_files() -> OpenFiles | None:
    """Returns the present numbers; None where there is no limit, or no /proc."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        # Since Linux 6.2 their number, which costs nothing; 0 before.
        used = OWN.stat().st_size or await asyncio.to_thread(_count)
    except OSError as error:
        # None is left to list them with.
        return OpenFiles(soft, soft) if is_out_of_files(error) else None
    return OpenFiles(used, soft)


def _count() -> int:
    """For thousands of files that takes milliseconds. It opens one itself."""
    return len(os.listdir(OWN)) - 1


def are_scarce(files: OpenFiles | None, *, were_scarce: bool = False) -> bool:
    """True if this process is nearly out of those that its clients may have."""
    share = ENOUGH_SHARE if were_scarce else SCARCE_SHARE
    return files is not None and files.used > share * room_for_clients(files.limit)


def is_out_of_files(error: BaseException | None) -> bool:
    """True if `error` says that this process, or the machine, may not open another file for now."""
    if isinstance(error, socket.gaierror):
        # The resolver does not say that it cannot open its socket.
        try:
            check_room(1)
        except OSError as why:
            error = why
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def check_room(count: int) -> None:
    """Raises OSError if this process may not open `count` more files now."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def allow_many() -> int:
    """Raises the limit to the most that the system allows this process, for its children, too; returns it.

    The usual limit, 1,024, is one for programs that call select(2), which nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def room_for_clients(wanted: int) -> int:
    """Returns how many clients this process may have, at most `wanted`, so that RESERVED files are left to itself.

    Where the limit is lower than twice that, half of it is left.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(soft - RESERVED, soft // 2))
