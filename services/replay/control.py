"""ReplayService of a day that is played again: the pace of its batches is changed between two of them."""

from collections.abc import Callable
from typing import Any

import grpc.aio
from google.api import httpbody_pb2
from tradeul.v1 import replay_pb2

from services.kit.rpc.json_body import read_json
from services.kit.runtime.logging import get_logger
from services.market.market_time import UNPACED, MarketTime, time_change
from services.replay.core import Pace, span_ns
from services.replay.day_file import DayFile

log = get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class ReplayControl:
    """`until_ns`: where the day stops, None for its last event; `on_change` is called after each change."""

    def __init__(self, day: DayFile, pace: Pace, until_ns: int | None, on_change: Callable[[], None]) -> None:
        self._day = day
        self._pace = pace
        self._until_ns = until_ns
        self._on_change = on_change

    async def GetReplay(self, request: replay_pb2.GetReplayRequest, context: Context) -> replay_pb2.Replay:
        return self._time().message(replay_pb2.Replay.REPLAY)

    async def UpdateReplayFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> replay_pb2.Replay:
        return await self.UpdateReplay(read_json(body, replay_pb2.UpdateReplayRequest()), context)

    async def UpdateReplay(self, request: replay_pb2.UpdateReplayRequest, context: Context) -> replay_pb2.Replay:
        change = time_change(request, self._time())
        pace = self._pace
        if change.paused is not None and change.paused != pace.is_paused:
            if change.paused:
                pace.pause()
            else:
                pace.resume()
        if change.speed is not None:
            pace.set_speed("max" if change.speed == UNPACED else change.speed)
        if change.jump_ns:
            pace.jump(change.jump_ns)
        log.info("the pace is changed", paused=pace.is_paused, speed=pace.speed, jump_to=request.jump_to)
        self._on_change()
        return await self.GetReplay(replay_pb2.GetReplayRequest(), context)

    def _time(self) -> MarketTime:
        pace = self._pace
        return MarketTime(
            self._day.manifest.date,
            pace.reached_ns,
            pace.is_paused,
            UNPACED if pace.speed == "max" else pace.speed,
            pace.jump_ns,
            *span_ns(self._day, self._until_ns),
        )
