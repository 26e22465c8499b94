"""Child processes that die with us; among them our own modules on pipes, for work that would hold our loop up."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from services.kit.runtime.environment import without_settings
from services.kit.runtime.open_files import check_room
from services.kit.runtime.priority import WORKER_NICENESS
from services.kit.runtime.redaction import reason_of

PIPE_BYTES: Final = 1 << 20
# What the start of a child opens, and some more.
FILES_OF_A_START: Final = 12
# The IDENTITY of child.py that changes nothing.
SAME: Final = "same"
_CHILD: Final = Path(__file__).parent / "child.py"


def dying_with_us(
    *command: str, identity: str = SAME, death_signal: signal.Signals = signal.SIGKILL, niceness: int = 0
) -> list[str]:
    """Returns the command line that ties a program to this process; `identity` and `niceness` are child.py's."""
    numbers = map(str, (os.getpid(), int(death_signal), niceness))
    return [sys.executable, "-I", "-S", str(_CHILD), *numbers, identity, *command]


async def start_worker(module: str, first_input: bytes) -> asyncio.subprocess.Process:
    """Starts `module` with pipes for input and output and writes `first_input`; it dies with us.

    It waits while those who serve need the processors, from before its imports on.

    Cancelled meanwhile, no child is left. Raises OSError when it cannot be started.
    """
    starting = asyncio.ensure_future(_start(module))
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _to_the_end(_end_started(starting))
        raise
    try:
        send(process, first_input)
    except OSError:
        await end_worker(process)
        raise
    return process


def send(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Writes to its input; raises OSError when it has ended."""
    assert process.stdin is not None, "it is a pipe"
    try:
        process.stdin.write(data)
    except RuntimeError as error:
        # uvloop's word for a pipe that is closed.
        raise BrokenPipeError(f"the process has ended: {reason_of(error)}") from error


async def end_worker(process: asyncio.subprocess.Process) -> None:
    """Kills it, if it still runs, and waits for its end and that of its output, however often that is cancelled."""
    await _to_the_end(_end(process))


async def _end_started(starting: "asyncio.Future[asyncio.subprocess.Process]") -> None:
    await _end(await starting)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits for `work`, which takes no time to speak of; only then a cancellation goes on."""
    task = asyncio.ensure_future(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            is_cancelled = True
    task.result()
    if is_cancelled:
        raise asyncio.CancelledError


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    # wait() alone returns before the pipes are closed.
    await process.communicate()


async def _start(module: str) -> asyncio.subprocess.Process:
    # uvloop never closes the pipes of a child for which it has had some of them, but not all.
    check_room(FILES_OF_A_START)
    return await asyncio.create_subprocess_exec(
        *dying_with_us(sys.executable, "-P", "-m", module, niceness=WORKER_NICENESS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=PIPE_BYTES,
        # What it needs of the settings is in its input, which nobody else can read.
        env=without_settings(os.environ),
        # Not a terminal's Ctrl-C but its caller ends it.
        start_new_session=True,
    )
