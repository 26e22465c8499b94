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
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final, TypeVar

from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

# Of nice(2): under contention about a third of what others get. The embedded stores, too, have it.
BACKGROUND_NICENESS: Final = 5
# Of processes that only load, or compute what somebody waits for: about a tenth.
WORKER_NICENESS: Final = 10
# A pause is so many times as long as the processor worked on the piece before it.
PAUSE_RATIO: Final = 4
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


class Pacer:
    """Pauses between the pieces of a work that nobody waits for, so that it takes a fifth of a processor at most.

    Low priority is not enough: on some virtual machines whoever waits for memory keeps its processor meanwhile.
    """

    def __init__(self) -> None:
        self._is_done_pausing = Event()

    def paced(self, pieces: Iterable[T]) -> Iterator[T]:
        """The pieces, with a pause before each but the first; to be used by one thread."""
        began = time.thread_time()
        for number, piece in enumerate(pieces):
            if number:
                self._is_done_pausing.wait(PAUSE_RATIO * (time.thread_time() - began))
                began = time.thread_time()
            yield piece

    def stop_pausing(self) -> None:
        """No more pauses from now on: somebody is waiting. May be called from any thread."""
        self._is_done_pausing.set()


def let_others_go_first() -> None:
    """Lowers the calling thread's priority, where threads have one of their own."""
    if platform.system() == "Linux":
        # Of the calling thread, whatever POSIX says: see nice(2), "C library/kernel differences".
        os.nice(WORKER_NICENESS)


def work_in_the_background() -> None:
    """Lets the others go first, for good."""
    os.nice(BACKGROUND_NICENESS)
