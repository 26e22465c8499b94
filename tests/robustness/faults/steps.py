"""What is done to the mesh: to its processes, the vendor's line, the stores and the clients."""

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, standby_pb2, standby_pb2_grpc

from services.kit.runtime.clock import monotonic
from services.kit.stores.database import DATABASE_ERRORS
from tests.robustness.faults.checks import health_warnings
from tests.robustness.faults.rig import FORK_SERVER, WHOLE_LIST, Rig, end_tasks, frames, signal_all
from tests.support.fault_proxy import FaultProxy
from tests.support.few_files import out_of_files
from tests.support.known_market import Body
from tests.support.mesh import processes_below
from tests.support.raw_ws import TEXT, raw_client
from tests.support.small_disk import fill, make_room
from tests.support.vendor_server import text_frame

Step = Callable[[Rig, random.Random], Awaitable[None]]
Change = Callable[[FaultProxy], object]

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
SLOW_READERS: Final = 10
MOST_SEGMENTS: Final = 20
KNOCK_SECONDS: Final = 0.5
# How a trade can be wrong.
WRONG: Final[tuple[Body, ...]] = (
    {"p": 0}, {"p": -1.5}, {"p": 1e9}, {"s": 0}, {"s": 1e15}, {"p": "12.5"}, {"sym": "no spaces"}, {"ev": "XT"},
    {"t": 0}, {"sym": None}, {"p": None},
)  # fmt: skip
BROKEN_TEXTS: Final = (
    b"", b"[", b'[{"ev":"T","sym":', b"null", b"[[[[]]]]", b"{}", b"\xff\xfe", b'[{"ev":5}]', b"[1,2,3]",
)  # fmt: skip


async def nothing(rig: Rig, rng: random.Random) -> None:
    """For faults that end by themselves."""


def kill(name: str, how: signal.Signals = signal.SIGKILL) -> Step:
    async def inject(rig: Rig, rng: random.Random) -> None:
        rig.send(name, how)

    return inject


def stand_still(name: str) -> Step:
    async def inject(rig: Rig, rng: random.Random) -> None:
        rig.send(name, signal.SIGSTOP)

    return inject


def keep_away(name: str, seconds: float) -> Step:
    """Kills it as often as it is started again."""

    async def inject(rig: Rig, rng: random.Random) -> None:
        until = monotonic() + seconds
        while monotonic() < until:
            signal_all(rig.pids(name), signal.SIGKILL)
            await asyncio.sleep(0.2)

    return inject


def go_on(name: str) -> Step:
    async def heal(rig: Rig, rng: random.Random) -> None:
        # Those that have been started since are not among them, and it does nothing to them.
        signal_all(rig.pids(name), signal.SIGCONT)

    return heal


async def kill_everything(rig: Rig, rng: random.Random) -> None:
    assert rig.mesh.process is not None
    signal_all(processes_below(rig.mesh.process.pid), signal.SIGKILL)


async def stop_fork_server(rig: Rig, rng: random.Random) -> None:
    rig.send(FORK_SERVER, signal.SIGSTOP)
    rig.send("scanner", signal.SIGKILL)


async def kill_up(rig: Rig, rng: random.Random) -> None:
    assert rig.mesh.process is not None
    rig.mesh.process.kill()
    await rig.mesh.process.wait()
    await rig.mesh.start()


async def lose_power(rig: Rig, rng: random.Random) -> None:
    await rig.begin_on_a_copy()
    await rig.mesh.start()


def take_files(name: str) -> Step:
    """Its processes may open no more files, while clients go on connecting."""

    async def inject(rig: Rig, rng: random.Random) -> None:
        rig.limited = rig.pids(name)
        for pid in rig.limited:
            rig.out_of_files.enter_context(out_of_files(pid))
        if name in rig.mesh.ports:
            knocking = asyncio.create_task(_knock(rig.mesh.ports[name]))
            rig.out_of_files.push_async_callback(end_tasks, [knocking])

    return inject


def give_files_back(name: str) -> Step:
    """Raises RuntimeError if one of the processes has ended meanwhile."""

    async def heal(rig: Rig, rng: random.Random) -> None:
        ended = rig.limited - rig.pids(name)
        await rig.out_of_files.aclose()
        if ended:
            raise RuntimeError(f"{name} ended for want of open files")

    return heal


async def take_files_of_the_supervisor(rig: Rig, rng: random.Random) -> None:
    """A service ends that it cannot start again for now."""
    assert rig.mesh.process is not None
    rig.out_of_files.enter_context(out_of_files(rig.mesh.process.pid, is_strict=True))
    rig.send("market_session", signal.SIGKILL)


async def give_files_back_to_the_supervisor(rig: Rig, rng: random.Random) -> None:
    await rig.out_of_files.aclose()


async def _knock(port: int) -> None:
    """Connects again and again; some of these stay."""
    async with contextlib.AsyncExitStack() as stack:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
            await asyncio.sleep(KNOCK_SECONDS)


def on_line(change: Change) -> Step:
    async def inject(rig: Rig, rng: random.Random) -> None:
        change(rig.line)

    return inject


def on_clients(change: Change) -> Step:
    async def inject(rig: Rig, rng: random.Random) -> None:
        change(rig.clients)

    return inject


async def close_every_2_s(rig: Rig, rng: random.Random) -> None:
    for _ in range(5):
        await rig.vendor.close(1001, "going away")
        await asyncio.sleep(2)


async def withhold(rig: Rig, rng: random.Random) -> None:
    rig.feed.withheld = []
    # What has been sent arrives.
    await asyncio.sleep(1)
    rig.line.drop()


async def release(rig: Rig, rng: random.Random) -> None:
    async with asyncio.timeout(60):
        while not rig.vendor.transports():
            await asyncio.sleep(0.05)
    rig.feed.release()


async def repeat_minutes(rig: Rig, rng: random.Random) -> None:
    for frame in frames([body for body in rig.feed.newest if body["ev"] in ("T", "AM")]):
        rig.vendor.push(frame)


async def yesterday_and_garbage(rig: Rig, rng: random.Random) -> None:
    """Taken for today's, each of them would make a false high or a row that does not exist."""
    trades = [body for body in rig.feed.newest if body["ev"] == "T"][-500:]
    old = [
        {**body, "t": body["t"] - DAY_MS, "i": f"old{body['i']}", "p": round(body["p"] * 1.15, 2)} for body in trades
    ]
    wrong: list[Body] = [{**body, "i": f"bad{index}", **rng.choice(WRONG)} for index, body in enumerate(trades[-100:])]
    for frame in frames([*old, *wrong]):
        rig.vendor.push(frame)
    for text in BROKEN_TEXTS:
        rig.vendor.push(text_frame(text))


async def trades_of_the_future(rig: Rig, rng: random.Random) -> None:
    """By the wall clock none of them can be true, whether it is an hour ahead or just more than is let in."""
    trades = [body for body in rig.feed.newest if body["ev"] == "T"][-500:]
    wrong = [
        {**body, "t": rig.market.now_ms + rng.choice((15_000, HOUR_MS)), "i": f"new{index}", "p": body["p"] + 1}
        for index, body in enumerate(trades)
    ]
    for frame in frames(wrong):
        rig.vendor.push(frame)


def set_clock(seconds: float) -> Step:
    async def step(rig: Rig, rng: random.Random) -> None:
        assert rig.feed.clock is not None
        rig.feed.clock.set_by(seconds)

    return step


def set_vendor_clock(ms: int) -> Step:
    async def step(rig: Rig, rng: random.Random) -> None:
        rig.feed.skew_ms = ms

    return step


def start_with_clock(seconds: float) -> Step:
    """Everything begins again with a clock that is so much ahead."""

    async def step(rig: Rig, rng: random.Random) -> None:
        assert rig.feed.clock is not None
        # Nothing has seen it being set.
        assert rig.mesh.process is not None
        pids = processes_below(rig.mesh.process.pid)
        signal_all(pids, signal.SIGSTOP)
        rig.feed.clock.set_by(seconds)
        signal_all(pids, signal.SIGKILL)

    return step


async def refuse_log_in(rig: Rig, rng: random.Random) -> None:
    rig.vendor.key = "another key"
    rig.line.drop()


async def allow_log_in(rig: Rig, rng: random.Random) -> None:
    rig.vendor.key = None


async def evict(rig: Rig, rng: random.Random) -> None:
    await rig.vendor.evict()


def redis_command(*words: str) -> Step:
    async def step(rig: Rig, rng: random.Random) -> None:
        redis: Any = Redis.from_url(rig.redis_url)
        try:
            await redis.execute_command(*words)
        finally:
            await redis.aclose()

    return step


def read_only(is_so: bool) -> Step:
    async def step(rig: Rig, rng: random.Random) -> None:
        connection = await asyncpg.connect(rig.database_url)
        try:
            await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if is_so else 'off'}")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    return step


async def fill_postgres_disk(rig: Rig, rng: random.Random) -> None:
    """Nothing is left of PostgreSQL's own disk."""
    await asyncio.to_thread(fill, rig.postgres_disk)


async def fill_disks(rig: Rig, rng: random.Random) -> None:
    """Nothing is left of the data's disks, and PostgreSQL needs more of it."""
    connection = await asyncpg.connect(rig.database_url)
    try:
        for disk in (rig.disk, rig.postgres_disk):
            await asyncio.to_thread(fill, disk)
        with contextlib.suppress(*DATABASE_ERRORS):
            for _ in range(MOST_SEGMENTS):
                # Of what is written ahead; a full disk has no place for the next.
                await connection.execute("UPDATE market_source SET market = market")
                await connection.execute("SELECT pg_switch_wal()", timeout=10)
    finally:
        connection.terminate()


async def free_disks(rig: Rig, rng: random.Random) -> None:
    """Returns when /health says nothing any more: the journal, too, is tried again once a minute."""
    for disk in (rig.disk, rig.postgres_disk):
        make_room(disk)
    async with asyncio.timeout(120):
        while await health_warnings(rig):
            await asyncio.sleep(0.5)


async def open_slow_readers(rig: Rig, rng: random.Random) -> None:
    """Clients that ask for everything, and never read."""
    subscribe = json.dumps({"action": "subscribe_list", "list": WHOLE_LIST}).encode()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SLOW_READERS):
            client = await stack.enter_async_context(raw_client(rig.mesh.ports["gateway"], receive_buffer=4096))
            await client.upgrade()
            client.send(TEXT, subscribe)
            events = await stack.enter_async_context(raw_client(rig.mesh.ports["gateway"], receive_buffer=4096))
            path = f"/api/v1/scanner/lists/{WHOLE_LIST}:watch"
            events.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.sleep(rng.uniform(5, 10))


# --- two sequencers


async def sequencers(rig: Rig) -> dict[bool, set[int]]:
    """The processes of the sequencer that leads (True), and of the one that stands by (False)."""
    assert rig.standby is not None and rig.standby.process is not None
    first, second = rig.pids("data_ingest"), {rig.standby.process.pid}
    async with asyncio.timeout(60):
        while True:
            for address, pids in ((rig.mesh.address("data_ingest"), first), (rig.standby.address, second)):
                async with grpc.aio.insecure_channel(address) as channel:
                    stub = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await stub.GetSequencerStatus(data_ingest_pb2.GetSequencerStatusRequest(), timeout=2)
                        return {True: pids, False: (first | second) - pids}
            await asyncio.sleep(0.2)


def to_sequencer(is_leader: bool, how: signal.Signals) -> Step:
    """Sends a signal to the one that leads, or to the one that stands by."""

    async def inject(rig: Rig, rng: random.Random) -> None:
        signal_all((await sequencers(rig))[is_leader], how)

    return inject


async def kill_sequencers(rig: Rig, rng: random.Random) -> None:
    found = await sequencers(rig)
    signal_all(found[True] | found[False], signal.SIGKILL)


def kill_sequencer_without_postgres(is_leader: bool) -> Step:
    """What becomes of it cannot be recorded: nobody can take over, nor be waited for no more."""

    async def inject(rig: Rig, rng: random.Random) -> None:
        pids = (await sequencers(rig))[is_leader]
        rig.send("postgres", signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(0, 2))
        signal_all(pids, signal.SIGKILL)

    return inject


async def until_in_sync(rig: Rig) -> None:
    """Waits until the leader waits for its standby."""
    assert rig.standby is not None
    async with asyncio.timeout(60):
        while True:
            for address in (rig.mesh.address("data_ingest"), rig.standby.address):
                async with grpc.aio.insecure_channel(address) as channel:
                    stub = standby_pb2_grpc.StandbyServiceStub(channel)
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        role = await stub.GetSequencerRole(standby_pb2.GetSequencerRoleRequest(), timeout=2)
                        if role.is_in_sync:
                            return
            await asyncio.sleep(0.2)


async def pair_again(rig: Rig, rng: random.Random) -> None:
    """Both go on; returns when one of them leads and the other one stands by."""
    assert rig.standby is not None and rig.standby.process is not None
    signal_all({*rig.pids("data_ingest"), *rig.pids("postgres"), rig.standby.process.pid}, signal.SIGCONT)
    async with asyncio.timeout(60):
        for address in (rig.mesh.address("data_ingest"), rig.standby.address):
            while not await is_serving(address):
                await asyncio.sleep(0.2)


async def is_serving(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
