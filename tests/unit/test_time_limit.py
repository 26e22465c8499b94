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

CANNOT_BE_INTERRUPTED = """
import ctypes

import pytest


@pytest.mark.timeout(0.5)
def test_waits_for_a_lock():
    mutex = ctypes.create_string_buffer(128)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


def test_that_comes_after_it():
    pass
"""


def _run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    root = checkout()
    assert root is not None
    file = folder / "test_still.py"
    file.write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    files = ["-c", str(root / "pyproject.toml"), f"--rootdir={folder}", str(file)]
    return subprocess.run([*command, *options, *files], cwd=root, capture_output=True, text=True, timeout=60)


def test_a_test_that_stands_still_fails_and_one_that_leaves_something_open_says_so(tmp_path: Path) -> None:
    run = _run(tmp_path, TESTS)
    assert "1 failed, 2 passed" in run.stdout and "1 error" in run.stdout, run.stdout
    # Once for each of them, and in a summary that is not cut off again.
    assert run.stdout.count("TimeLimitReached: the test took more than 0.5 s") >= 2
    # What stood still, and where.
    assert "coro=<test_waits() running at" in run.stdout
    assert "ResourceWarning: unclosed resource <UnixTransport" in run.stdout
    # While the others still run.
    assert "failed: test_still.py::test_waits, in its call" in run.stderr
    assert "failed: test_still.py::test_does_not_end, in its teardown" in run.stderr


def test_one_that_cannot_be_interrupted_ends_its_process_and_the_others_go_on(tmp_path: Path) -> None:
    run = _run(tmp_path, CANNOT_BE_INTERRUPTED, "-n", "1")
    assert "1 failed, 1 passed" in run.stdout, run.stdout
    assert "crashed while running 'test_still.py::test_waits_for_a_lock'" in run.stdout
    # Where it stood.
    assert "in test_waits_for_a_lock" in run.stderr
