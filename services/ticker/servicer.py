"""TickerService and FiltersService: requests checked, stores queried, records made into messages."""

from collections.abc import Collection
from typing import Any

import grpc.aio
from google.api import httpbody_pb2
from tradeul.v1 import filters_pb2, ticker_pb2, ticker_row_pb2

from services.kit.lists.field_selection import selected_fields
from services.kit.rpc.json_body import read_json
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.errors import UNKNOWN_LIST, ServiceError
from services.market.dates import midnight
from services.ticker import requests
from services.ticker.core import bars_of, scan_results_of
from services.ticker.filters import FilterStore, changed_filter, checked_name, message_of, new_filter, update_request
from services.ticker.minute_fill import MinuteFill
from services.ticker.scanner_client import ScannerClient
from services.ticker.store import TickerStore
from services.ticker.tickers import Tickers

Context = grpc.aio.ServicerContext[Any, Any]


class TickerServicer:
    """`lists`: the names of the built-in lists; `fill` completes today's bars, None in a replay."""

    def __init__(
        self,
        tickers: Tickers,
        store: TickerStore,
        scanner: ScannerClient,
        lists: Collection[str],
        fill: MinuteFill | None = None,
    ) -> None:
        self._tickers = tickers
        self._scanner = scanner
        self._store = store
        self._lists = lists
        self._fill = fill

    async def GetTicker(self, request: ticker_pb2.GetTickerRequest, _: Context) -> ticker_row_pb2.TickerRow | bytes:
        selection = selected_fields(request.fields)
        row = await self._tickers.row(request.symbol)
        return row if selection is None else selection.row(row.SerializeToString())

    async def GetTickerMetadata(
        self, request: ticker_pb2.GetTickerMetadataRequest, _: Context
    ) -> ticker_pb2.TickerMetadata:
        return await self._tickers.metadata(request.symbol)

    async def ListBars(self, request: ticker_pb2.ListBarsRequest, _: Context) -> ticker_pb2.ListBarsResponse:
        interval = requests.interval_of(request.interval)
        # A keyword of Python.
        span = requests.span_of(getattr(request, "from"), request.to, interval)
        limit = requests.bars_limit(request.limit if request.HasField("limit") else None, span)
        symbol = await self._tickers.name_of_bars(request.symbol)
        await self._complete_today(symbol, span)
        if span.end is not None:
            records = await self._store.bars(symbol, interval, span.start, span.end, limit)
        else:
            now = await self._scanner.market_time()
            records = await self._store.bars_until_now(symbol, interval, span.start, now, limit)
        bars = bars_of(records)
        return ticker_pb2.ListBarsResponse(symbol=symbol, interval=interval.name, bars=bars, count=len(bars))

    async def _complete_today(self, symbol: str, span: requests.Span) -> None:
        """Has the bars of the market's day completed, if the span reaches into it."""
        if self._fill is None:
            return
        try:
            now = await self._scanner.market_time()
        except ServiceError:
            # Without `to` the request needs the time as well, and fails by itself.
            return
        today = midnight(now.astimezone(NEW_YORK).date())
        if (span.start is None or span.start < now) and (span.end is None or span.end > today):
            await self._fill.complete(symbol, now)

    async def ListScanResults(
        self, request: ticker_pb2.ListScanResultsRequest, _: Context
    ) -> ticker_pb2.ListScanResultsResponse:
        limit = requests.results_limit(request.limit if request.HasField("limit") else None)
        day = requests.date_of(request.date)
        after = requests.page_mark(request.page_token)
        if request.list and request.list not in self._lists:
            raise UNKNOWN_LIST.error(f"there is no list {request.list[:100]!r}", list=request.list[:100])
        if day is None and after is not None:
            day = after.time.astimezone(NEW_YORK).date()
        if day is None:
            day = await self._store.newest_scan_date(request.list)
        if day is None:
            return ticker_pb2.ListScanResultsResponse()
        records = await self._store.scan_results(day, request.list, limit + 1, after)
        answer = scan_results_of(records, limit)
        answer.date = day.isoformat()
        return answer


class FiltersServicer:
    """See filters.proto. It shares nothing with TickerServicer but the process and its pool of connections."""

    def __init__(self, store: FilterStore) -> None:
        self._store = store

    async def ListFilters(self, _: filters_pb2.ListFiltersRequest, __: Context) -> filters_pb2.ListFiltersResponse:
        filters = [message_of(record) for record in await self._store.all()]
        return filters_pb2.ListFiltersResponse(filters=filters, count=len(filters))

    async def GetFilter(self, request: filters_pb2.GetFilterRequest, _: Context) -> filters_pb2.ScannerFilter:
        return message_of(await self._store.get(checked_name(request.name)))

    async def CreateFilter(self, request: filters_pb2.CreateFilterRequest, _: Context) -> filters_pb2.ScannerFilter:
        name = checked_name(request.name)
        return message_of(await self._store.create(name, new_filter(request)))

    async def CreateFilterFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> filters_pb2.ScannerFilter:
        return await self.CreateFilter(read_json(body, filters_pb2.CreateFilterRequest()), context)

    async def UpdateFilter(self, request: filters_pb2.UpdateFilterRequest, _: Context) -> filters_pb2.ScannerFilter:
        name = checked_name(request.name)
        return message_of(await self._store.update(name, lambda now: changed_filter(request, now)))

    async def UpdateFilterFromJson(
        self, request: filters_pb2.UpdateFilterFromJsonRequest, context: Context
    ) -> filters_pb2.ScannerFilter:
        return await self.UpdateFilter(update_request(request), context)

    async def DeleteFilter(
        self, request: filters_pb2.DeleteFilterRequest, _: Context
    ) -> filters_pb2.DeleteFilterResponse:
        await self._store.delete(checked_name(request.name))
        return filters_pb2.DeleteFilterResponse()
