"""The fork server: children with arguments, environment and output of their own, that end with it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli.local.forked import Fork
from services.cli.local.process import ChildProcess, ProcessSpec
from services.cli.local.supervisor import Supervisor
from services.modules import MODULES
from tests.support.mesh import command_words, free_ports, processes_below

COMMAND = (sys.executable, "-P", "-m", "services.cli.main")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fork.sock"


def server_spec(path: Path, environment: Mapping[str, str]) -> ProcessSpec:
    async def listens() -> bool:
        return await asyncio.to_thread(path.exists)

    return ProcessSpec(
        name="fork_server",
        command=(sys.executable, "-P", "-m", "services.cli.local.fork_server", str(path), "health"),
        environment={"OPENBLAS_NUM_THREADS": "1", **environment},
        ready=listens,
        prepare=lambda: path.unlink(missing_ok=True),
    )


@asynccontextmanager
async def serving(path: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor([server_spec(path, environment or {})], lambda name, line: None)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def ran(path: Path, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Returns the status and the output of a command that is forked and ends by itself."""
    child = await Fork(path, arguments).start(environment or {})
    return await child.wait(), (await child.stdout.read()).decode()


def health_settings(tmp_path: Path) -> dict[str, str]:
    """Settings of a service that needs no other and runs until it is stopped."""
    port, metrics = sorted(free_ports(2))
    return {
        "TRADEUL_HEALTH_ADDRESS": f"127.0.0.1:{port}",
        "TRADEUL_METRICS_PORT_OFFSET": str(metrics - port),
        "TRADEUL_DATA_DIR": str(tmp_path / "data"),
    }


async def start_health(path: Path, tmp_path: Path) -> ChildProcess:
    """Starts a service from the server, or from its command line, and returns when it serves."""
    lines: list[str] = []
    arguments = ("serve", "health")
    spec = ProcessSpec(
        name="health",
        command=(*COMMAND, *arguments),
        environment=health_settings(tmp_path),
        fork=Fork(path, arguments),
    )
    child = await ChildProcess.start(spec, lambda name, line: lines.append(line))
    async with asyncio.timeout(60):
        while not any("serving" in line for line in lines):
            assert child.running, lines
            await asyncio.sleep(0.05)
    return child


async def test_a_child_has_its_own_arguments_output_and_status(path: Path) -> None:
    async with serving(path):
        status, text = await ran(path, "list-targets")
        assert status == 0
        assert [line.split()[0] for line in text.splitlines()] == [*(each.name for each in MODULES), "gateway"]
        status, text = await ran(path, "serve", "nobody")
        assert status == 2
        assert "nobody" in text


async def test_a_child_has_no_environment_but_its_own(path: Path, tmp_path: Path) -> None:
    async with serving(path, {"TRADEUL_SIM_SYMBOLS": "five"}):
        assert (await ran(path, "check-config"))[0] == 0
        status, text = await ran(path, "check-config", environment={"TRADEUL_SIM_SYMBOLS": "ten"})
        assert status == 78
        assert "TRADEUL_SIM_SYMBOLS" in text
        assert "ten" in text
        settings = {**health_settings(tmp_path), "TRADEUL_API_KEY": "planted-secret"}
        child = await Fork(path, ("serve", "health")).start(settings)
        await child.stdout.readline()
        shown = await asyncio.to_thread(Path(f"/proc/{child.pid}/environ").read_bytes)
        assert b"planted-secret" not in shown
        assert await asyncio.to_thread(command_words, child.pid) == [b"tradeul", b"serve", b"health"]
        os.kill(child.pid, signal.SIGTERM)
        assert await child.wait() == 0


async def test_a_child_that_a_signal_ends_has_it_as_its_status(path: Path, tmp_path: Path) -> None:
    async with serving(path):
        child = await start_health(path, tmp_path)
        os.kill(child.pid, signal.SIGSEGV)
        assert await child.wait() == -signal.SIGSEGV
        assert not child.running


async def test_children_end_with_the_server_and_start_again_when_it_is_back(path: Path, tmp_path: Path) -> None:
    async with serving(path) as supervisor:
        child = await start_health(path, tmp_path)
        assert child.pid in processes_below(supervisor.pids["fork_server"])
        os.kill(supervisor.pids["fork_server"], signal.SIGKILL)
        async with asyncio.timeout(60):
            assert await child.wait() == -signal.SIGKILL
            while child.pid in processes_below(os.getpid()):
                await asyncio.sleep(0.05)
        # It waits for the server that is started again.
        again = await start_health(path, tmp_path)
        assert again.pid in processes_below(supervisor.pids["fork_server"])
        assert await again.stop() == 0


async def test_without_a_server_a_service_starts_from_its_command_line(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.local.forked.FORK_SECONDS", 0.2)
    child = await start_health(path, tmp_path)
    assert b"services.cli.main" in await asyncio.to_thread(command_words, child.pid)
    assert await child.stop() == 0


async def test_a_wrong_request_is_answered_and_hurts_nobody(path: Path) -> None:
    async with serving(path):
        for data in (b"", b"{}\n", b"nonsense\n", b'{"arguments": [], "environment": {}}\n'):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(data)
            writer.write_eof()
            assert "error" in json.loads(await reader.readline()), data
            writer.close()
        assert (await ran(path, "list-targets"))[0] == 0


async def test_a_request_may_come_in_pieces(path: Path) -> None:
    """An environment can be larger than a socket's buffer."""
    async with serving(path):
        status, _ = await ran(path, "list-targets", environment={f"LARGE_{i}": "x" * 100_000 for i in range(10)})
        assert status == 0


def test_nothing_is_forked_from_a_process_with_threads() -> None:
    code = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start();"
        "from services.cli.local.fork_server import preload; preload([])"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 1
    assert "expected imports to start no thread, were 2" in outcome.stderr


def test_a_socket_that_is_left_over_is_taken_anew(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    asyncio.run(_lists(path))


async def _lists(path: Path) -> None:
    async with serving(path):
        assert (await ran(path, "list-targets"))[0] == 0
