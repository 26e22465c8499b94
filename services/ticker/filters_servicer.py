"""FiltersService: scanner_filters over the API.

It lives in the ticker service's process because that one has the public door's
pool of database connections already; nothing of the two depends on the other.
"""

from typing import Any

import grpc.aio
from tradeul.v1 import filters_pb2

from services.ticker.filter_store import FilterStore
from services.ticker.filters_core import changed_filter, checked_name, message_of, new_filter

Context = grpc.aio.ServicerContext[Any, Any]


class FiltersServicer:
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

    async def UpdateFilter(self, request: filters_pb2.UpdateFilterRequest, _: Context) -> filters_pb2.ScannerFilter:
        name = checked_name(request.name)
        return message_of(await self._store.update(name, lambda now: changed_filter(request, now)))

    async def DeleteFilter(
        self, request: filters_pb2.DeleteFilterRequest, _: Context
    ) -> filters_pb2.DeleteFilterResponse:
        await self._store.delete(checked_name(request.name))
        return filters_pb2.DeleteFilterResponse()
