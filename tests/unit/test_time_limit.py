"""What keeps a run of the tests from standing still: a limit that works on uvloop, and loops that can be closed."""

import subprocess
import sys
from pathlib import Path

from services.kit.runtime.packaged import checkout

TESTS = """
import asyncio

import pytest


@pytest.mark.timeout(0.5)
async def test_waits():
    await asyncio.Event().wait()


@pytest.fixture
async def slow_to_end():
    yield
    await asyncio.Event().wait()


@pytest.mark.timeout(0.5)
async def test_does_not_end(slow_to_end):
    pass


async def test_leaves_a_connection_open(tmp_path):
    async def stay(reader, writer):
        await reader.read()

    path = tmp_path / "socket"
    server = await asyncio.start_unix_server(stay, path)
    kept.append(await asyncio.open_unix_connection(path))


kept = []
"""


def test_a_test_that_stands_still_fails_and_one_that_leaves_something_open_says_so(tmp_path: Path) -> None:
    root = checkout()
    assert root is not None
    file = tmp_path / "test_still.py"
    file.write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    options = ["-c", str(root / "pyproject.toml"), f"--rootdir={tmp_path}", str(file)]
    run = subprocess.run([*command, *options], cwd=root, capture_output=True, text=True, timeout=60)
    assert "1 failed, 2 passed" in run.stdout and "1 error" in run.stdout, run.stdout
    # Once for each of them, and in a summary that is not cut off again.
    assert run.stdout.count("TimeLimitReached: the test took more than 0.5 s") >= 2
    # What stood still, and where.
    assert "coro=<test_waits() running at" in run.stdout
    assert "ResourceWarning: unclosed resource <UnixTransport" in run.stdout
