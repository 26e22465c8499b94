"""A Python program that may open few files."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

START_SECONDS = 60
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
