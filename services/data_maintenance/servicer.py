"""DataMaintenanceService: protos to and from the table of runs."""

import contextlib
import functools
from collections.abc import AsyncGenerator
from datetime import date
from typing import Any, Final

import grpc.aio
from google.protobuf import duration_pb2
from tradeul.v1 import data_maintenance_pb2

from services.data_maintenance import metrics
from services.data_maintenance.broadcast import RunBroadcast, message_of
from services.data_maintenance.run_store import RunStore
from services.data_maintenance.timetable import Timetable
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import (
    INVALID_REQUEST,
    RUN_ENDED,
    UNKNOWN_RUN,
    UNKNOWN_TASK,
)
from services.kit.stores.database import store_unavailable
from services.market.dates import parse_date

Context = grpc.aio.ServicerContext[Any, Any]
Message = data_maintenance_pb2.MaintenanceRun

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 200


answering = functools.partial(store_unavailable, failures=metrics.DATABASE_FAILURES)


class DataMaintenanceServicer:
    def __init__(self, store: RunStore, timetable: Timetable, broadcast: RunBroadcast) -> None:
        self._store = store
        self._timetable = timetable
        self._broadcast = broadcast

    async def ListTasks(
        self, _: data_maintenance_pb2.ListTasksRequest, __: Context
    ) -> data_maintenance_pb2.ListTasksResponse:
        answer = data_maintenance_pb2.ListTasksResponse()
        for spec in self._timetable.specs.values():
            task = answer.tasks.add(
                name=spec.name,
                description=spec.description,
                days=data_maintenance_pb2.MaintenanceTask.Days.ValueType(spec.days.value),
            )
            if spec.at is not None:
                task.at = spec.at.isoformat()
            elif spec.every is not None:
                task.every.CopyFrom(duration_pb2.Duration(seconds=int(spec.every.total_seconds())))
            if (at := self._timetable.next_time(spec)) is not None:
                task.next_run_at.FromDatetime(at)
            with answering():
                if (run := await self._store.newest(spec.name)) is not None:
                    task.last_run.CopyFrom(message_of(run))
        return answer

    async def RunTask(self, request: data_maintenance_pb2.RunTaskRequest, _: Context) -> Message:
        trading_date = _trading_date(request)
        with answering():
            return message_of(await self._timetable.start_by_hand(request.task, trading_date))

    async def WatchTask(
        self, request: data_maintenance_pb2.WatchTaskRequest, _: Context
    ) -> AsyncGenerator[bytes, None]:
        self._check_task(request.task)
        if request.run_id:
            with answering():
                run = await self._store.get(request.run_id)
            if run is None or run.task != request.task:
                raise UNKNOWN_RUN.error(f"no run {request.run_id} of {request.task}", run_id=request.run_id)
        requested_position = Position.of(request.position) if request.HasField("position") else None
        with metrics.WATCHERS.track_inprogress(), answering():
            async with contextlib.aclosing(
                self._broadcast.stream(request.task, request.run_id, requested_position)
            ) as stream:
                async for message in stream:
                    yield message

    async def GetRun(self, request: data_maintenance_pb2.GetRunRequest, _: Context) -> Message:
        with answering():
            run = await self._store.get(request.run_id)
        if run is None:
            raise UNKNOWN_RUN.error(f"no run {request.run_id}", run_id=request.run_id)
        return message_of(run)

    async def ListRuns(
        self, request: data_maintenance_pb2.ListRunsRequest, _: Context
    ) -> data_maintenance_pb2.ListRunsResponse:
        if request.task:
            self._check_task(request.task)
        if request.page_token and not (request.page_token.isascii() and request.page_token.isdecimal()):
            raise INVALID_REQUEST.error(f"page_token: expected one from an answer, was {request.page_token!r}")
        size = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
        before = int(request.page_token) if request.page_token else None
        trading_date = _trading_date(request)
        with answering():
            runs = await self._store.list(request.task, trading_date, before, size + 1)
        answer = data_maintenance_pb2.ListRunsResponse(runs=map(message_of, runs[:size]))
        if len(runs) > size:
            answer.next_page_token = str(runs[size - 1].id)
        return answer

    async def CancelRun(self, request: data_maintenance_pb2.CancelRunRequest, _: Context) -> Message:
        with answering():
            if (run := await self._store.cancel(request.run_id)) is not None:
                return message_of(run)
            ended = await self._store.get(request.run_id)
        if ended is None:
            raise UNKNOWN_RUN.error(f"no run {request.run_id}", run_id=request.run_id)
        raise RUN_ENDED.error(f"run {request.run_id} has ended: {ended.state}", run_id=request.run_id)

    def _check_task(self, task: str) -> None:
        if task not in self._timetable.specs:
            raise UNKNOWN_TASK.error(f"expected one of {', '.join(self._timetable.specs)}, was {task!r}", task=task)


def _trading_date(request: data_maintenance_pb2.RunTaskRequest | data_maintenance_pb2.ListRunsRequest) -> date | None:
    return parse_date(request.trading_date, "trading_date") if request.trading_date else None
