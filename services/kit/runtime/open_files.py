"""How many files a process may have open: each connection is one."""

import resource


def allow_many() -> int:
    """Raises the limit to the most that the system allows this process, for its children, too; returns it.

    The usual limit, 1,024, is one for programs that call select(2), which nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
