"""Which of the mesh's processes get a processor first where there are fewer processors than work.

Trades pass through one process after the other, each of which works for a fraction of a millisecond: how soon it gets
a processor decides how soon they are seen. What only stores things can wait for some milliseconds more.

In a cluster each container has a share of its own, and all this decides little.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final, TypeVar

from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

# Of nice(2): under contention about a third of what others get. The embedded stores, too, have it.
BACKGROUND_NICENESS: Final = 5
# Of processes that only load, or compute what somebody waits for: about a tenth.
WORKER_NICENESS: Final = 10
# How much longer than a piece of unhurried work the pause after it is.
PAUSE: Final = 4
# Linux gives whoever asks for shorter turns its next one sooner, from 6.12 on; by default they are about 3 ms.
TURN_SECONDS: Final = 0.0005
# sched_setattr(2), which neither Python nor every C library has.
_SYSTEM_CALLS: Final = {"x86_64": 314, "aarch64": 274}
# struct sched_attr, first version: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")


def work_in_short_turns() -> bool:
    """Asks for short turns, for this thread and those that it starts; False where the system does not know them."""
    number = _SYSTEM_CALLS.get(platform.machine()) if platform.system() == "Linux" else None
    if number is None:
        return False
    attributes = _ATTRIBUTES.pack(
        _ATTRIBUTES.size, os.SCHED_OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, round(TURN_SECONDS * 1e9), 0, 0
    )
    if ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, 0) == 0:
        return True
    log.debug("no short turns", error=errno.errorcode.get(ctypes.get_errno()))
    return False


def thread_behind_the_others(name: str) -> ThreadPoolExecutor:
    """One thread for work that nobody waits for, such as writing much at once; shut it down.

    Where threads have no priority of their own it works as any other.
    """
    return ThreadPoolExecutor(1, name, initializer=let_others_go_first)


class Unhurried:
    """The pace of work that nobody waits for: pauses after each piece, so that it takes a fifth of the time.

    For a thread behind the others: also what waits for memory or a disk takes a processor from them on some machines.
    """

    def __init__(self) -> None:
        self._hurries = Event()

    def paced(self, pieces: Iterable[T]) -> Iterator[T]:
        """The pieces of a work, with the pauses."""
        for piece in pieces:
            began = monotonic()
            yield piece
            self._hurries.wait(PAUSE * (monotonic() - began))

    def hurry(self) -> None:
        """Makes no more pauses: somebody waits. To be called by any thread."""
        self._hurries.set()


def let_others_go_first() -> None:
    """The calling thread works for nobody who waits: it comes last where threads have priorities of their own."""
    if platform.system() == "Linux":
        # Of the calling thread, whatever POSIX says: see nice(2), "C library/kernel differences".
        os.nice(WORKER_NICENESS)


def work_in_the_background() -> None:
    """Lets the others go first, for good."""
    os.nice(BACKGROUND_NICENESS)
