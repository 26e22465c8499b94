"""ReplayService of a live feed: the simulator's time can be changed, the vendor's cannot."""

from http import HTTPStatus
from typing import Any, Final

import grpc.aio
import msgspec
from google.api import httpbody_pb2
from tradeul.v1 import replay_pb2

from services.kit.rpc.json_body import read_json
from services.kit.runtime.errors import VENDOR_UNAVAILABLE
from services.kit.runtime.http_session import REQUEST_ERRORS, LateSession, open_session
from services.kit.runtime.redaction import described
from services.kit.runtime.setting_groups import PolygonSettings
from services.market.market_time import TIME_PATH, MarketTime, TimeChange, refuse_change, time_change

TIMEOUT_SECONDS: Final = 5.0

Context = grpc.aio.ServicerContext[Any, Any]


class ReplayControl:
    """Forwards to the simulator at `polygon.rest_url`; `is_simulator` is False for the vendor."""

    def __init__(self, polygon: PolygonSettings, is_simulator: bool) -> None:
        self._is_simulator = is_simulator
        self._polygon = polygon
        headers = {"Authorization": f"Bearer {polygon.api_key}"}
        self._http = LateSession(lambda: open_session(polygon.rest_url, timeout_s=TIMEOUT_SECONDS, headers=headers))

    async def close(self) -> None:
        """Closes the connection."""
        await self._http.close()

    async def GetReplay(self, request: replay_pb2.GetReplayRequest, context: Context) -> replay_pb2.Replay:
        if not self._is_simulator:
            return replay_pb2.Replay(market=replay_pb2.Replay.VENDOR)
        return (await self._send()).message(replay_pb2.Replay.SIMULATOR)

    async def UpdateReplayFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> replay_pb2.Replay:
        return await self.UpdateReplay(read_json(body, replay_pb2.UpdateReplayRequest()), context)

    async def UpdateReplay(self, request: replay_pb2.UpdateReplayRequest, context: Context) -> replay_pb2.Replay:
        if not self._is_simulator:
            refuse_change()
        change = time_change(request, await self._send())
        return (await self._send(change)).message(replay_pb2.Replay.SIMULATOR)

    async def _send(self, change: TimeChange | None = None) -> MarketTime:
        """The simulator's time, after a change if there is one; raises VENDOR_UNAVAILABLE."""
        url = self._polygon.rest_url.rstrip("/") + TIME_PATH
        try:
            if change is None:
                request = self._http.opened().get(url)
            else:
                request = self._http.opened().post(url, data=msgspec.json.encode(change))
            async with request as answer:
                body = await answer.read()
            if answer.status != HTTPStatus.OK:
                raise VENDOR_UNAVAILABLE.error(f"the simulator gives no time: HTTP {answer.status}")
            return msgspec.json.decode(body, type=MarketTime)
        except (*REQUEST_ERRORS, msgspec.MsgspecError) as error:
            raise VENDOR_UNAVAILABLE.error(f"the simulator gives no time: {described(error)}") from error
