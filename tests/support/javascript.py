"""Node, npm and Chromium for tests: where they are, and clients made from the published protos.

Where one is not found the tests that need it are left out, and say so; TRADEUL_TEST_REQUIRE
(`chromium,node`, as .ci/run sets it) makes that a failure.
"""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tools import protogen

WEB = protogen.ROOT / "tests" / "web"
BUILD = protogen.ROOT / "build" / "web"
REQUIRE = "TRADEUL_TEST_REQUIRE"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Beside our own: what ours import, and what errors are made of.
IMPORTED_PROTOS = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)
INSTALL_SECONDS = 180.0


def leave_out(need: str, why: str) -> NoReturn:
    """Skips the test, or fails it where `need` is required."""
    if need in os.environ.get(REQUIRE, "").split(","):
        pytest.fail(f"{why}, but {REQUIRE} asks for {need}")
    pytest.skip(why)


def chromium() -> str:
    """The program; leaves the test out where there is none."""
    for name in CHROMIUM_NAMES:
        if program := shutil.which(name):
            return program
    leave_out("chromium", f"left out: no Chromium ({', '.join(CHROMIUM_NAMES)}) is installed")


def node() -> str:
    """The program; leaves the test out where Node or npm is not there."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            leave_out("node", f"left out: {name} is not installed")
    program = shutil.which("node")
    assert program is not None
    return program


async def run(*command: str, cwd: Path, seconds: float = 60.0) -> tuple[int, str, str]:
    """Status, stdout and stderr of a program that ends in time."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), seconds)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


async def checked(*command: str, cwd: Path) -> str:
    """The stdout of a program that has to succeed."""
    status, output, errors = await run(*command, cwd=cwd, seconds=INSTALL_SECONDS)
    assert status == 0, f"{command[0]} ended with {status}: {errors}{output}"
    return output


async def install(sources: Path, folder: Path) -> None:
    """Copies `sources` into `folder`, with the packages of their lock file, which are installed once.

    Leaves the test out where npm cannot get them.
    """
    digest = await asyncio.to_thread(_copy, sources, folder)
    stamp = folder / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_text() != digest:
        command = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
        status, output, errors = await run(*command, cwd=folder, seconds=INSTALL_SECONDS)
        if status != 0:
            leave_out("node", f"left out: npm ci failed: {(errors or output).strip()[-500:]}")
        stamp.write_text(digest)


def _copy(sources: Path, folder: Path) -> str:
    """Makes `folder` a copy of `sources`, but for the packages; returns the digest of the lock file."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name != "node_modules":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("node_modules"), dirs_exist_ok=True)
    return hashlib.sha256((sources / "package-lock.json").read_bytes()).hexdigest()


async def clients() -> Path:
    """build/web with tests/web's packages, its sources, the generated code and the browser's bundle.

    The packages are those of the lock file, installed once. Leaves the test out
    where npm cannot get them.
    """
    node()
    await install(WEB, BUILD)
    generated = BUILD / "gen"
    shutil.rmtree(generated, ignore_errors=True)
    generated.mkdir()
    plugin = BUILD / "node_modules" / ".bin" / "protoc-gen-es"
    arguments = [f"--plugin=protoc-gen-es={plugin}", f"--es_out={generated}", "--es_opt=target=js"]
    await asyncio.to_thread(protogen.run_protoc, arguments, [*protogen.sources(), *IMPORTED_PROTOS])
    await checked(
        str(BUILD / "node_modules" / ".bin" / "esbuild"), "browser.js",
        "--bundle", "--format=iife", "--global-name=client", "--outfile=bundle.js", "--log-level=warning",
        cwd=BUILD,
    )  # fmt: skip
    return BUILD
