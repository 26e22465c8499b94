"""ScannerService: requests checked, questions asked of the core, streams handed through."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import scanner_pb2, session_pb2

from services.kit.errors import OPEN_EXPECTED, OPEN_REPEATED, ServiceError
from services.kit.symbols import known_form
from services.scanner import requests
from services.scanner.core import field_definitions, list_definitions
from services.scanner.hub import ListHub, TakeSubscription
from services.scanner.list_subscription import ListSubscription

Context = grpc.aio.ServicerContext[Any, Any]
Messages = AsyncGenerator[bytes, None]


class ScannerServicer:
    """The methods answer with messages, or with the bytes of messages that the core has encoded."""

    def __init__(self, hub: ListHub) -> None:
        self._hub = hub
        self._core = hub.core
        self._lists = list_definitions(list(hub.core.definitions.values()))
        self._fields = field_definitions()

    async def ListLists(self, _: scanner_pb2.ListListsRequest, __: Context) -> scanner_pb2.ListListsResponse:
        return self._lists

    async def GetList(self, request: scanner_pb2.GetListRequest, _: Context) -> bytes:
        name = requests.known_list(request.list, self._core.definitions)
        return self._core.ranked_list(name, requests.list_limit(name, optional(request, "limit")))

    async def GetGappers(self, request: scanner_pb2.GetGappersRequest, _: Context) -> bytes:
        min_gap = requests.least_gap(optional(request, "min_gap"))
        return self._core.gappers(min_gap, requests.rows_limit(optional(request, "limit")))

    async def GetFiltered(self, request: scanner_pb2.GetFilteredRequest, _: Context) -> bytes:
        return self._core.filtered(
            requests.rows_limit(optional(request, "limit"), maximum=requests.MAX_FILTERED_ROWS)
        )

    async def QueryScan(self, request: scanner_pb2.QueryScanRequest, _: Context) -> bytes:
        return self._core.query(request.filter, request.order_by, requests.rows_limit(optional(request, "limit")))

    async def GetTickerRow(self, request: scanner_pb2.GetTickerRowRequest, _: Context) -> bytes:
        return self._core.ticker_row(known_form(request.symbol))

    async def GetFields(self, _: scanner_pb2.GetFieldsRequest, __: Context) -> scanner_pb2.GetFieldsResponse:
        return self._fields

    async def GetScannerStatus(
        self, _: scanner_pb2.GetScannerStatusRequest, __: Context
    ) -> scanner_pb2.ScannerStatus:
        hub, core = self._hub, self._core
        status = scanner_pb2.ScannerStatus(
            subscribers=hub.subscribers,
            slow_subscribers=hub.slow_subscribers,
            scans=len(hub.scans),
            problem=hub.problem,
            lag_ms=hub.lag.median_ms() if hub.lag is not None else None,
        )
        if core.is_loaded:
            market = core.market
            state = market.state
            status.session = session_pb2.Session.ValueType(state.session)
            status.trading_date = state.trading_date
            status.symbols = state.count
            status.active_symbols = state.active_count
            status.list_rows.update({name: market.list_count(name) for name in core.definitions})
            status.event_time.FromNanoseconds(state.now_ns)
        if core.position is not None:
            status.position.CopyFrom(core.position.message())
        if hub.last_refresh_ns is not None:
            status.last_refresh.CopyFrom(timestamp(hub.last_refresh_ns))
        return status

    async def WatchList(self, request: scanner_pb2.WatchListRequest, _: Context) -> Messages:
        async for message in self._follow_list(request, ignore):
            yield message

    async def WatchScan(self, request: scanner_pb2.WatchScanRequest, _: Context) -> Messages:
        async for message in self._follow_scan(request, ignore):
            yield message

    async def SubscribeList(
        self, incoming: AsyncIterator[scanner_pb2.SubscribeListRequest], _: Context
    ) -> Messages:
        first = await anext(aiter(incoming), None)
        kind = first.WhichOneof("request") if first is not None else None
        follower = Follower(incoming)
        if first is not None and kind == "open":
            messages = self._follow_list(first.open, follower.take)
        elif first is not None and kind == "open_scan":
            messages = self._follow_scan(first.open_scan, follower.take)
        else:
            raise OPEN_EXPECTED.error(f"expected open or open_scan as the first message, was {kind or 'nothing'}")
        try:
            async for message in messages:
                yield message
        finally:
            await follower.close()
            await messages.aclose()

    def _follow_list(self, request: scanner_pb2.WatchListRequest, take: TakeSubscription) -> Messages:
        name = requests.known_list(request.list, self._core.definitions)
        asked = requests.resume_position(request.epoch, request.sequence)
        return self._hub.follow_list(name, asked, requests.interval_ms(request.min_interval_ms), take)

    def _follow_scan(self, request: scanner_pb2.WatchScanRequest, take: TakeSubscription) -> Messages:
        limit = requests.rows_limit(optional(request, "limit"))
        interval = requests.interval_ms(request.min_interval_ms)
        return self._hub.follow_scan(request.filter, request.order_by, limit, interval, take)


class Follower:
    """Reads what the client of a bidirectional stream sends after its opening message."""

    def __init__(self, incoming: AsyncIterator[scanner_pb2.SubscribeListRequest]) -> None:
        self._incoming = incoming
        self._task: asyncio.Task[None] | None = None

    def take(self, subscription: ListSubscription) -> None:
        self._task = asyncio.create_task(self._read(subscription), name="subscribe_list.requests")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, subscription: ListSubscription) -> None:
        """Ends the subscription at a cancel or a mistake. A client that closes its side goes on reading.

        Acks need no answer: how fast this stream goes is what HTTP/2 lets through, and a
        subscriber that is behind gets its changes merged.
        """
        try:
            async for request in self._incoming:
                kind = request.WhichOneof("request")
                if kind == "cancel":
                    subscription.end()
                    return
                if kind != "ack":
                    raise OPEN_REPEATED.error(f"expected ack or cancel after the first message, was {kind}")
        except ServiceError as error:
            subscription.end(error)


def ignore(_: ListSubscription) -> None:
    """Nobody but the client's hanging up ends a server-streaming call."""


def optional(request: Any, field: str) -> Any:
    """A proto3 optional field's value; None when it is not given."""
    return getattr(request, field) if request.HasField(field) else None


def timestamp(ns: int) -> Timestamp:
    value = Timestamp()
    value.FromNanoseconds(ns)
    return value
