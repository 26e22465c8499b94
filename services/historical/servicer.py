"""HistoricalService: protos to and from the loads."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import grpc.aio
from tradeul.v1 import historical_pb2

from services.historical.core import make_request
from services.historical.loads import Loads
from services.kit.rpc.subscribing import first_request, serve
from services.kit.runtime.errors import (
    INVALID_LIMIT,
)
from services.kit.stores.database import store_unavailable

Context = grpc.aio.ServicerContext[Any, Any]
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000


class HistoricalServicer:
    """See historical.proto."""

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    async def StartLoad(self, request: historical_pb2.StartLoadRequest, _: Context) -> historical_pb2.LoadJob:
        first = getattr(request, "from")
        load = make_request(request.kind, request.source, first, request.to, request.no_splits, request.again)
        with store_unavailable():
            return await self._loads.job(await self._loads.start(load))

    async def GetLoad(self, request: historical_pb2.GetLoadRequest, _: Context) -> historical_pb2.LoadJob:
        with store_unavailable():
            return await self._loads.job(request.job_id)

    async def WatchLoad(self, request: historical_pb2.WatchLoadRequest, _: Context) -> AsyncGenerator[bytes, None]:
        with store_unavailable():
            async with contextlib.aclosing(self._loads.watch(request.job_id)) as stream:
                async for message in stream:
                    yield message

    async def SubscribeLoad(
        self, requests: AsyncIterator[historical_pb2.SubscribeLoadRequest], context: Context
    ) -> None:
        """Writes until the load has ended or the client cancels; its end of sending is not its end of listening."""
        first = await first_request(requests)
        await serve(self.WatchLoad(first.open, context), requests, context)

    async def ListLoads(self, request: historical_pb2.ListLoadsRequest, _: Context) -> historical_pb2.ListLoadsResponse:
        limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
        if not 1 <= limit <= MAX_LIMIT:
            raise INVALID_LIMIT.error(f"limit: expected 1 to {MAX_LIMIT}, was {limit}", limit=limit)
        kind = make_request(request.kind, "", "", "").kind if request.kind else None
        with store_unavailable():
            return historical_pb2.ListLoadsResponse(loads=await self._loads.newest(limit, kind))

    async def CancelLoad(self, request: historical_pb2.CancelLoadRequest, _: Context) -> historical_pb2.LoadJob:
        with store_unavailable():
            await self._loads.cancel(request.job_id)
            return await self._loads.job(request.job_id)
