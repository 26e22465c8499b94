"""The end of a test that takes too long: pytest-timeout measures, this interrupts."""

import asyncio
import contextlib
import faulthandler
import signal
import sys
from types import FrameType
from typing import Final, NoReturn, Protocol

import pytest


class Limit(Protocol):
    """Of pytest-timeout's settings."""

    timeout: float


class TimeLimitReached(SystemExit):
    """uvloop ends for SystemExit and KeyboardInterrupt only; other errors of a signal's handler it logs, and continues.

    pytest ends for KeyboardInterrupt, but takes SystemExit for a failure of the test.
    """


# What ended in neither of its two limits is given at most this long for its output, in seconds.
GRACE: Final = 30.0


def set_time_limit(item: pytest.Item, limit: Limit, stderr: int) -> bool:
    """Interrupts the test after `limit.timeout` seconds, also where its event loop waits, and its tear-down likewise.

    Where Python cannot be interrupted, as in a library that waits for a lock, the process ends instead, and writes to
    `stderr`, a file descriptor, where each thread stood: pytest-xdist names the test and goes on in another process.

    As pytest-timeout's hook of this name does; returns True: that one is not needed.
    """

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        __tracebackhide__ = True
        signal.setitimer(signal.ITIMER_REAL, limit.timeout)
        _print_tasks(item.nodeid)
        raise TimeLimitReached(f"the test took more than {limit.timeout:g} s")

    def cancel() -> None:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    # What pytest-timeout calls at the end.
    item.cancel_timeout = cancel  # type: ignore[attr-defined]
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit.timeout)
    faulthandler.dump_traceback_later(2 * limit.timeout + min(limit.timeout, GRACE), exit=True, file=stderr)
    return True


def _print_tasks(name: str) -> None:
    """What each task of the loop waits for."""
    with contextlib.suppress(RuntimeError):
        for task in asyncio.all_tasks(asyncio.get_running_loop()):
            sys.stderr.write(f"{name}: {task}\n")
