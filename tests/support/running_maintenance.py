"""data_maintenance in this process with a clock that a test sets; or, as a program, one replica to be killed.

python -m tests.support.running_maintenance SETTINGS_JSON NOW
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import asyncpg
import grpc.aio
from tradeul.v1 import data_maintenance_pb2, data_maintenance_pb2_grpc

from services.data_maintenance.context import Job, Tasks
from services.data_maintenance.service import DataMaintenance
from services.historical.service import Historical
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from tests.support.stores import Stores

Message = data_maintenance_pb2.MaintenanceRun
WAIT_SECONDS = 60
POLL_SECONDS = 0.02
# As quick as replicas of the mesh are patient.
# A lease outlasts a moment in which a busy machine does nothing for its holder.
QUICK: Mapping[str, Any] = {"lease_seconds": 15.0, "retry_seconds": 0.2, "look_seconds": 0.1, "progress_seconds": 0.05}
# Of the process that dies.
SHORT_LEASE_SECONDS = 4.0


class SetClock:
    """A mesh's clock that shows what a test says."""

    kind: Literal["wall", "feed"] = "wall"

    def __init__(self, now: datetime) -> None:
        self.now = now

    def now_ns(self) -> int:
        return int(self.now.timestamp()) * 10**9


class Replica:
    """A data_maintenance that serves, with a client."""

    def __init__(self, service: DataMaintenance, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.stub: Any = data_maintenance_pb2_grpc.DataMaintenanceServiceStub(channel)

    async def runs(self, task: str = "") -> list[Message]:
        answer = await self.stub.ListRuns(data_maintenance_pb2.ListRunsRequest(task=task))
        return list(answer.runs)

    async def run_task(self, task: str, trading_date: str = "") -> Message:
        request = data_maintenance_pb2.RunTaskRequest(task=task, trading_date=trading_date)
        run: Message = await self.stub.RunTask(request)
        return run

    async def until(self, enough: Callable[[list[Message]], object], task: str = "") -> list[Message]:
        """Waits until the runs, newest first, are such."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not enough(runs := await self.runs(task)):
                await asyncio.sleep(POLL_SECONDS)
        return runs

    async def ended(self, run_id: int) -> Message:
        """The run, once it has ended, as its stream tells it."""
        request = data_maintenance_pb2.WatchTaskRequest(task=(await self.get(run_id)).task, run_id=run_id)
        last = None
        async with asyncio.timeout(WAIT_SECONDS):
            async for response in self.stub.WatchTask(request):
                if response.HasField("progress"):
                    last = response.progress.run
        assert isinstance(last, Message) and last.state != Message.RUNNING
        return last

    async def get(self, run_id: int) -> Message:
        run: Message = await self.stub.GetRun(data_maintenance_pb2.GetRunRequest(run_id=run_id))
        return run


def settings_of(stores: Stores, calendar_port: int, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        **stores.environment(),
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        "TRADEUL_CLOCK": "wall",
        "TRADEUL_MARKET_SESSION_ADDRESS": f"127.0.0.1:{calendar_port}",
        "TRADEUL_DATA_MAINTENANCE_ADDRESS": "127.0.0.1:0",
        **(environment or {}),
    }


@contextlib.asynccontextmanager
async def running_calendar() -> AsyncIterator[int]:
    """market_session; its port."""
    environment = {
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        "TRADEUL_CLOCK": "feed",
        "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0",
        "TRADEUL_DATA_INGEST_ADDRESS": "127.0.0.1:1",
    }
    host = Host(MarketSession(Settings.load(environment)))
    await host.start()
    try:
        yield host.port
    finally:
        await host.stop()


@contextlib.asynccontextmanager
async def running_historical(settings: Mapping[str, str], port: int = 0) -> AsyncIterator[int]:
    """The historical service over the stores and the vendor of a replica's settings; its port."""
    host = Host(Historical(Settings.load({**settings, "TRADEUL_HISTORICAL_ADDRESS": f"127.0.0.1:{port}"})))
    await host.start()
    try:
        yield host.port
    finally:
        await host.stop()


@contextlib.asynccontextmanager
async def running_replica(
    settings: Mapping[str, str], clock: SetClock, tasks: Tasks | None = None, **further: Any
) -> AsyncIterator[Replica]:
    service = DataMaintenance(Settings.load(settings), clock=clock, tasks=tasks, **{**QUICK, **further})
    host = Host(service)
    await host.start()
    channel = open_channel(f"127.0.0.1:{host.port}")
    async with asyncio.timeout(WAIT_SECONDS):
        while service.calendar is None:
            await asyncio.sleep(POLL_SECONDS)
    try:
        yield Replica(service, channel)
    finally:
        # Streams are told to go away before their connection ends.
        await host.stop()
        await channel.close(None)


async def empty(stores: Stores) -> None:
    """Tables as a new mesh has them."""
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute(
        "TRUNCATE maintenance_runs, session_log, ticker_metadata, daily_ohlc, ticker_atr, volume_slots"
    )
    await connection.close()


async def never_ends(job: Job) -> None:
    """A task that tells of progress, and goes on until somebody kills it."""
    job.progress.step, job.progress.done = "half-way", 1
    await asyncio.get_running_loop().create_future()


async def main() -> None:
    settings, now = json.loads(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
    tasks, lease = {"enrich_metadata": never_ends}, SHORT_LEASE_SECONDS
    async with running_replica(settings, SetClock(now), tasks, catch_up=True, lease_seconds=lease):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
