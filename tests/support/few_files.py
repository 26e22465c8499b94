"""Processes that may open few files, or no more."""

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import AsyncIterator, Iterator

START_SECONDS = 60
# Input, output and errors.
STANDARD_FILES = 3
# Begins the line in which the program says where it listens: after what services log.
LISTENING = b"listening "


@contextlib.asynccontextmanager
async def with_few_files(program: str, open_files: int, *arguments: str) -> AsyncIterator[str]:
    """Runs `program` with that limit until its input ends; yields the rest of the line that begins with LISTENING."""
    process = await asyncio.create_subprocess_exec(
        *("prlimit", f"--nofile={open_files}:{open_files}", sys.executable, "-c", program, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (line := await process.stdout.readline()).startswith(LISTENING):
                assert line, "the program ended before it listened"
        yield line.removeprefix(LISTENING).decode().strip()
    finally:
        process.stdin.close()
        async with asyncio.timeout(START_SECONDS):
            await process.wait()
    assert process.returncode == 0


@contextlib.contextmanager
def out_of_files(pid: int = 0, left: int = 0, *, is_strict: bool = False) -> Iterator[None]:
    """Inside, the process may open `left` files, and then no more; by default this one, none.

    It may open others in place of those that it closes, but not if `is_strict`: as if others had taken them.
    """
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = STANDARD_FILES if is_strict else _number_after(pid or os.getpid(), left)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _number_after(pid: int, left: int) -> int:
    """The number that a file would have after so many that are opened now."""
    used = open_numbers(pid)
    number = 0
    while number in used or left:
        left -= number not in used
        number += 1
    return number


def open_numbers(pid: int) -> set[int]:
    """The numbers of the files that a process has open."""
    numbers = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        # The one with which they are listed is closed by now.
        with contextlib.suppress(FileNotFoundError):
            os.readlink(f"/proc/{pid}/fd/{name}")
            numbers.add(int(name))
    return numbers
