"""Loads of data_maintenance by the historical service: progress, cancelling, restarts of that service, other loads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from tradeul.v1 import data_maintenance_pb2, historical_pb2, historical_pb2_grpc

from services.data_maintenance import load_task
from services.kit.rpc.channel import open_channel
from tests.support.mesh import free_ports
from tests.support.running_maintenance import (
    WAIT_SECONDS,
    Message,
    Replica,
    SetClock,
    empty,
    running_calendar,
    running_historical,
    running_replica,
    settings_of,
)
from tests.support.split_market import SplitMarket
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


class Vendor:
    """A market whose 5-minute bars can be withheld: the load that asks for them goes on asking."""

    def __init__(self) -> None:
        self.market = SplitMarket(8, days=34)
        self.is_open = True
        self.refused = ""
        self.asked = asyncio.Event()

    @property
    def eve(self) -> date:
        return self.market.history[-1]

    def rest(self, path: str, query: Mapping[str, str]) -> Any:
        if self.refused and f"/ticker/{self.refused}/" in path:
            return HTTPStatus.BAD_REQUEST
        if "/range/5/minute/" in path:
            self.asked.set()
            if not self.is_open:
                return HTTPStatus.SERVICE_UNAVAILABLE
        return self.market.rest(path, dict(query))


class Mesh:
    """A vendor, the settings of data_maintenance and of the historical service, and the database."""

    def __init__(self, vendor: Vendor, settings: Mapping[str, str], database: asyncpg.Connection, port: int) -> None:
        self.vendor = vendor
        self.settings = {**settings, "TRADEUL_HISTORICAL_ADDRESS": f"127.0.0.1:{port}"}
        self.database = database
        self.port = port

    def historical(self) -> contextlib.AbstractAsyncContextManager[int]:
        return running_historical(self.settings, self.port)

    def replica(self) -> contextlib.AbstractAsyncContextManager[Replica]:
        return running_replica(self.settings, SetClock(NOW), catch_up=False)

    async def load_slots(self, replica: Replica) -> Message:
        return await replica.run_task("load_volume_slots", str(self.vendor.eve))

    async def jobs(self) -> list[str]:
        """The states of all loads of slots, oldest first."""
        query = "SELECT state FROM load_jobs WHERE kind = 'slots' ORDER BY job_id"
        return [row["state"] for row in await self.database.fetch(query)]


@pytest_asyncio.fixture
async def mesh(stores: Stores) -> AsyncIterator[Mesh]:
    await empty(stores)
    vendor, [port] = Vendor(), free_ports(1)
    database = await asyncpg.connect(stores.database_url)
    await database.execute("TRUNCATE load_jobs, load_problems, load_units, slot_days, ticker_universe")
    try:
        async with VendorServer(vendor.rest) as server, running_calendar() as calendar:
            yield Mesh(vendor, settings_of(stores, calendar, server.environment), database, port)
    finally:
        await database.close()


async def until(enough: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await enough():
            await asyncio.sleep(0.05)


async def test_progress_and_failed_symbols_are_the_runs(mesh: Mesh) -> None:
    async with mesh.historical(), mesh.replica() as replica:
        run = await replica.ended((await mesh.load_slots(replica)).id)
        symbols = len(mesh.vendor.market.symbols)
        assert run.state == Message.SUCCEEDED, run
        assert run.counts["slots_loaded"] == symbols and run.counts["slots_rows"] > 0
        [job_id] = await mesh.database.fetch("SELECT job_id FROM load_jobs")
        assert run.counts["slots_load"] == job_id["job_id"]
        # Of so few symbols one that fails is more than a run may lack.
        mesh.vendor.refused = symbol = next(iter(mesh.vendor.market.by_name))
        await mesh.database.execute("DELETE FROM load_units")
        run = await replica.ended((await mesh.load_slots(replica)).id)
        assert (run.state, run.error) == (Message.FAILED, f"slots: 1 of {symbols} could not be had")
        assert run.failed_count == 1 and list(run.failed_symbols) == [symbol]


async def test_a_cancelled_run_cancels_its_load(mesh: Mesh) -> None:
    mesh.vendor.is_open = False
    async with mesh.historical(), mesh.replica() as replica:
        run = await mesh.load_slots(replica)
        await mesh.vendor.asked.wait()
        await replica.until(lambda runs: runs[0].step.startswith("slots: 5-minute"))
        assert await mesh.jobs() == ["RUNNING"]
        await replica.stub.CancelRun(data_maintenance_pb2.CancelRunRequest(run_id=run.id))
        assert (await replica.ended(run.id)).state == Message.CANCELLED
        assert await mesh.jobs() == ["CANCELLED"]


async def test_a_load_goes_on_when_its_service_is_back(mesh: Mesh) -> None:
    mesh.vendor.is_open = False
    async with mesh.replica() as replica:
        async with mesh.historical():
            run = await mesh.load_slots(replica)
            await mesh.vendor.asked.wait()
        assert await mesh.jobs() == ["CANCELLED"]
        mesh.vendor.is_open = True
        async with mesh.historical():
            ended = await replica.ended(run.id)
    assert (ended.state, ended.attempt) == (Message.SUCCEEDED, 1), ended
    assert await mesh.jobs() == ["CANCELLED", "SUCCEEDED"]


async def test_another_load_of_the_kind_is_waited_for(mesh: Mesh) -> None:
    mesh.vendor.is_open = False
    async with mesh.historical(), mesh.replica() as replica, open_channel(f"127.0.0.1:{mesh.port}") as channel:
        stub: Any = historical_pb2_grpc.HistoricalServiceStub(channel)
        await stub.StartLoad(historical_pb2.StartLoadRequest(kind="slots"))
        run = await mesh.load_slots(replica)
        await replica.until(lambda runs: runs[0].step == "slots: waiting for another load to end")
        mesh.vendor.is_open = True
        ended = await replica.ended(run.id)
        assert ended.state == Message.SUCCEEDED, ended
        # All that the first one had stored is skipped.
        assert ended.counts["slots_skipped"] == len(mesh.vendor.market.symbols)
    assert await mesh.jobs() == ["SUCCEEDED"] * 2


async def test_a_service_that_stays_away_fails_the_run(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_task, "PATIENCE_SECONDS", 0.3)
    async with mesh.replica() as replica:
        run = await replica.ended((await mesh.load_slots(replica)).id)
    assert run.state == Message.FAILED
    assert run.error.startswith("slots: the historical service does not answer: ")


async def test_the_error_of_a_load_is_the_runs(mesh: Mesh) -> None:
    async with mesh.historical(), mesh.replica() as replica:
        run = await replica.ended((await replica.run_task("load_volume_slots", "2025-06-02")).id)
    assert run.state == Message.FAILED
    assert run.error == "slots: no slots of any of the 30 days before 2025-06-03 are stored"
