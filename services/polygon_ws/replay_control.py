"""ReplayService of a live feed: the simulator's time can be changed, the vendor's cannot."""

import functools
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
import msgspec
from google.api import httpbody_pb2
from tradeul.v1 import replay_pb2

from services.kit.rpc.json_body import read_json
from services.kit.runtime.errors import VENDOR_UNAVAILABLE
from services.kit.runtime.redaction import described
from services.kit.runtime.setting_groups import PolygonSettings
from services.market.market_time import TIME_PATH, MarketTime, TimeChange, refuse_change, time_change

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS: Final = 5.0

Context = grpc.aio.ServicerContext[Any, Any]


class ReplayControl:
    """Forwards to the simulator at `polygon.rest_url`; `is_simulator` is False for the vendor."""

    def __init__(self, polygon: PolygonSettings, is_simulator: bool) -> None:
        self._is_simulator = is_simulator
        self._polygon = polygon

    async def close(self) -> None:
        """Closes the connection."""
        if "_http" in vars(self):
            await self._http.aclose()

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

    @functools.cached_property
    def _http(self) -> "httpx.AsyncClient":
        # Made when it is first used: the feed of the vendor never does, and the simulator's starts sooner.
        import httpx

        polygon = self._polygon
        headers = {"Authorization": f"Bearer {polygon.api_key}"}
        return httpx.AsyncClient(base_url=polygon.rest_url, headers=headers, timeout=TIMEOUT_SECONDS)

    async def _send(self, change: TimeChange | None = None) -> MarketTime:
        """The simulator's time, after a change if there is one; raises VENDOR_UNAVAILABLE."""
        import httpx

        try:
            if change is None:
                answer = await self._http.get(TIME_PATH)
            else:
                answer = await self._http.post(TIME_PATH, content=msgspec.json.encode(change))
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=MarketTime)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise VENDOR_UNAVAILABLE.error(f"the simulator gives no time: {described(error)}") from error
