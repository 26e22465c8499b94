"""A process that may open no more files refuses what is new, goes on with what it has, and recovers by itself."""

import asyncio
import contextlib
import os
import re
import resource
import socket
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from services.cli.local.process import ProcessSpec
from services.cli.local.supervisor import Phase, Supervisor
from services.cli.local.watchdog import ProcessorWait
from services.kit.runtime import metrics, patient_starts
from services.kit.runtime.grpc_io import WITHOUT_EVENT_ENGINE
from services.kit.runtime.mesh_certificates import MeshCertificates
from services.kit.runtime.metrics import MetricsServer
from services.kit.runtime.open_files import is_out_of_files, open_files
from services.kit.runtime.patient_starts import FAILED_STARTS, start_worker_patiently
from services.kit.runtime.setting_groups import MeshTlsSettings
from services.kit.runtime.settings import ServiceAddress
from services.kit.runtime.workers import end_worker, start_worker
from services.polygon_ws.connection import FeedConnection, Timing
from services.polygon_ws.core import FeedBuffer
from services.polygon_ws.vendor_answers import Subscriptions
from tests.integration.test_fork_server import ran, serving
from tests.support.certificates import Authority
from tests.support.few_files import open_numbers, out_of_files, with_few_files
from tests.support.vendor_server import VendorServer

# Waits for its input, which never comes.
MODULE: Final = "services.data_ingest.reference.process"
# More than the start of a child opens.
FILES_OF_A_START: Final = 16
OPEN_FILES: Final = 128
# Half of the limit is left to the service.
ROOM: Final = 64
SERVICE: Final = """
import asyncio, sys
from services.kit.rpc.server import Host
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Address, Settings

class Scanner(Service):
    name = "scanner"

async def main():
    address = Address("127.0.0.1", 0)
    host = Host(Scanner(Settings(addresses={"scanner": address}, metrics_port_offset=0)))
    await host.start()
    print("listening", host.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await host.stop()

asyncio.run(main())
"""
READINESS: Final = """
import asyncio
from services.cli.local.mesh import readiness
from services.kit.runtime.settings import Address
from services.modules import by_name
from tests.support.certificates import Authority
from tests.support.few_files import out_of_files

async def main():
    is_ready = readiness(by_name("scanner"), Address("127.0.0.1", 1))
    assert not await is_ready()
    with out_of_files():
        assert not await is_ready()
    print("lives")

asyncio.run(main())
"""
STREAM: Final = """
import asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from services.kit.rpc.channel import Connection, StreamEnded, open_channel
from services.kit.runtime.logging import configure
from services.kit.runtime.settings import Settings
from tests.support.certificates import Authority
from tests.support.few_files import out_of_files

async def main():
    configure(Settings(), "scanner")
    async with open_channel("127.0.0.1:1") as channel:
        with out_of_files(is_strict=True):
            try:
                with Connection(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()), 60) as call:
                    await call.read()
            except StreamEnded as error:
                print(ascii(str(error)))

asyncio.run(main())
"""


# --- children


async def test_a_worker_that_cannot_be_started_leaves_nothing_open() -> None:
    await end_worker(await start_worker(MODULE, b""))
    before = open_numbers(os.getpid())
    for left in range(FILES_OF_A_START):
        with out_of_files(left=left):
            try:
                process = await start_worker(MODULE, b"")
            except OSError as error:
                assert is_out_of_files(error), left
                continue
        await end_worker(process)
    # What a child had is closed a turn later.
    await asyncio.sleep(0)
    assert open_numbers(os.getpid()) == before


async def test_a_worker_is_waited_for_until_it_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_starts, "RETRY_SECONDS", 0.01)
    failures = FAILED_STARTS.labels(MODULE)._value
    before = failures.get()
    async with asyncio.timeout(60):
        with out_of_files():
            starting = asyncio.create_task(start_worker_patiently(MODULE, b""))
            while failures.get() < before + 3:
                assert not starting.done()
                await asyncio.sleep(0.01)
        await end_worker(await starting)


def test_the_supervisor_tries_again_and_the_others_run_on(tmp_path: Path) -> None:
    """With the loop that `tradeul up` has."""
    asyncio.run(_restart_out_of_files(tmp_path))


async def _restart_out_of_files(tmp_path: Path) -> None:
    wait = "import time; time.sleep(600)"
    specs = [ProcessSpec(name=name, command=(sys.executable, "-c", wait), stop_seconds=0.2) for name in ("a", "b")]
    supervisor = Supervisor(specs, lambda name, line: None)
    await supervisor.start()
    try:
        async with asyncio.timeout(60):
            pids = supervisor.pids
            with out_of_files():
                os.kill(pids["a"], 9)
                # It has been tried, and is going to be tried again.
                while supervisor.starts("a") < 3:
                    await asyncio.sleep(0.01)
                assert supervisor.pids == {"b": pids["b"]}
            while supervisor.phases["a"] is not Phase.READY:
                await asyncio.sleep(0.01)
            assert supervisor.pids["b"] == pids["b"]
    finally:
        await supervisor.stop()


def test_who_waits_for_a_processor_is_known_without_a_file_to_open() -> None:
    wait = ProcessorWait(os.getpid())
    try:
        # This process has waited at some time.
        before = wait.seconds()
        with out_of_files():
            assert wait.seconds() >= before > 0
    finally:
        wait.close()


async def test_a_fork_server_refuses_and_serves_again(tmp_path: Path) -> None:
    path = tmp_path / "fork.sock"
    async with serving(path) as supervisor:
        pid = supervisor.pids["fork_server"]
        for left in range(3):
            with out_of_files(pid, left):
                for _ in range(3):
                    with contextlib.suppress(OSError):
                        await ran(path, "list-targets")
        assert (await ran(path, "list-targets"))[0] == 0
        assert supervisor.pids["fork_server"] == pid


async def test_asking_a_service_whether_it_is_ready_does_not_end_the_supervisor() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", READINESS, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert (output, process.returncode) == (b"lives\n", 0)


# --- connections


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def is_taken(reader: asyncio.StreamReader) -> bool:
    """True if gRPC's server speaks first, as it does in HTTP/2; False where it closes the connection."""
    try:
        return bool(await reader.read(1))
    except ConnectionError:
        return False


async def test_connections_beyond_the_open_files_are_closed_and_the_service_can_open_others() -> None:
    async with (
        with_few_files(SERVICE, OPEN_FILES) as port,
        asyncio.timeout(60),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [contextlib.AsyncExitStack() for _ in range(ROOM)]
        for client in clients:
            await stack.enter_async_context(client)
            assert await is_taken(await client.enter_async_context(connected(int(port))))
        for _ in range(OPEN_FILES):
            async with connected(int(port)) as reader:
                assert not await is_taken(reader)
        await clients[0].aclose()
        while True:
            async with connected(int(port)) as reader:
                # Noticed a moment later.
                if await is_taken(reader):
                    break


@pytest.mark.parametrize("experiments", ["", WITHOUT_EVENT_ENGINE])
async def test_why_a_stream_ended_is_said_once_and_in_words(experiments: str) -> None:
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "GRPC_EXPERIMENTS": experiments}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STREAM, stdout=pipe, stderr=pipe, env=environment
    )
    output, errors = await process.communicate()
    assert re.search(r"socket: Too many open files( \(24\))?'\n$", output.decode())
    assert b"Invalid encoding" not in errors


def test_a_scrape_waits_until_it_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that takes scrapes would use a whole processor up to then."""
    paused = threading.Event()
    monkeypatch.setattr(metrics, "time", SimpleNamespace(sleep=lambda seconds: paused.set()))
    server = MetricsServer(ServiceAddress("127.0.0.1", 0), dict)
    try:
        with socket.socket() as client:
            client.settimeout(60)
            with out_of_files():
                client.connect(("127.0.0.1", server.port))
                client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                assert paused.wait(60)
            assert b" 200 " in client.recv(1 << 16)
    finally:
        server.close()


async def test_the_vendors_line_is_tried_again_soon() -> None:
    """The vendor is not to be spared: it has had no connection."""
    timing = Timing(first_backoff=600, longest_backoff=600, without_files=0.01)
    buffer = FeedBuffer(1)
    async with VendorServer(key="test-key") as vendor:
        connection = FeedConnection(
            vendor.environment["POLYGON_WS_URL"], "test-key", Subscriptions(("T.*",)), buffer.decode, timing=timing
        )
        async with asyncio.timeout(60):
            with out_of_files(is_strict=True):
                running = asyncio.create_task(connection.run())
                while connection.reconnects < 3:
                    await asyncio.sleep(0.01)
            await vendor.joins(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_renewed_certificate_that_could_not_be_read_is_read_later(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    pair = authority.certificate("mesh", "DNS:tradeul", usage="serverAuth,clientAuth")
    settings = MeshTlsSettings(
        cert_file=pair.certificate, key_file=pair.key, ca_file=authority.pair.certificate, name="tradeul"
    )
    certificates = MeshCertificates(settings)
    before = certificates.current()
    renewed = authority.certificate("renewed", "DNS:tradeul", usage="serverAuth,clientAuth")
    renewed.key.replace(pair.key)
    renewed.certificate.replace(pair.certificate)
    with out_of_files():
        assert certificates.current() is before
    assert certificates.current().certificate == pair.certificate.read_bytes() != before.certificate


# --- what is known of them


async def test_open_files_are_counted() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert await open_files() == (len(open_numbers(os.getpid())), soft)
    with out_of_files():
        counted = await open_files()
        assert counted is not None
        assert counted.used >= counted.limit
