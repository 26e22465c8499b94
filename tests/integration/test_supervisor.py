"""The supervisor with real processes: order, restarts, hopeless starts, stops, and nobody left behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.local import watchdog
from services.cli.local.process import ProcessSpec
from services.cli.local.supervisor import Phase, Supervisor, check_order
from services.kit.runtime.errors import StartError
from services.kit.runtime.priority import BACKGROUND_NICENESS
from services.kit.runtime.watchdog import notify
from tests.support.mesh import processes_below

# Says when it starts and when it is asked to stop; `ready` is a file that it makes.
CHILD = """
import pathlib, signal, sys, time
name, journal, ready = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
def write(word):
    with journal.open("a") as file:
        file.write(f"{word} {name}\\n")
def stop(*_):
    write("stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
write("start")
ready.touch()
while True:
    time.sleep(60)
"""
DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


class Family:
    """Specs of children that write into one journal."""

    def __init__(self, directory: Path) -> None:
        self.journal = directory / "journal"
        self.lines: list[tuple[str, str]] = []
        self.directory = directory

    def child(self, name: str, *needs: str) -> ProcessSpec:
        ready = self.directory / f"{name}.ready"

        async def is_ready() -> bool:
            return ready.exists()

        return ProcessSpec(
            name=name,
            command=(sys.executable, "-c", CHILD, name, str(self.journal), str(ready)),
            needs=needs,
            ready=is_ready,
            prepare=lambda: ready.unlink(missing_ok=True),
        )

    def script(self, name: str, code: str, *needs: str, once: bool = False) -> ProcessSpec:
        return ProcessSpec(name=name, command=(sys.executable, "-c", code), needs=needs, once=once, stop_seconds=0.2)

    def supervisor(self, *specs: ProcessSpec, hung_seconds: float = 0.0) -> Supervisor:
        return Supervisor(specs, lambda name, line: self.lines.append((name, line)), hung_seconds)

    def events(self) -> list[str]:
        return self.journal.read_text().splitlines()


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path)


async def test_start_in_order_stop_in_reverse(family: Family) -> None:
    supervisor = family.supervisor(family.child("a"), family.child("b", "a"), family.child("c", "b"))
    await supervisor.start()
    assert set(supervisor.phases.values()) == {Phase.READY}
    pids = set(supervisor.pids.values())
    assert pids <= processes_below(os.getpid())
    await supervisor.stop()
    assert family.events() == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]
    assert not pids & processes_below(os.getpid())


async def test_a_child_that_is_killed_is_started_again(family: Family) -> None:
    supervisor = family.supervisor(family.child("a"), family.child("b", "a"))
    await supervisor.start()
    pids = supervisor.pids
    os.kill(pids["a"], signal.SIGKILL)
    async with asyncio.timeout(60):
        while supervisor.starts("a") < 2 or supervisor.phases["a"] is not Phase.READY:
            await asyncio.sleep(0.01)
    assert supervisor.pids["b"] == pids["b"]
    assert supervisor.starts("b") == 1
    await supervisor.stop()
    assert family.events() == ["start a", "start b", "start a", "stop b", "stop a"]


async def test_what_is_done_once_comes_before_those_who_need_it(family: Family) -> None:
    migrate = family.script("migrate", f"open({str(family.journal)!r}, 'a').write('done migrate\\n')", once=True)
    supervisor = family.supervisor(migrate, family.child("a", "migrate"))
    await supervisor.start()
    assert family.events() == ["done migrate", "start a"]
    assert "migrate" not in supervisor.pids
    await supervisor.stop()


async def test_a_child_that_cannot_start_ends_the_start_with_its_last_words(family: Family) -> None:
    broken = family.script("broken", "import sys; sys.exit('no such table')", once=True)
    supervisor = family.supervisor(family.child("a"), broken, family.child("b", "broken"))
    with pytest.raises(StartError, match=r"broken: ended with status 1, 3 times in a row\n  no such table"):
        await supervisor.start()
    await supervisor.stop()
    assert family.events() == ["start a", "stop a"]


async def test_wrong_settings_are_not_tried_again(family: Family) -> None:
    supervisor = family.supervisor(family.script("misled", "import sys; sys.exit(78)", once=True))
    with pytest.raises(StartError, match="ended with status 78, 1 times"):
        await supervisor.start()
    assert supervisor.starts("misled") == 1
    await supervisor.stop()


async def test_a_program_that_is_not_there(family: Family) -> None:
    spec = ProcessSpec(name="ghost", command=("/no/such/program",), once=True)
    supervisor = family.supervisor(spec)
    with pytest.raises(StartError, match="ghost: ended with status 1"):
        await supervisor.start()
    await supervisor.stop()
    assert any("/no/such/program" in line or "No such file" in line for _, line in family.lines)


async def test_one_that_does_not_hear_is_killed(family: Family) -> None:
    supervisor = family.supervisor(family.script("deaf", DEAF))
    await supervisor.start()
    async with asyncio.timeout(60):
        while ("deaf", "deaf") not in family.lines:
            await asyncio.sleep(0.01)
    pid = supervisor.pids["deaf"]
    await supervisor.stop()
    assert pid not in processes_below(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="sockets without a path are Linux's")
async def test_a_child_whose_loop_stands_still_is_started_again(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, or busy with something that never ends; one that lives is left alone, and one that has no watchdog."""
    monkeypatch.setattr("services.cli.local.supervisor.WATCH_SECONDS", 0.05)
    busy = family.directory / "busy"
    # Each says that it is there once its watchdog has heard it.
    said = {name: family.directory / f"{name}.said" for name in ("busy", "lively", "stopped")}
    loop = """
import asyncio, pathlib, sys
from services.kit.runtime.watchdog import notify
said, busy = map(pathlib.Path, {paths!r})
async def main():
    notifying = asyncio.create_task(notify())
    await asyncio.sleep(0)
    said.touch()
    while not busy.exists():
        await asyncio.sleep(0.01)
    busy.unlink()
    while True:
        pass
asyncio.run(main())
"""
    never = family.directory / "never"
    specs = [
        replace(
            family.script(name, loop.format(paths=[str(path), str(busy if name == "busy" else never)])),
            has_watchdog=True,
        )
        for name, path in said.items()
    ]
    specs.append(family.script("unwatched", "import time; time.sleep(600)"))
    supervisor = family.supervisor(*specs, hung_seconds=2.0)
    await supervisor.start()
    async with asyncio.timeout(60):
        while not all(path.exists() for path in said.values()):
            await asyncio.sleep(0.01)
    pids, starts = supervisor.pids, {spec.name: supervisor.starts(spec.name) for spec in specs}
    os.kill(pids["stopped"], signal.SIGSTOP)
    busy.touch()
    async with asyncio.timeout(60):
        while any(supervisor.starts(name) == starts[name] for name in ("stopped", "busy")):
            await asyncio.sleep(0.05)
    assert all(supervisor.starts(name) == starts[name] for name in ("lively", "unwatched"))
    await supervisor.stop()
    assert not set(pids.values()) & processes_below(os.getpid())


async def test_who_waits_for_a_processor_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = 0.0
    now = 100.0
    monkeypatch.setattr(watchdog, "monotonic", lambda: now)
    monkeypatch.setattr(watchdog.ProcessorWait, "seconds", lambda self: waited)
    with watchdog.Watchdog(10.0) as watched:
        watched.watch(1)
        now, waited = 115.0, 6.0
        assert not watched.is_hung
        now = 117.0
        assert watched.is_hung
        # A message begins a new silence.
        await notify_once(watched.environment)
        async with asyncio.timeout(60):
            while watched.is_hung:
                await asyncio.sleep(0.01)
        now = 126.0
        assert not watched.is_hung


async def notify_once(environment: Mapping[str, str]) -> None:
    await notify({**environment, "WATCHDOG_USEC": ""})


def test_the_processor_wait_of_a_process_grows_while_it_waits() -> None:
    """Two processes that compute, on one processor."""
    processor = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{processor}])\nwhile True: pass"]
    children = [subprocess.Popen(command) for _ in range(2)]
    waits = [watchdog.ProcessorWait(child.pid) for child in children]
    try:
        deadline = time.monotonic() + 30
        while not all(wait.seconds() > 0.2 for wait in waits):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        for wait in waits:
            wait.close()
        for child in children:
            child.kill()
            child.wait()


async def test_kill_ends_all_at_once(family: Family) -> None:
    supervisor = family.supervisor(family.child("a"), family.child("b", "a"))
    await supervisor.start()
    supervisor.kill()
    await supervisor.stop()
    assert family.events() == ["start a", "start b"]
    assert not supervisor.pids


def test_an_order_that_cannot_be() -> None:
    specs = [ProcessSpec(name="b", command=("true",), needs=("a",)), ProcessSpec(name="a", command=("true",))]
    with pytest.raises(ValueError, match="b needs a, expected before it"):
        check_order(specs)


CHATTER = """
import os, sys, threading
name, count = sys.argv[1], int(sys.argv[2])
def write(fd):
    for number in range(count):
        data = f"{name} {fd} {number} {'x' * (number * 37 % 9000)}.\\n".encode()
        # In pieces, as buffers are flushed.
        for first in range(0, len(data), 700):
            os.write(fd, data[first : first + 700])
write(1)
write(2)
"""
TALK = """
import asyncio, sys
from services.cli.local.process import ProcessSpec
from services.cli.local.supervisor import Supervisor
from services.cli.up import line_sink
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.settings import Settings
async def main():
    settings = Settings.load({})
    configure(settings, "up")
    specs = [
        ProcessSpec(name=f"child{i}", command=(sys.executable, "-c", sys.argv[1], f"child{i}", "150"), once=True)
        for i in range(12)
    ]
    supervisor = Supervisor(specs, line_sink(settings))
    starting = asyncio.create_task(supervisor.start())
    while not starting.done():
        get_logger("test").warning("own line", padding="y" * 3000)
        await asyncio.sleep(0.001)
    await starting
    await supervisor.stop()
asyncio.run(main())
"""


async def test_lines_of_many_children_are_whole() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TALK, CHATTER), stderr=asyncio.subprocess.PIPE, limit=1 << 20
    )
    assert process.stderr is not None
    lines: list[str] = []
    # Slowly, so that pipes are full.
    while line := (await process.stderr.readline()).decode():
        lines.append(line)
        if len(lines) % 100 == 0:
            await asyncio.sleep(0.01)
    assert await process.wait() == 0
    own, written = (
        re.compile(r"\S+Z \[(warning|info) +\] .*service=up\n"),
        re.compile(r" +(child\d+) \| \1 (\d) (\d+) x*\.\n"),
    )
    numbers: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        if match := written.fullmatch(line):
            numbers.setdefault((match[1], match[2]), []).append(int(match[3]))
        else:
            assert own.fullmatch(line), line[:300]
    assert len(numbers) == 24
    assert all(found == list(range(150)) for found in numbers.values())


STORES = """
import asyncio, sys
from pathlib import Path
from services.cli.local.embedded import postgres_spec, redis_spec
from services.cli.local.supervisor import Supervisor
async def main():
    data_dir = Path(sys.argv[1])
    supervisor = Supervisor([redis_spec(data_dir), postgres_spec(data_dir)], lambda name, line: None)
    await supervisor.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await supervisor.stop()
asyncio.run(main())
"""


def test_nothing_is_left_in_the_temporary_directory(tmp_path: Path) -> None:
    """Nor of one that was killed, once the next one with its data has ended."""
    data_dir = tmp_path / ("d" * 90)
    with tempfile.TemporaryDirectory(prefix="t-") as temporary:
        for is_killed in (True, False):
            with subprocess.Popen(
                (sys.executable, "-c", STORES, str(data_dir)),
                env={**os.environ, "TMPDIR": temporary}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            ) as process:  # fmt: skip
                assert process.stdout is not None and process.stdin is not None
                assert b"ready\n" in process.stdout
                assert len(os.listdir(temporary)) == 2
                children = processes_below(process.pid)
                # They can wait for a processor longer than what trades pass through.
                own = os.getpriority(os.PRIO_PROCESS, 0)
                priorities = {os.getpriority(os.PRIO_PROCESS, child) for child in children}
                assert priorities == {min(own + BACKGROUND_NICENESS, 19)}
                if is_killed:
                    process.kill()
                process.stdin.close()
                process.wait()
                while any(Path(f"/proc/{pid}").exists() for pid in children):
                    time.sleep(0.05)
        assert not os.listdir(temporary)
