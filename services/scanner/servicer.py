"""ScannerService: requests checked, questions asked of the core, streams handed through."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import scanner_pb2, session_pb2

from services.kit.runtime.errors import OPEN_EXPECTED, OPEN_REPEATED
from services.market.dates import trading_date
from services.market.symbols import known_form
from services.scanner import requests
from services.scanner.core import field_definitions, list_definitions
from services.scanner.hub import ListHub
from services.scanner.list_subscription import ListSubscription

Context = grpc.aio.ServicerContext[Any, Any]
Subscribed = contextlib.AbstractContextManager[ListSubscription]


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
        return self._core.ranked_list(*self._list_asked(request))

    async def GetListJson(self, request: scanner_pb2.GetListRequest, _: Context) -> bytes:
        return self._core.ranked_list_body(*self._list_asked(request))

    async def GetGappers(self, request: scanner_pb2.GetGappersRequest, _: Context) -> bytes:
        return self._core.gappers(*gappers_asked(request))

    async def GetGappersJson(self, request: scanner_pb2.GetGappersRequest, _: Context) -> bytes:
        return self._core.gappers_body(*gappers_asked(request))

    async def GetFiltered(self, request: scanner_pb2.GetFilteredRequest, _: Context) -> bytes:
        return self._core.filtered(filtered_asked(request))

    async def GetFilteredJson(self, request: scanner_pb2.GetFilteredRequest, _: Context) -> bytes:
        return self._core.filtered_body(filtered_asked(request))

    async def QueryScan(self, request: scanner_pb2.QueryScanRequest, _: Context) -> bytes:
        return self._core.query(request.filter, request.order_by, requests.rows_limit(optional(request, "limit")))

    async def QueryScanJson(self, request: scanner_pb2.QueryScanRequest, _: Context) -> bytes:
        return self._core.query_body(request.filter, request.order_by, requests.rows_limit(optional(request, "limit")))

    async def GetTickerRow(self, request: scanner_pb2.GetTickerRowRequest, _: Context) -> bytes:
        return self._core.ticker_row(known_form(request.symbol))

    async def GetFields(self, _: scanner_pb2.GetFieldsRequest, __: Context) -> scanner_pb2.GetFieldsResponse:
        return self._fields

    async def GetScannerStatus(self, _: scanner_pb2.GetScannerStatusRequest, __: Context) -> scanner_pb2.ScannerStatus:
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
            status.session = cast("session_pb2.Session.ValueType", state.session)
            status.trading_date = trading_date(state.trading_date, state.next_trading_date, state.now_ns)
            status.symbols = state.count
            status.active_symbols = state.active_count
            status.suspect_prints.CopyFrom(scanner_pb2.SuspectPrints(**state.suspect_prints))
            status.list_rows.update({name: market.list_count(name) for name in core.definitions})
            if state.now_ns:
                status.event_time.FromNanoseconds(state.now_ns)
        if core.position is not None:
            status.position.CopyFrom(core.position.message())
        if hub.last_refresh_ns is not None:
            status.last_refresh.CopyFrom(timestamp(hub.last_refresh_ns))
        return status

    async def WatchList(self, request: scanner_pb2.WatchListRequest, context: Context) -> None:
        with self._list(request) as subscription:
            await send(subscription, context)

    async def WatchScan(self, request: scanner_pb2.WatchScanRequest, context: Context) -> None:
        with self._scan(request) as subscription:
            await send(subscription, context)

    async def SubscribeList(self, incoming: AsyncIterator[scanner_pb2.SubscribeListRequest], context: Context) -> None:
        first = await anext(aiter(incoming), None)
        kind = first.WhichOneof("request") if first is not None else None
        if first is None or kind not in ("open", "open_scan"):
            raise OPEN_EXPECTED.error(f"expected open or open_scan as the first message, was {kind or 'nothing'}")
        with self._list(first.open) if kind == "open" else self._scan(first.open_scan) as subscription:
            reading = asyncio.create_task(follow_requests(incoming, subscription), name="subscribe_list.requests")
            try:
                await send(subscription, context)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    def _list_asked(self, request: scanner_pb2.GetListRequest) -> tuple[str, int]:
        spec = self._core.definitions[requests.known_list(request.list, self._core.definitions)]
        return spec.name, requests.rows_limit(optional(request, "limit"), spec.limit, spec.max_limit)

    def _list(self, request: scanner_pb2.WatchListRequest) -> Subscribed:
        name = requests.known_list(request.list, self._core.definitions)
        asked = requests.resume_position(request.epoch, request.sequence)
        return self._hub.list_subscription(name, asked, requests.interval_ms(request.min_interval_ms))

    def _scan(self, request: scanner_pb2.WatchScanRequest) -> Subscribed:
        limit = requests.rows_limit(optional(request, "limit"))
        interval = requests.interval_ms(request.min_interval_ms)
        return self._hub.scan_subscription(request.filter, request.order_by, limit, interval)


def gappers_asked(request: scanner_pb2.GetGappersRequest) -> tuple[float, int]:
    return requests.least_gap(optional(request, "min_gap")), requests.rows_limit(optional(request, "limit"))


def filtered_asked(request: scanner_pb2.GetFilteredRequest) -> int:
    return requests.rows_limit(optional(request, "limit"), maximum=requests.MAX_FILTERED_ROWS)


async def send(subscription: ListSubscription, context: Context) -> None:
    """Writes all that the subscriber is to get, each message when the transport has taken the one before."""
    async with contextlib.aclosing(subscription.messages()) as messages:
        async for message in messages:
            await context.write(message)


async def follow_requests(
    incoming: AsyncIterator[scanner_pb2.SubscribeListRequest], subscription: ListSubscription
) -> None:
    """Ends the subscription at a cancel or a mistake. A client that closes its side goes on reading.

    Acks need no answer: how fast this stream goes is what HTTP/2 lets through, and a
    subscriber that is behind gets its changes merged.
    """
    async for request in incoming:
        kind = request.WhichOneof("request")
        if kind == "cancel":
            subscription.end()
            return
        if kind != "ack":
            subscription.end(
                OPEN_REPEATED.error(f"expected ack or cancel after the first message, was {kind or 'nothing'}")
            )
            return


def optional(request: Any, field: str) -> Any:
    """A proto3 optional field's value; None when it is not given."""
    return getattr(request, field) if request.HasField(field) else None


def timestamp(ns: int) -> Timestamp:
    value = Timestamp()
    value.FromNanoseconds(ns)
    return value
