"""The mesh under test: a known market behind a proxy, `tradeul up`, and clients of every protocol that check it all."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import httpx

from services.cli.local.embedded import postgres_url, redis_url
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from tests.robustness.faults.alerts import AlertWatcher
from tests.support.fault_proxy import FaultProxy
from tests.support.known_market import Body, KnownMarket
from tests.support.mesh import TRADEUL, Mesh, command_words, free_ports, processes_below
from tests.support.mesh_view import mesh_view
from tests.support.scripted_day import ScriptedDay, baselines, reference_numbers
from tests.support.set_clock import SetClock
from tests.support.small_disk import small_disk
from tests.support.vendor_server import VendorServer, text_frame
from tests.support.watchers import EventWatcher, GrpcWatcher, RedisWatcher, ShownRow, SocketWatcher, Watcher

log = get_logger(__name__)

# The market's seconds in one of ours: its minutes, after which the vendor's bars come, are not too long.
SPEED: Final = 4
TICK_SECONDS: Final = 0.05
FRAME_EVENTS: Final = 40
# After which a task that has not ended is cancelled again.
AGAIN_SECONDS: Final = 1.0
# A list in which every symbol of the market is.
WHOLE_LIST: Final = "filtered"
OTHER_LIST: Final = "gappers_up"
HUNG_SECONDS: Final = 5
# Enough for the data of one mesh, and a copy.
DISK_BYTES: Final = 1 << 30
POSTGRES_BYTES: Final = 384 << 20
MARKET: Final = "vendor"
# The process from which services are forked.
FORK_SERVER: Final = "fork_server"
# Of the mesh: with one sequencer, or with a standby, for which readers do not wait, or do; or with one by a wall clock
# that can be set.
Kind = Literal["one", "pair", "synchronous pair", "wall clock"]
# What no price or volume of the market may be beyond by.
TOLERANCE: Final = 1e-6
# Programs of the processes that are none of ours.
PROGRAMS: Final = {"redis": ("valkey-server", "redis-server"), "postgres": ("postgres",), "gateway": ("envoy",)}


class Ledger:
    """What must not happen, with an example of each, counted since it was taken last."""

    def __init__(self, market: KnownMarket) -> None:
        self._market = market
        self._counts: Counter[str] = Counter()
        self.examples: list[str] = []

    def note(self, kind: str, example: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= 3:
            self.examples.append(f"{kind}: {example}")
            log.error("a promise is broken", kind=kind, example=example)

    def broken(self, what: str) -> None:
        """A watcher was sent a change that does not follow."""
        self.note("repeats" if "a repeat" in what else "holes", what)

    def check(self, rows: Iterable[ShownRow], where: str) -> None:
        """No row may show more than has happened."""
        for row in rows:
            truth = self._market.truth.get(row.symbol)
            if truth is None:
                self.note("false rows", f"{where} {row.symbol}: there is no such symbol")
                continue
            if row.volume is not None and row.volume > truth.volume + TOLERANCE:
                self.note("repeats", f"{where} {row.symbol}: volume {row.volume} of {truth.volume}")
            if row.trades is not None and row.trades > truth.trades:
                self.note("repeats", f"{where} {row.symbol}: {row.trades} trades of {truth.trades}")
            if row.high is not None and row.high > truth.high + TOLERANCE:
                self.note("false highs", f"{where} {row.symbol}: high {row.high}, was {truth.high}")
            if row.low is not None and row.low < truth.low - TOLERANCE:
                self.note("false highs", f"{where} {row.symbol}: low {row.low}, was {truth.low}")

    def take(self) -> tuple[Counter[str], list[str]]:
        """The counts and examples since the last call."""
        counts, examples = self._counts, self.examples
        self._counts, self.examples = Counter(), []
        return counts, examples


class Feed:
    """The vendor as it sends: the market at an even pace, and what faults make of it.

    `unchecked` are the events sent since the twin took them. `clock`: the mesh's, with which the market keeps pace;
    None for one that is as fast as it likes. `skew_ms`: the vendor's own clock is so much ahead.
    """

    def __init__(self, market: KnownMarket, vendor: VendorServer) -> None:
        self.clock: SetClock | None = None
        self.skew_ms = 0
        self.market = market
        self.vendor = vendor
        self.unchecked: list[Body] = []
        self.is_paused = True
        # What the vendor keeps back, to send it all at once; None where nothing is.
        self.withheld: list[bytes] | None = None
        # Trades of the last minutes, to be sent again.
        self.newest: list[Body] = []
        self._reached_ms = float(market.now_ms)

    async def run(self) -> None:
        """Sends until cancelled."""
        last = monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = monotonic()
            # Nothing is caught up on: a program that was held up is no burst.
            passed, last = min(now - last, 1.0), now
            if not self.is_paused:
                if self.clock is None:
                    self._reached_ms += passed * SPEED * 1000
                else:
                    self._reached_ms = self.clock.right_ms()
                self.send(self.market.advance(int(self._reached_ms)))

    async def flush(self) -> int:
        """Pauses at the market's next full ten seconds, which lists then stand at; returns that time, in ms."""
        if self.clock is not None:
            time_ms = self.market.next_full_ms - 2000 * TICK_SECONDS
            while self.clock.right_ms() < time_ms:
                await asyncio.sleep(TICK_SECONDS / 2)
        self.is_paused = True
        time_ms = self.market.next_full_ms
        self.send(self.market.flush())
        self._reached_ms = float(self.market.now_ms)
        return time_ms

    def send(self, bodies: list[Body]) -> None:
        """Sends events that are new."""
        self.unchecked += bodies
        self.newest = [*self.newest, *bodies][-3000:]
        if self.skew_ms:
            bodies = [moved(body, self.skew_ms) for body in bodies]
        for frame in frames(bodies):
            if self.withheld is not None:
                self.withheld.append(frame)
            else:
                self.vendor.push(frame)

    def release(self) -> None:
        """Sends at once what was kept back."""
        withheld, self.withheld = self.withheld or [], None
        for frame in withheld:
            self.vendor.push(frame)


def moved(body: Body, by_ms: int) -> Body:
    """An event with another time; a trade's "s" is its size."""
    times = ("t",) if body["ev"] == "T" else ("s", "e")
    return {**body, **{key: body[key] + by_ms for key in times}}


def frames(bodies: list[Body]) -> Iterable[bytes]:
    """Events as the vendor's messages."""
    for first in range(0, len(bodies), FRAME_EVENTS):
        yield text_frame(json.dumps(bodies[first : first + FRAME_EVENTS]).encode())


class Standby:
    """A second data_ingest, which somebody starts again whenever it ends."""

    def __init__(self, address: str, environment: Mapping[str, str], log_path: Path) -> None:
        self.address = address
        self.process: asyncio.subprocess.Process | None = None
        self._environment = environment
        self._log_path = log_path

    async def run(self) -> None:
        """Keeps it running until cancelled, then stops it."""
        try:
            while True:
                with self._log_path.open("ab") as output:
                    self.process = await asyncio.create_subprocess_exec(
                        *TRADEUL, "serve", "data_ingest", env=self._environment, stdout=output, stderr=output
                    )
                await self.process.wait()
                await asyncio.sleep(1)
        finally:
            if self.process is not None and self.process.returncode is None:
                self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(signal.SIGTERM)
                await self.process.wait()


class Rig:
    """Made by running_rig(). `is_exact` while no trade can have been lost on its way, so that the twin has them all."""

    def __init__(self, seed: int, folder: Path, market: KnownMarket, vendor: VendorServer, line: FaultProxy) -> None:
        self.rng = random.Random(f"rig {seed}")
        self.folder = folder
        self.market = market
        self.vendor = vendor
        self.line = line
        self.ledger = Ledger(market)
        self.feed = Feed(market, vendor)
        self.is_exact = True
        # What has to run.
        self.expected: set[str] = set()
        # Processes that may open no more files, and that this has to be undone of.
        self.out_of_files = AsyncExitStack()
        self.limited: set[int] = set()
        # Where the data are: small disks of their own, where such can be mounted, of which PostgreSQL has one.
        self.disk = folder / "disk"
        self.has_disk = False
        self.data_dir = self.disk / "data"
        self.postgres_disk = self.data_dir / MARKET / "postgres"
        self.standby: Standby | None = None
        self.watchers: list[Watcher] = []
        self.alerts: AlertWatcher
        self.tasks: list[asyncio.Task[None]] = []
        self.mesh: Mesh
        self.clients: FaultProxy
        self.http: httpx.AsyncClient

    @property
    def day(self) -> ScriptedDay:
        return self.market.day

    @property
    def database_url(self) -> str:
        return postgres_url(self.data_dir / MARKET)

    @property
    def redis_url(self) -> str:
        return redis_url(self.data_dir / MARKET)

    def running(self) -> dict[int, str]:
        """All processes of the mesh, with the service, store or "gateway" that each is of."""
        assert self.mesh.process is not None
        names = {pid: name_of(pid) for pid in processes_below(self.mesh.process.pid)}
        return {pid: name for pid, name in names.items() if name}

    def pids(self, name: str) -> set[int]:
        """The processes of a service, a store, or the gateway."""
        return {pid for pid, each in self.running().items() if each == name}

    def send(self, name: str, how: signal.Signals) -> set[int]:
        """Sends a signal to all processes of a service or a store; returns these."""
        pids = self.pids(name)
        if not pids:
            raise RuntimeError(f"expected {name} to run, did not")
        signal_all(pids, how)
        return pids

    def add_watchers(self) -> None:
        """Clients of every protocol, of both lists; half of them come over the clients' line."""
        direct, proxied = self.mesh.address("gateway"), f"127.0.0.1:{self.clients.port}"
        pairs: list[tuple[type[Watcher], str, str]] = [
            *((kind, direct, WHOLE_LIST) for kind in (GrpcWatcher, EventWatcher, SocketWatcher)),
            *((kind, proxied, OTHER_LIST) for kind in (GrpcWatcher, EventWatcher, SocketWatcher)),
            (SocketWatcher, proxied, WHOLE_LIST),
            *((RedisWatcher, self.redis_url, name) for name in (WHOLE_LIST, OTHER_LIST)),
        ]
        for kind, address, name in pairs:
            watcher = kind(address, name)
            watcher.on_broken = self.ledger.broken
            watcher.on_rows = lambda rows, where=f"{watcher.protocol} {name}": self.ledger.check(rows, where)
            self.watchers.append(watcher)
            self.tasks.append(asyncio.create_task(watcher.run()))
        self.alerts = AlertWatcher(direct, self.ledger.broken)
        self.tasks.append(asyncio.create_task(self.alerts.run()))

    def check_tasks(self) -> None:
        """Raises what ended a watcher or the feed, which nothing may; RuntimeError when the supervisor has ended."""
        assert self.mesh.process is not None
        if self.mesh.process.returncode is not None:
            raise RuntimeError(f"`tradeul up` ended with {self.mesh.process.returncode}:\n{self.mesh.log_tail()}")
        for task in self.tasks:
            if task.done():
                task.result()

    async def begin_on_a_copy(self) -> None:
        """Power loss: all processes end at once, and the mesh begins again with its data of that moment."""
        assert self.mesh.process is not None
        pids = {self.mesh.process.pid, *processes_below(self.mesh.process.pid)}
        # Nothing is written while it is copied: the copy is that of one moment.
        signal_all(pids, signal.SIGSTOP)
        copied = self.disk / "copy"
        await asyncio.to_thread(copy_data, self.data_dir, copied)
        await self.mesh.kill()
        # Where they were, so that PostgreSQL still has a disk of its own.
        await asyncio.to_thread(empty, self.data_dir)
        await asyncio.to_thread(copy_data, copied, self.data_dir)
        await asyncio.to_thread(shutil.rmtree, copied)


def name_of(pid: int) -> str:
    """The service, store, "gateway" or FORK_SERVER that a process is; empty for others, such as a service's worker."""
    try:
        program = Path(f"/proc/{pid}/exe").resolve().name
        words = command_words(pid)
    except OSError:
        return ""
    for name, programs in PROGRAMS.items():
        if program in programs:
            return name
    if words[1:] == [b"fork", b"server"]:
        return FORK_SERVER
    return words[words.index(b"serve") + 1].decode() if b"serve" in words else ""


def signal_all(pids: Iterable[int], how: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def empty(folder: Path) -> None:
    """Removes everything in it but the mounts and what they are in."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif not path.is_mount():
            # One that a mount is in.
            with contextlib.suppress(OSError):
                path.rmdir()


def copy_data(source: Path, target: Path) -> None:
    """All files with their owners and modes; no sockets."""

    def copy(name: str, to: str) -> None:
        shutil.copy2(name, to)
        status = os.stat(name)
        os.chown(to, status.st_uid, status.st_gid)

    def sockets(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if (Path(folder) / name).is_socket()}

    shutil.copytree(source, target, copy_function=copy, ignore=sockets, symlinks=True, dirs_exist_ok=True)
    for path in source.rglob("*"):
        if path.is_dir():
            status = path.stat()
            os.chown(target / path.relative_to(source), status.st_uid, status.st_gid)


async def until_referenced(rig: Rig) -> None:
    """Waits until the mesh has all reference data of the market."""
    day = rig.day
    wanted = {
        "prev_close": len(day.symbols),
        "baseline": sum(baselines(symbol, day.history) is not None for symbol in day.symbols),
        "atr": sum("ATR" in reference_numbers(symbol, day.history) for symbol in day.symbols),
    }
    async with mesh_view(rig.mesh) as view:
        for kind, symbols in wanted.items():
            await view.until_reference(kind, symbols)


@asynccontextmanager
async def running_rig(seed: int, folder: Path, kind: Kind = "one") -> AsyncIterator[Rig]:
    """A mesh that has its reference data and gets the first trades, with all clients."""
    market = KnownMarket(seed)
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(VendorServer(market.rest))
        line = await stack.enter_async_context(FaultProxy("127.0.0.1", vendor.port, seed))
        rig = Rig(seed, folder, market, vendor, line)
        settings = {
            **vendor.environment,
            "POLYGON_WS_URL": f"ws://127.0.0.1:{line.port}/stocks",
            "TRADEUL_CLOCK": "feed",
            "TRADEUL_HALTS_URL": "",
            "TRADEUL_HUNG_SECONDS": str(HUNG_SECONDS),
        }
        rig.has_disk = stack.enter_context(small_disk(rig.disk, DISK_BYTES))
        if rig.has_disk:
            stack.enter_context(small_disk(rig.postgres_disk, POSTGRES_BYTES))
        rig.mesh = Mesh(rig.data_dir, settings)
        rig.mesh.log_path = folder / "mesh.log"
        if kind == "wall clock":
            rig.feed.clock = SetClock(folder, market.start_ms)
            market.server_ms = rig.feed.clock.right_ms
            rig.is_exact = False
            rig.mesh.environment |= {**rig.feed.clock.environment, "TRADEUL_CLOCK": "wall"}
        elif kind != "one":
            rig.mesh.environment["TRADEUL_STANDBY"] = "sync" if kind == "synchronous pair" else "async"
            _add_standby(rig)
        await stack.enter_async_context(rig.mesh)
        rig.clients = await stack.enter_async_context(FaultProxy("127.0.0.1", rig.mesh.ports["gateway"], seed + 1))
        rig.http = await stack.enter_async_context(httpx.AsyncClient(base_url=rig.mesh.url, timeout=2))
        stack.push_async_callback(end_tasks, rig.tasks)
        if rig.standby is not None:
            rig.tasks.append(asyncio.create_task(rig.standby.run()))
        await vendor.joined()
        await until_referenced(rig)
        rig.expected = set(rig.running().values())
        rig.add_watchers()
        rig.feed.is_paused = False
        rig.tasks.append(asyncio.create_task(rig.feed.run()))
        yield rig


def _add_standby(rig: Rig) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    environment = rig.mesh.environment
    environment["TRADEUL_SEQUENCERS"] = f"{rig.mesh.address('data_ingest')},{address}"
    own = {
        "TRADEUL_DATA_INGEST_ADDRESS": address,
        "TRADEUL_DATA_DIR": str(rig.folder / "standby"),
        "TRADEUL_DATABASE_URL": rig.database_url,
        "TRADEUL_REDIS_URL": rig.redis_url,
    }
    rig.standby = Standby(address, {**environment, **own}, rig.folder / "standby.log")


async def end_tasks(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks until all have ended: redis-py takes a cancellation that meets its own timeout for that."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_SECONDS)
