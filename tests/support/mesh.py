"""The whole mesh as its user starts it: `tradeul up`, as a process of its own, on free ports."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from services.kit.runtime.settings import DEFAULT_PORTS

TRADEUL = (sys.executable, "-m", "services.cli.main")
READY_SECONDS = 90.0
STOP_SECONDS = 30.0
# Above those that a mesh of somebody's has by default.
FIRST_PORT: Final = 10_000
# A process has every so many-th port: none of its own is where a standby listens, 10 above the leader.
# Those for metrics, a multiple of that above and at most MOST_OFFSET, are its own, too.
PORT_STEP: Final = 20
MOST_OFFSET: Final = 4_500


def free_ports(count: int, offset: int = 0) -> list[int]:
    """Ports that nothing listens on, nor on those `offset` above, all different.

    Whoever asks listens there later. Until then nobody else takes them: the system gives out none of them, neither to
    listeners nor to connections, and each process of pytest-xdist has its own, which come again late.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        if {port, port - offset, port + offset}.isdisjoint(found) and _is_free(port) and _is_free(port + offset):
            found.append(port)
    return found


def _own_ports() -> Iterator[int]:
    """This process's ports, over and over, from any of them on: another run may go on beside this one."""
    first_of_the_systems = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % (PORT_STEP // 2)
    # Those above, for metrics, are this process's, too, and none of the system's.
    own = range(FIRST_PORT + number, max(first_of_the_systems - MOST_OFFSET, 2 * FIRST_PORT), PORT_STEP)
    start = random.SystemRandom().randrange(len(own))
    return itertools.cycle([*own[start:], *own[:start]])


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        # As servers do: the connections that the last one had do not count.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_PORTS: Final = _own_ports()


def processes_below(pid: int) -> set[int]:
    """Every descendant of `pid`, from /proc."""
    parents: dict[int, int] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(path.name)] = int(fields[1])
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def command_words(pid: int) -> list[bytes]:
    """The command line of a process. A forked service has it as one text."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split()


def service_pids(parent: int, module: str) -> set[int]:
    """The processes below `parent` that serve `module`."""
    found = set()
    for pid in processes_below(parent):
        try:
            words = command_words(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"serve" in words and module.encode() in words:
            found.add(pid)
    return found


class Mesh:
    """`async with Mesh(data_dir, environment)`: running and healthy inside, gone without a trace after.

    `program` is the `tradeul` command, `folder` where it is called: by default those of the tests. `options`: those of
    `tradeul up`.
    """

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str],
        *,
        program: Sequence[str] = TRADEUL,
        folder: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._command = (*program, "up", *options)
        self._folder = folder
        self.metrics_offset = int(environment.get("TRADEUL_METRICS_PORT_OFFSET", 0))
        ports = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS), self.metrics_offset), strict=True))
        self.ports: Mapping[str, int] = ports
        self.log_path = data_dir / "mesh.log"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TRADEUL_", "POLYGON_"))},
            **{f"TRADEUL_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports.items()},
            "TRADEUL_DATA_DIR": str(data_dir),
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            **environment,
        }
        self.process: asyncio.subprocess.Process | None = None
        self._family: set[int] = set()

    @property
    def url(self) -> str:
        """The public gateway."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.ports[service]}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Starts it, at the same ports as before, and waits until it is healthy."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, cwd=self._folder, env=self.environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            await asyncio.wait_for(self._healthy(), READY_SECONDS)
        except BaseException as error:
            await self._end()
            raise RuntimeError(f"the mesh did not become healthy:\n{self.log_tail()}") from error

    async def kill(self) -> None:
        """kill -9 of `tradeul up` and of every process below it, at once; returns when they are gone."""
        assert self.process is not None
        pids = {self.process.pid, *processes_below(self.process.pid)}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.process.wait()
        async with asyncio.timeout(STOP_SECONDS):
            # Whose parent has died waits for init.
            while any(map(_is_there, pids)):
                await asyncio.sleep(0.05)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = await self._end()
        if error is None and left:
            raise AssertionError(f"processes left behind: {sorted(left)}\n{self.log_tail()}")

    async def until_time_is_known(self) -> None:
        """Waits for the simulated market's first event, which may come a moment after the mesh is healthy."""
        async with httpx.AsyncClient(timeout=2) as client, asyncio.timeout(READY_SECONDS):
            while (await client.get(f"{self.url}/api/session/current")).status_code == httpx.codes.SERVICE_UNAVAILABLE:
                await asyncio.sleep(0.1)

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def resident_bytes(self, python_only: bool = True, *, shared_once: bool = True) -> int:
        """Memory of all the mesh's processes together; what several share counts once, or in each of them."""
        assert self.process is not None
        field = "Pss:" if shared_once else "Rss:"
        total = 0
        for pid in processes_below(self.process.pid) | {self.process.pid}:
            if python_only and "python" not in Path(f"/proc/{pid}/exe").resolve().name:
                continue
            total += memory_bytes(pid, field)
        return total

    def cpu_seconds(self, python_only: bool = True) -> float:
        """Processor time that the mesh's processes have used so far."""
        assert self.process is not None
        ticks = 0
        for pid in processes_below(self.process.pid) | {self.process.pid}:
            if python_only and "python" not in Path(f"/proc/{pid}/exe").resolve().name:
                continue
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def _healthy(self) -> None:
        assert self.process is not None
        async with httpx.AsyncClient(timeout=2) as client:
            while self.process.returncode is None:
                try:
                    if (await client.get(f"{self.url}/health")).status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        raise RuntimeError(f"`tradeul up` ended with {self.process.returncode}")

    async def _end(self) -> set[int]:
        """Ctrl-C; returns those descendants that outlived it, which it kills."""
        assert self.process is not None
        family = processes_below(self.process.pid)
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
            except TimeoutError:
                family.add(self.process.pid)
        left = {pid for pid in family if _is_running(pid)}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


def memory_bytes(pid: int, field: str = "Pss:") -> int:
    """Resident memory of a process, of what it shares its part ("Pss:") or all ("Rss:"); OSError when it is gone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
