"""WebSocket fan-out: one list to 2,000 clients, by the mesh's WebSocket server and by a minimal Node `ws` server.

Both send the same texts to the same clients (bench.ws_clients). Ours makes them of the scanner's gRPC stream on
the way, the peer gets them ready-made. Then ours alone, in each form that a client may take the messages in: whole rows
or changed fields only, compressed or not, of a list as the compiled core changes it.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx
from tradeul.v1 import scanner_pb2

from bench.report import Figures, Report
from bench.workload import EPOCH, SECOND, Workload
from bench.ws_clients import LIST
from fastcore.changed_fields import changed_list_delta
from fastcore.market import Market
from fastcore.ranked_list import ListUpdate
from services.kit.lists.definitions import load_lists
from services.kit.runtime.clock import monotonic
from services.websocket_server.list_feed import ListFeed
from tests.support.mesh import free_ports
from tests.support.scripted_scanner import ScriptedList, ScriptedScanner, scripted_scanner, ticker_row

ROWS = 100
CHANGED_ROWS = 10
UPDATES_PER_SECOND = 4
BURST_UPDATES = 16
PEER = Path("build/ws_peer")
PEER_PACKAGE = "ws@8"


class Size(NamedTuple):
    clients: int
    paced_updates: int
    bursts: int
    rounds: int
    # Of the forms: clients, symbols and trades a second, and paced updates.
    form_clients: int
    form_symbols: int
    trades_per_second: int
    form_updates: int

    @property
    def updates(self) -> int:
        return self.paced_updates + self.bursts * BURST_UPDATES


FULL = Size(
    clients=2_000, paced_updates=20, bursts=6, rounds=3,
    form_clients=500, form_symbols=12_000, trades_per_second=10_000, form_updates=16,
)  # fmt: skip
LONG = FULL._replace(paced_updates=32, form_updates=24)
SMALL = Size(
    clients=100, paced_updates=8, bursts=2, rounds=1,
    form_clients=50, form_symbols=1_000, trades_per_second=1_000, form_updates=8,
)  # fmt: skip
FORM_BURSTS = 3


class Form(NamedTuple):
    """How clients take the messages. `argument` is that of bench.ws_clients."""

    argument: str
    deflates: bool
    changed_fields_only: bool


FORMS = {
    "whole rows": Form("", False, False),
    "whole rows, deflate": Form("deflate", True, False),
    "changed fields": Form("changed", False, True),
    "changed fields, deflate": Form("deflate,changed", True, True),
}
PLAIN = FORMS["whole rows"]
# The form that the dashboard takes.
BOTH = "changed fields, deflate"


class Update(NamedTuple):
    """One change of the list: the scanner's response, and the payload of the message that clients get."""

    response: bytes
    text: bytes


class CoreList(ScriptedList):
    """A list at a position of the core's; what changes it are responses that were made before."""

    def __init__(self, snapshot: bytes) -> None:
        self._message = scanner_pb2.RankedList.FromString(snapshot)
        super().__init__(LIST, self._message.epoch, self._message.sequence)

    def snapshot(self) -> scanner_pb2.RankedList:
        return self._message


class FormWork(NamedTuple):
    """The list before, as a RankedList, and its updates in each form."""

    snapshot: bytes
    updates: dict[str, list[Update]]


class Contestant(Protocol):
    """A server under test. `pid` is the process that is measured."""

    port: int
    pid: int

    async def publish(self, updates: list[Update]) -> None: ...


class Measured(NamedTuple):
    burst_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_percent: float
    kb_per_client: float


def payload(frame: bytes) -> bytes:
    """The text in a server's frame."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def make_updates(scanner: ScriptedScanner, count: int) -> tuple[bytes, list[Update]]:
    """The first snapshot's text and `count` updates, of a list as it changes in a busy market."""
    rng = random.Random(1)
    each = scanner.lists[LIST]
    each.change_to([ticker_row(rng, f"S{i:03}") for i in range(ROWS)])
    feed = ListFeed(LIST)
    feed.load(each.snapshot().SerializeToString())
    snapshot = payload(feed.snapshot())
    updates = []
    for _ in range(count):
        rows = list(each.rows)
        for at in rng.sample(range(ROWS), CHANGED_ROWS):
            rows[at] = ticker_row(rng, rows[at].symbol)
        at = rng.randrange(ROWS - 1)
        rows[at : at + 2] = rows[at + 1], rows[at]
        delta = each.step(rows)
        encoded = delta.SerializeToString()
        feed.apply(encoded)
        updates.append(Update(response_of(encoded), payload(feed.changes_after(delta.sequence - 1))))
    return snapshot, updates


def response_of(delta: bytes) -> bytes:
    from services.kit.rpc.envelope import LIST as ENVELOPE

    return ENVELOPE.wrap("delta", delta)


def make_form_work(size: Size) -> FormWork:
    """The core's list while the market trades, and its messages in each form; AssertionError if these disagree."""
    workload = Workload(size.form_symbols)
    market = Market(load_lists(), EPOCH)
    for frame in workload.startup_frames():
        market.apply(frame)

    def steps(batches: int, rows: int, per_second: int) -> Iterator[ListUpdate]:
        for batch in workload.trades(batches, rows, per_second):
            market.apply(workload.frame(trades=batch.message()))
            for update in market.apply(workload.watermark(int(batch.time_ns.max()))):
                if update.list == LIST:
                    yield update
        workload.start_ns += batches * rows * SECOND // per_second

    # Enough for a hundred symbols to be traded as much as the list demands.
    for _ in steps(20, 20_000, 80_000):
        pass
    snapshot = market.snapshot(LIST)
    feeds = {form: ListFeed(LIST, changed_fields_only=form.changed_fields_only) for form in FORMS.values()}
    for feed in feeds.values():
        feed.load(snapshot)
    updates: dict[str, list[Update]] = {name: [] for name in FORMS}
    count = size.form_updates + FORM_BURSTS * BURST_UPDATES
    for update in steps(count, size.trades_per_second // UPDATES_PER_SECOND, size.trades_per_second):
        for name, form in FORMS.items():
            feed, delta = feeds[form], bytes(update.delta)
            if form.changed_fields_only:
                delta = changed_list_delta(delta, update.changed)
            feed.apply(delta)
            text = payload(feed.changes_after(update.previous_sequence, deflates=form.deflates))
            updates[name].append(Update(response_of(delta), text))
    if len({feed.snapshot() for feed in feeds.values()}) != 1:
        raise AssertionError("expected the same rows in all forms")
    if any(len(each) != count for each in updates.values()):
        raise AssertionError(f"expected {count} changes of the list, was {len(updates[BOTH])}")
    return FormWork(snapshot, updates)


class Ours:
    """`tradeul serve websocket_server`, fed by a scripted scanner in this process."""

    def __init__(self, scanner: ScriptedScanner, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self._scanner = scanner

    async def publish(self, updates: list[Update]) -> None:
        each = self._scanner.lists[LIST]
        # Those who follow it all want the same form.
        for update in updates:
            for stream in each.streams | each.patch_streams:
                stream.put_nowait(update.response)
        await asyncio.sleep(0)


class Peer:
    """bench/ws_peer.mjs; its standard input takes the texts."""

    def __init__(self, process: Process, port: int) -> None:
        self.port = port
        self.pid = process.pid
        self._process = process

    async def publish(self, updates: list[Update]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"".join(update.text + b"\n" for update in updates))
        await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def ended(process: Process) -> AsyncIterator[Process]:
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def ours(snapshot: bytes) -> AsyncIterator[Ours]:
    del snapshot
    async with scripted_scanner(LIST) as scanner:
        make_first(scanner)
        async with served(scanner) as running:
            yield running


@contextlib.asynccontextmanager
async def served(scanner: ScriptedScanner) -> AsyncIterator[Ours]:
    """The WebSocket server of that scanner's lists, once it is ready."""
    (port,) = free_ports(1)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))},
        "TRADEUL_WEBSOCKET_SERVER_ADDRESS": f"127.0.0.1:{port}",
        "TRADEUL_SCANNER_ADDRESS": scanner.address,
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        "TRADEUL_LOG_LEVEL": "error",
    }
    command = (sys.executable, "-m", "services.cli.main", "serve", "websocket_server")
    async with ended(await asyncio.create_subprocess_exec(*command, env=environment)) as process:
        async with asyncio.timeout(30), httpx.AsyncClient() as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK:
                        break
                await asyncio.sleep(0.05)
        yield Ours(scanner, port, process.pid)


def make_first(scanner: ScriptedScanner) -> None:
    """The list as it is in the first snapshot."""
    rng = random.Random(1)
    scanner.lists[LIST].change_to([ticker_row(rng, f"S{i:03}") for i in range(ROWS)])


@contextlib.asynccontextmanager
async def peer(snapshot: bytes) -> AsyncIterator[Peer]:
    command = ("node", str(PEER / "ws_peer.mjs"))
    async with ended(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)) as process:
        assert process.stdin is not None and process.stdout is not None
        port = int(await process.stdout.readline())
        process.stdin.write(snapshot + b"\n")
        await process.stdin.drain()
        yield Peer(process, port)


class Clients:
    """The process of bench.ws_clients."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(300):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the benchmark's clients ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure_one(
    contestant: Contestant,
    updates: list[Update],
    size: Size,
    form: Form = PLAIN,
    sequence: int = 1,
) -> Measured:
    """Updates at the pace of a quiet list, then as many at once as a client may be behind.

    `sequence`: that of the list before them.
    """
    bytes_before = resident_bytes(contestant.pid)
    arguments = (str(contestant.port), str(size.clients), form.argument)
    command = (sys.executable, "-m", "bench.ws_clients", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 26)
    async with ended(process):
        clients = Clients(process)
        await clients.answer()
        sent: dict[int, float] = {}
        cpu_before, began = cpu_seconds(contestant.pid), monotonic()
        for update in updates[: size.paced_updates]:
            sequence += 1
            await asyncio.sleep(max(0.0, began + len(sent) / UPDATES_PER_SECOND - monotonic()))
            sent[sequence] = monotonic()
            await contestant.publish([update])
        await clients.ask(f"wait {sequence}")
        cpu_percent = (cpu_seconds(contestant.pid) - cpu_before) / (monotonic() - began) * 100
        # After all clients are served: the memory of a client that keeps up.
        kb_per_client = (resident_bytes(contestant.pid) - bytes_before) / size.clients / 1024
        delays = await clients.ask(f"delays {json.dumps(sent)}")
        if delays["delivered"] != size.clients * size.paced_updates:
            expected = size.clients * size.paced_updates
            raise AssertionError(f"expected {expected} deltas delivered, was {delays['delivered']}")
        # Ours encodes its texts itself; unless they equal the peer's, the contestants do different work.
        expected_bytes = size.clients * sum(len(update.text) for update in updates[: size.paced_updates])
        if delays["delivered_bytes"] != expected_bytes:
            raise AssertionError(f"expected {expected_bytes} bytes of deltas, was {delays['delivered_bytes']}")
        rest = updates[size.paced_updates :]
        began = monotonic()
        for begin in range(0, len(rest), BURST_UPDATES):
            await contestant.publish(rest[begin : begin + BURST_UPDATES])
            sequence += BURST_UPDATES
            await clients.ask(f"wait {sequence}")
        per_s = size.clients * len(rest) / (monotonic() - began)
    return Measured(per_s, delays["p50_ms"], delays["p99_ms"], cpu_percent, kb_per_client)


def install_peer() -> str | None:
    """Node's `ws` in build/; why not, when it cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no node"
    PEER.mkdir(parents=True, exist_ok=True)
    if not (PEER / "node_modules/ws").exists():
        options = ("--silent", "--no-audit", "--no-fund", "--fetch-retries=1")
        command = ("npm", "install", *options, "--prefix", str(PEER), PEER_PACKAGE)
        if subprocess.run(command, check=False).returncode:
            return f"npm cannot install {PEER_PACKAGE}"
    # Node looks for packages beside the script.
    shutil.copy(Path(__file__).with_name("ws_peer.mjs"), PEER / "ws_peer.mjs")
    return None


async def measure_forms(report: Report, size: Size) -> None:
    """Each form beside the others, of the same changes."""
    work = make_form_work(size)
    size = size._replace(clients=size.form_clients, paced_updates=size.form_updates)
    sequence = scanner_pb2.RankedList.FromString(work.snapshot).sequence
    measured: dict[str, Measured] = {}
    for name, form in FORMS.items():
        report.step(f"{size.clients:,} clients, {name}")
        async with scripted_scanner(LIST) as scanner:
            scanner.lists[LIST] = CoreList(work.snapshot)
            async with served(scanner) as running:
                measured[name] = await measure_one(running, work.updates[name], size, form, sequence)
    kb_per_s = {
        name: statistics.mean(len(update.text) for update in updates) * UPDATES_PER_SECOND / 1024
        for name, updates in work.updates.items()
    }
    whole = kb_per_s["whole rows"]
    market = f"{size.trades_per_second:,} trades/s of {size.form_symbols:,} symbols"
    work_text = f"{size.clients} clients on one list, {UPDATES_PER_SECOND} changes/s, {market}"
    figures: dict[str, tuple[str, dict[str, float]]] = {
        "kb_per_s": ("KB/s to each client", {name: round(each, 1) for name, each in kb_per_s.items()}),
        "fewer_bytes": ("times fewer bytes", {name: round(whole / each, 1) for name, each in kb_per_s.items()}),
    }
    for field, digits, unit in (
        ("burst_per_s", 0, f"messages/s delivered, {BURST_UPDATES} updates at once"),
        ("p50_ms", 2, "ms from update to client"),
        ("p99_ms", 2, "ms from update to client"),
        ("cpu_percent", 1, "% of a core, the server alone"),
    ):
        figures[field] = (unit, {name: round(getattr(each, field), digits) for name, each in measured.items()})
    report.add(
        {
            f"ws_form_{name}": {"value": values.pop(BOTH), "unit": f"{unit}, {BOTH}; {work_text}", "peers": values}
            for name, (unit, values) in figures.items()
        }
    )


async def measure(report: Report, size: Size) -> None:
    async with scripted_scanner(LIST) as scanner:
        snapshot, updates = make_updates(scanner, size.updates)
    contestants: dict[str, Any] = {"ours": ours}
    report.step("installing the peer")
    if (why := install_peer()) is None:
        contestants["node ws"] = peer
    else:
        raise RuntimeError(f"the peer cannot run: {why}")
    results: dict[str, list[Measured]] = {name: [] for name in contestants}
    for turn in range(size.rounds):
        for name, contestant in contestants.items():
            report.step(f"{size.clients:,} clients of {name}, round {turn + 1} of {size.rounds}")
            async with contestant(snapshot) as running:
                results[name].append(await measure_one(running, updates, size))
    medians = {
        name: Measured(*[statistics.median(values) for values in zip(*rounds, strict=True)])
        for name, rounds in results.items()
    }
    text_bytes = statistics.mean(len(update.text) for update in updates)
    work = f"{size.clients} clients on one list, changes of {text_bytes / 1024:.1f} KB"
    units = {
        "ws_delivered_per_s": ("burst_per_s", 0, f"messages/s delivered, {BURST_UPDATES} updates at once; {work}"),
        "ws_p50_ms": ("p50_ms", 2, f"ms from update to client, {UPDATES_PER_SECOND} updates/s; {work}"),
        "ws_p99_ms": ("p99_ms", 2, f"ms from update to client, {UPDATES_PER_SECOND} updates/s; {work}"),
        "ws_cpu_percent": ("cpu_percent", 1, f"% of a core, the server alone, {UPDATES_PER_SECOND} updates/s; {work}"),
        "ws_kb_per_client": ("kb_per_client", 1, f"KB resident per client; {work}"),
    }
    figures: Figures = {
        name: {
            "value": round(getattr(medians["ours"], field), digits),
            "unit": unit,
            "peers": {
                each: round(getattr(median, field), digits) for each, median in medians.items() if each != "ours"
            },
        }
        for name, (field, digits, unit) in units.items()
    }
    report.add(figures)
    await measure_forms(report, size)
