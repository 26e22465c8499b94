"""How many files a process may have open: each connection is one."""

import resource
from typing import Final

# For what a process opens besides its clients: connections to other services, certificates, refused clients.
RESERVED: Final = 256


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
