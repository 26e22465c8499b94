"""Runs of data_maintenance over a real PostgreSQL: once with many replicas, made up for, taken over, by hand."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
import pytest_asyncio
from tradeul.v1 import data_maintenance_pb2, stream_pb2

from services.data_maintenance import metrics
from services.data_maintenance.context import Job, TaskError
from services.data_maintenance.run_store import ATTEMPTS, LostRunError, Progress, RunStore
from services.data_maintenance.service import DataMaintenance
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.market.calendar import nyse_calendar
from tests.integration.test_market_session import sequencer
from tests.support.mesh import free_ports
from tests.support.refusals import Refusal
from tests.support.refusals import refusal as told
from tests.support.running_maintenance import (
    POLL_SECONDS,
    SHORT_LEASE_SECONDS,
    WAIT_SECONDS,
    Message,
    SetClock,
    empty,
    running_calendar,
    running_replica,
    settings_of,
)
from tests.support.stores import Stores, module_stores

# A Wednesday: 09:00 in New York.
NOW = datetime(2025, 12, 3, 14, tzinfo=UTC)
TUESDAY = date(2025, 12, 2)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest_asyncio.fixture
async def settings(stores: Stores) -> AsyncIterator[dict[str, str]]:
    await empty(stores)
    async with running_calendar() as port:
        yield settings_of(stores, port)


@contextlib.asynccontextmanager
async def opened(stores: Stores) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(stores.database_url)
    try:
        yield pool
    finally:
        await pool.close()


class Counting:
    """A task that notes what it was asked for, and waits where it is told to."""

    def __init__(self) -> None:
        self.dates: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, job: Job) -> None:
        self.dates.append(str(job.trading_date))
        job.progress.step, job.progress.total = "counting", 3
        for _ in range(3):
            job.progress.done += 1
            job.progress.count("things")
            await self.go_on.wait()
        job.progress.fail("BAD", "expected a number, was none")


async def refusal(call: Awaitable[Any]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return told(caught.value)


async def kinds_of(call: Any) -> list[str]:
    return [response.WhichOneof("response") async for response in call]


def ended_well(count: int) -> Any:
    return lambda runs: sum(run.state == Message.SUCCEEDED for run in runs) >= count


async def test_two_replicas_run_each_time_once(settings: dict[str, str]) -> None:
    task, clock = Counting(), SetClock(NOW)
    tasks = {"enrich_metadata": task, "sync_redis": task}
    async with running_replica(settings, clock, tasks) as one, running_replica(settings, clock, tasks) as two:
        await one.until(ended_well(2))
        for step in range(1, 4):
            clock.now = NOW + timedelta(minutes=5 * step)
            await two.until(ended_well(1 + step), "sync_redis")
        clock.now = NOW + timedelta(days=1)
        runs = await one.until(ended_well(2), "enrich_metadata")
        assert [run.trading_date for run in runs] == ["2025-12-04", "2025-12-03"]
        everything = await one.until(
            lambda runs: all(run.state == Message.SUCCEEDED for run in runs) and len(runs) >= 7
        )
        scheduled = [(run.task, run.scheduled_at.ToSeconds()) for run in everything if run.HasField("scheduled_at")]
        assert len(set(scheduled)) == len(scheduled)
        assert len(task.dates) == len(everything)
        run = runs[0]
        assert dict(run.counts) == {"things": 3} and (run.done, run.total) == (3, 3)
        assert run.failed_count == 1 and dict(run.failed_symbols) == {"BAD": "expected a number, was none"}
        assert run.holder in (one.service.holder, two.service.holder) and run.attempt == 1


async def test_missed_days_are_made_up_for_in_order(settings: dict[str, str]) -> None:
    ohlc, atr = Counting(), Counting()
    tasks = {"load_ohlc": ohlc, "calculate_atr": atr}
    async with running_replica(settings, SetClock(NOW), tasks) as replica:
        await replica.until(ended_well(6))
    assert ohlc.dates == ["2025-11-25", "2025-11-26", "2025-11-28", "2025-12-01", "2025-12-02"]
    assert atr.dates == ["2025-12-02"]
    # A restart finds nothing left to do, and a later start only what is new.
    clock = SetClock(NOW + timedelta(hours=12))
    async with running_replica(settings, clock, tasks) as replica:
        await replica.until(ended_well(7))
    assert ohlc.dates[5:] == ["2025-12-03"] and len(atr.dates) == 1


async def test_a_feeds_time_stood_still_so_nothing_was_missed(settings: dict[str, str]) -> None:
    task, clock = Counting(), SetClock(NOW)
    async with running_replica(settings, clock, {"enrich_metadata": task}, catch_up=False) as replica:
        listed = await replica.stub.ListTasks(data_maintenance_pb2.ListTasksRequest())
        clock.now = NOW + timedelta(days=1)
        await replica.until(ended_well(1))
    assert task.dates == ["2025-12-04"]
    [info] = listed.tasks
    assert (info.name, info.at, info.days) == (
        "enrich_metadata",
        "02:00:00",
        data_maintenance_pb2.MaintenanceTask.DAILY,
    )
    assert not info.HasField("last_run")


async def test_one_that_fails_is_tried_again_and_not_for_ever(settings: dict[str, str]) -> None:
    attempts = []

    async def fails(job: Job) -> None:
        attempts.append(job.run.attempt)
        raise TaskError("the vendor is down")

    async with running_replica(settings, SetClock(NOW), {"enrich_metadata": fails}) as replica:
        runs = await replica.until(
            lambda runs: runs and runs[0].attempt == ATTEMPTS and runs[0].state == Message.FAILED
        )
        assert [run.error for run in runs] == ["the vendor is down"]
        assert attempts == [1, 2, 3]
        # Another replica sees that it is final, too.
        async with running_replica(settings, SetClock(NOW), {"enrich_metadata": fails}) as other:
            run = await other.run_task("enrich_metadata")
            assert (await other.ended(run.id)).error == "the vendor is down"
    assert attempts == [1, 2, 3, 1]


async def test_a_defect_of_a_task_is_its_runs(settings: dict[str, str]) -> None:
    async def broken(job: Job) -> None:
        raise KeyError("symbol")

    async with running_replica(settings, SetClock(NOW), {"housekeeping": broken}, catch_up=False) as replica:
        run = await replica.run_task("housekeeping", "2025-12-01")
        ended = await replica.ended(run.id)
        assert (ended.state, ended.error, ended.trading_date) == (Message.FAILED, "KeyError: 'symbol'", "2025-12-01")
        assert not ended.HasField("scheduled_at")


async def test_by_hand_watched_and_cancelled_from_another_replica(settings: dict[str, str]) -> None:
    task, clock = Counting(), SetClock(NOW)
    task.go_on.clear()
    tasks = {"load_ohlc": task}
    async with (
        running_replica(settings, clock, tasks, catch_up=False) as one,
        running_replica(settings, clock, tasks, catch_up=False) as two,
    ):
        run = await one.run_task("load_ohlc", "2025-12-01")
        assert (run.state, run.trading_date) == (Message.RUNNING, "2025-12-01")
        watching = two.stub.WatchTask(data_maintenance_pb2.WatchTaskRequest(task="load_ohlc"))
        kinds, seen = [], []
        async with asyncio.timeout(WAIT_SECONDS):
            async for response in watching:
                kinds.append(response.WhichOneof("response"))
                if kinds[-1] == "progress":
                    seen.append(response.progress)
                    if response.progress.run.done == 1:
                        break
        assert kinds[0] == "opened" and kinds.count("opened") == 1
        assert seen[-1].run.step == "counting" and seen[-1].position.epoch == run.id
        for replica in (one, two):
            assert (await refusal(replica.run_task("load_ohlc"))).reason == "TASK_RUNNING"
        cancelled = await two.stub.CancelRun(data_maintenance_pb2.CancelRunRequest(run_id=run.id))
        assert cancelled.cancel_requested
        async with asyncio.timeout(WAIT_SECONDS):
            async for response in watching:
                if response.HasField("progress") and response.progress.run.state == Message.CANCELLED:
                    last = response.progress.position
                    break
        watching.cancel()
        again = data_maintenance_pb2.CancelRunRequest(run_id=run.id)
        assert (await refusal(one.stub.CancelRun(again))).reason == "RUN_ENDED"
        # With a position nothing comes twice.
        resumed = one.stub.WatchTask(data_maintenance_pb2.WatchTaskRequest(task="load_ohlc", position=last))
        assert [(await resumed.read()).WhichOneof("response") for _ in range(2)] == ["opened", "current"]
        resumed.cancel()
        # And a run that has ended can be watched to its end.
        assert (await two.ended(run.id)).state == Message.CANCELLED
        task.go_on.set()
        following = await two.run_task("load_ohlc")
        assert (await one.ended(following.id)).state == Message.SUCCEEDED
        assert following.trading_date == "2025-12-02"


async def test_wrong_requests(settings: dict[str, str]) -> None:
    async with running_replica(settings, SetClock(NOW), {"load_ohlc": Counting()}, catch_up=False) as replica:
        stub = replica.stub
        await replica.stub.ListTasks(data_maintenance_pb2.ListTasksRequest())
        assert (await refusal(replica.run_task("load_everything"))).reason == "UNKNOWN_TASK"
        assert (await refusal(replica.run_task("load_ohlc", "yesterday"))).reason == "INVALID_DATE"
        assert (await refusal(replica.run_task("load_ohlc", "2025-11-27"))).reason == "NOT_A_TRADING_DAY"
        assert (await refusal(replica.get(999))).reason == "UNKNOWN_RUN"
        cancel = data_maintenance_pb2.CancelRunRequest(run_id=999)
        assert (await refusal(stub.CancelRun(cancel))).reason == "UNKNOWN_RUN"
        page = data_maintenance_pb2.ListRunsRequest(page_token="x")
        assert (await refusal(stub.ListRuns(page))).reason == "INVALID_REQUEST"
        watch = stub.WatchTask(data_maintenance_pb2.WatchTaskRequest(task="x"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in watch:
                pass
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_pages_of_runs(settings: dict[str, str]) -> None:
    async with running_replica(settings, SetClock(NOW), {"load_ohlc": Counting()}) as replica:
        await replica.until(ended_well(5))
        pages, token = [], ""
        while True:
            request = data_maintenance_pb2.ListRunsRequest(task="load_ohlc", page_size=2, page_token=token)
            answer = await replica.stub.ListRuns(request)
            pages.append([run.trading_date for run in answer.runs])
            if not (token := answer.next_page_token):
                break
        assert pages == [["2025-12-02", "2025-12-01"], ["2025-11-28", "2025-11-26"], ["2025-11-25"]]


async def test_a_stale_holder_ends_nothing(stores: Stores) -> None:
    await empty(stores)
    async with opened(stores) as pool:
        old, new = RunStore(pool, "old", lease_seconds=0.0), RunStore(pool, "new", lease_seconds=60.0)
        first = await old.claim("load_ohlc", TUESDAY, NOW)
        assert first is not None
        assert await new.claim("load_ohlc", TUESDAY, NOW) is None
        taken = await new.take_over("load_ohlc")
        assert taken is not None and taken.id == first.id and taken.fence > first.fence and taken.attempt == 2
        for attempt in (old.renew(first, Progress()), old.renew(first, None), old.end(first, Progress(), "SUCCEEDED")):
            with pytest.raises(LostRunError):
                await attempt
        # Nor is what it writes committed.
        calendar: Any = None
        with pytest.raises(LostRunError):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("INSERT INTO ticker_atr VALUES ('X', $1, 14, 1.0, 1.0)", TUESDAY)
                await Job(first, calendar).guard(connection)
        assert await pool.fetchval("SELECT count(*) FROM ticker_atr") == 0
        async with pool.acquire() as connection, connection.transaction():
            await Job(taken, calendar).guard(connection)
        assert await new.take_over("load_ohlc") is None
        assert (await new.end(taken, Progress(), "SUCCEEDED")).state == "SUCCEEDED"
        assert await old.try_again("load_ohlc", NOW) is None


async def test_replicas_that_die_on_it_end_a_run(stores: Stores) -> None:
    await empty(stores)
    async with opened(stores) as pool:
        store = RunStore(pool, "dies", lease_seconds=0.0)
        assert await store.claim("load_ohlc", TUESDAY, NOW)
        for attempt in range(2, ATTEMPTS + 1):
            taken = await store.take_over("load_ohlc")
            assert taken is not None and taken.attempt == attempt
        assert await store.take_over("load_ohlc") is None
        [run] = await store.list("", None, None, 10)
        assert (run.state, run.error) == (
            "FAILED",
            f"its replica went away (dies, attempt {ATTEMPTS})",
        ) and run.is_final


async def test_killed_in_the_middle_another_replica_takes_over(settings: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.running_maintenance", json.dumps(settings), NOW.isoformat()),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    task = Counting()
    try:
        async with running_replica(settings, SetClock(NOW), {"sync_redis": task}, catch_up=False) as other:
            runs = await other.until(lambda runs: runs and runs[0].step == "half-way", "")
            assert (runs[0].task, runs[0].state, runs[0].attempt) == ("enrich_metadata", Message.RUNNING, 1)
        async with running_replica(settings, SetClock(NOW), {"enrich_metadata": task}) as other:
            # While it lives it keeps its run.
            await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=1.5 * SHORT_LEASE_SECONDS)
            assert process.returncode is None and task.dates == []
            process.send_signal(signal.SIGKILL)
            [run] = await other.until(ended_well(1))
            assert (run.id, run.attempt, run.holder) == (runs[0].id, 2, other.service.holder)
            assert dict(run.counts) == {"things": 3} and task.dates == ["2025-12-03"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_run_of_a_clock_that_was_ahead_is_taken_over(settings: dict[str, str], stores: Stores) -> None:
    """Its replica died, and the clock was set right, an hour back."""
    async with opened(stores) as pool:
        gone = await RunStore(pool, "gone").claim("enrich_metadata", TUESDAY, None)
        assert gone is not None
        await pool.execute("UPDATE maintenance_runs SET lease_until = now() + interval '1 hour'")
        taken = await RunStore(pool, "another").take_over("enrich_metadata")
        assert taken is not None and (taken.id, taken.attempt) == (gone.id, 2)


async def test_one_that_stops_leaves_its_run_to_the_next(settings: dict[str, str]) -> None:
    task = Counting()
    task.go_on.clear()
    async with running_replica(settings, SetClock(NOW), {"enrich_metadata": task}, lease_seconds=600.0) as replica:
        await replica.until(lambda runs: runs and runs[0].done == 1)
        watching = replica.stub.WatchTask(data_maintenance_pb2.WatchTaskRequest(task="enrich_metadata"))
        kinds = asyncio.create_task(kinds_of(watching))
        await replica.until(lambda _: metrics.WATCHERS._value.get() == 1)
    assert (await kinds)[-1] == "going_away"
    task.go_on.set()
    async with running_replica(settings, SetClock(NOW), {"enrich_metadata": task}, lease_seconds=600.0) as replica:
        [run] = await replica.until(ended_well(1))
        # It was not its fault.
        assert run.attempt == 1
    assert len(task.dates) == 2


async def test_a_run_that_has_just_ended_begins_no_sync_of_one_that_stops(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on with connections that are being closed."""
    claim, is_claiming = RunStore.claim, asyncio.Event()

    async def claim_all_but_a_sync(store: RunStore, task: str, *rest: Any) -> Any:
        if task != "sync_redis":
            return await claim(store, task, *rest)
        is_claiming.set()
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(RunStore, "claim", claim_all_but_a_sync)
    tasks = {"enrich_metadata": Counting(), "sync_redis": Counting()}
    async with running_replica(settings, SetClock(NOW), tasks, catch_up=False) as replica:
        await replica.run_task("enrich_metadata")
        await is_claiming.wait()
    assert [each.get_name() for each in asyncio.all_tasks() if each.get_name().startswith("maintenance.")] == []


async def test_sessions_are_logged_once(settings: dict[str, str], stores: Stores) -> None:
    clock = SetClock(datetime(2025, 11, 26, 15, tzinfo=UTC))
    async with opened(stores) as pool:

        async def logged(count: int) -> list[tuple[Any, ...]]:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    rows = await pool.fetch("SELECT * FROM session_log ORDER BY began_at")
                    if len(rows) >= count:
                        return [tuple(row) for row in rows]
                    await asyncio.sleep(0.05)

        tasks = {"housekeeping": Counting()}
        async with running_replica(settings, clock, tasks), running_replica(settings, clock, tasks):
            assert [row[1] for row in await logged(1)] == ["MARKET_OPEN"]
            clock.now = datetime(2025, 11, 28, 18, 30, tzinfo=UTC)
            rows = await logged(6)
    days = [day for day in nyse_calendar(date(2025, 12, 1)).between(date(2025, 11, 26), date(2025, 11, 28))]
    expected = []
    for day in days:
        times = (day.pre_market_start_ns, day.market_open_ns, day.market_close_ns, day.post_market_end_ns)
        for session, ns in zip(("PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED"), times, strict=True):
            expected.append((datetime.fromtimestamp(ns // 10**9, UTC), session, day.date, day.is_early_close))
    assert rows == expected[1:7]


async def test_positions_are_the_runs(settings: dict[str, str]) -> None:
    task = Counting()
    async with running_replica(settings, SetClock(NOW), {"enrich_metadata": task}, catch_up=False) as replica:
        watching = aiter(replica.stub.WatchTask(data_maintenance_pb2.WatchTaskRequest(task="enrich_metadata")))
        assert (await anext(watching)).opened.position == stream_pb2.StreamPosition()
        assert (await anext(watching)).HasField("current")
        run = await replica.run_task("enrich_metadata")
        positions = []
        async with asyncio.timeout(WAIT_SECONDS):
            async for response in watching:
                if response.HasField("progress"):
                    positions.append((response.progress.position.epoch, response.progress.position.sequence))
                    if response.progress.run.state == Message.SUCCEEDED:
                        break
        assert positions == sorted(set(positions)) and {epoch for epoch, _ in positions} == {run.id}


async def test_nothing_is_done_by_a_wall_clock_before_the_sequencers_is_known(settings: dict[str, str]) -> None:
    """By a clock that is years ahead all that is stored would be too old, and removed."""
    (port,) = free_ports(1)
    settings = {**settings, "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{port}"}
    task = Counting()
    service = DataMaintenance(Settings.load(settings), tasks={"load_ohlc": task}, look_seconds=0.05)
    host = Host(service)
    await host.start()
    try:
        assert service.calendar is None
        async with sequencer(port, 100) as feed, asyncio.timeout(60):
            feed.say("2026-03-10T09:00:00")
            while "2026-03-09" not in task.dates:
                await asyncio.sleep(POLL_SECONDS)
        assert max(task.dates) == "2026-03-09"
    finally:
        await host.stop()
