"""ScannerService: checks requests, answers them from the core, and writes the streams."""

import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Hashable
from typing import Any, Final, TypeVar, cast

import grpc.aio
from google.api import httpbody_pb2
from tradeul.v1 import scanner_pb2, session_pb2

from services.kit.lists.field_selection import FieldSelection, SelectedMessages, selected_fields
from services.kit.rpc.json_body import read_json
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.pacing import MAX_INTERVAL_MS
from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import first_request, is_through_gateway, serve, write_all
from services.kit.rpc.wire import timestamp
from services.kit.runtime.errors import (
    INVALID_LIMIT,
    INVALID_POSITION,
    INVALID_REQUEST,
    UNKNOWN_LIST,
    ServiceError,
)
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.market.dates import trading_date
from services.market.symbols import known_form
from services.scanner.compiled_scan import MISTAKES, CompiledScan
from services.scanner.core import SCAN, MarketSource, field_definitions, list_definitions
from services.scanner.custom_scans import ScanKey
from services.scanner.feed_line import FeedLine
from services.scanner.large_messages import LargeMessages
from services.scanner.list_events import ListEvents, last_event_position
from services.scanner.list_hub import ListHub
from services.scanner.list_log import ListLog, list_log_page, page_place
from services.scanner.list_stream import ListSubscription
from services.scanner.scan_requests import ScanRequests
from services.scanner.turns import Turns

# Of a text that a client sent, in what it is answered.
LONGEST_SHOWN: Final = 100
MAX_ROWS: Final = 500
MAX_FILTERED_ROWS: Final = 1000
DEFAULT_ROWS: Final = 100
DEFAULT_MIN_GAP: Final = 4.0
MAX_LOGGED_CHANGES: Final = 1000
MAX_SYMBOLS: Final = 100
DEFAULT_SYMBOLS: Final = 20
LONGEST_QUERY: Final = 100

Answer = TypeVar("Answer")
Context = grpc.aio.ServicerContext[Any, Any]
WatchRequest = scanner_pb2.WatchListRequest | scanner_pb2.WatchScanRequest
Subscribed = contextlib.AbstractAsyncContextManager[ListSubscription]


class ScannerServicer:
    """The methods answer with messages, or with the bytes of messages that the core has encoded."""

    def __init__(
        self, hub: ListHub, turns: Turns, requests: ScanRequests, log: ListLog, market: MarketSource, line: FeedLine
    ) -> None:
        self._hub = hub
        self._log = log
        self._market = market
        self._line = line
        self._turns = turns
        self._requests = requests
        self._core = hub.core
        self._lists = list_definitions(list(hub.core.definitions.values()))
        self._fields = field_definitions()
        self._events = ListEvents()
        self._selected = SelectedMessages()
        self._large = LargeMessages()

    async def ListLists(self, _: scanner_pb2.ListListsRequest, __: Context) -> scanner_pb2.ListListsResponse:
        return self._lists

    async def GetList(self, request: scanner_pb2.GetListRequest, _: Context) -> bytes:
        return self._core.answered(self._core.ranked_list(*self._list_request(request)))

    async def GetListJson(self, request: scanner_pb2.GetListRequest, context: Context) -> bytes:
        return await self._body(self._core.ranked_list_body, self._list_request(request), context)

    async def GetGappers(self, request: scanner_pb2.GetGappersRequest, context: Context) -> bytes:
        checked = gappers_request(request)
        return await self._in_turn(lambda: self._core.gappers(*checked), context)

    async def GetGappersJson(self, request: scanner_pb2.GetGappersRequest, context: Context) -> bytes:
        return await self._body(self._core.gappers_body, gappers_request(request), context)

    async def GetFiltered(self, request: scanner_pb2.GetFilteredRequest, context: Context) -> bytes:
        checked = filtered_request(request)
        return await self._in_turn(lambda: self._core.filtered(*checked), context)

    async def GetFilteredJson(self, request: scanner_pb2.GetFilteredRequest, context: Context) -> bytes:
        return await self._body(self._core.filtered_body, filtered_request(request), context)

    async def QueryScan(self, request: scanner_pb2.QueryScanRequest, context: Context) -> bytes:
        core = self._core
        return await self._query(request, context, lambda *scan: core.answered(core.query(*scan)))

    async def QueryScanFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> bytes:
        return await self._query(read_json(body, scanner_pb2.QueryScanRequest()), context, self._core.query_body)

    async def CheckScan(self, request: scanner_pb2.CheckScanRequest, context: Context) -> scanner_pb2.ScanCheck:
        market = self._core.market
        name = key_name(RequestKey.of_context(context))
        try:
            scan = await self._requests.compile(request.filter, request.order_by, name)
        except ServiceError as error:
            if error.reason.name not in MISTAKES:
                raise
            return scanner_pb2.ScanCheck(mistake=scan_mistake(error))
        return scanner_pb2.ScanCheck(matches=await self._requests.take_turn(lambda: market.count(scan.filter), name))

    async def CheckScanFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> scanner_pb2.ScanCheck:
        return await self.CheckScan(read_json(body, scanner_pb2.CheckScanRequest()), context)

    async def GetTickerRow(self, request: scanner_pb2.GetTickerRowRequest, _: Context) -> bytes:
        return self._core.ticker_row(known_form(request.symbol), selected_fields(request.fields))

    async def GetListLog(self, request: scanner_pb2.GetListLogRequest, context: Context) -> scanner_pb2.ListLogPage:
        name = known_list(request.list, self._core.definitions) if request.list else ""
        symbol = self._core.known_symbol(request.symbol) if request.symbol else ""
        limit = rows_limit(optional(request, "limit"), maximum=MAX_LOGGED_CHANGES)
        before = page_place(request.page_token)
        return await self._in_turn(lambda: list_log_page(self._log, name, symbol, limit, before), context)

    async def SearchSymbols(
        self, request: scanner_pb2.SearchSymbolsRequest, context: Context
    ) -> scanner_pb2.SearchSymbolsResponse:
        checked = search_request(request)
        return await self._in_turn(lambda: self._core.search(*checked), context)

    async def GetBreadth(self, _: scanner_pb2.GetBreadthRequest, __: Context) -> scanner_pb2.MarketBreadth:
        return self._core.breadth()

    async def GetFields(self, _: scanner_pb2.GetFieldsRequest, __: Context) -> scanner_pb2.GetFieldsResponse:
        return self._fields

    async def GetScannerStatus(self, _: scanner_pb2.GetScannerStatusRequest, __: Context) -> scanner_pb2.ScannerStatus:
        hub, core = self._hub, self._core
        status = scanner_pb2.ScannerStatus(
            market=self._market,
            subscribers=hub.subscribers,
            slow_subscribers=hub.slow_subscribers,
            scans=len(hub.scans),
            problem=hub.unhealthy_reason,
            lag_ms=hub.lag.median_ms() if hub.lag is not None else None,
        )
        status.stale_seconds = self._line.stale_seconds()
        status.gaps.extend(self._line.gaps)
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
        selection = selected_fields(request.fields)
        async with self._list(request, context) as subscription:
            await write_all(self._messages(subscription, selection, context), context)

    async def WatchScan(self, request: scanner_pb2.WatchScanRequest, context: Context) -> None:
        selection = selected_fields(request.fields)
        async with self._scan(request, context) as subscription:
            await write_all(self._messages(subscription, selection, context), context)

    async def WatchListEvents(self, request: scanner_pb2.WatchListRequest, context: Context) -> None:
        position = last_event_position(context)
        await self._write_events(request, lambda: self._list(request, context, position), context)

    async def WatchScanEvents(self, request: scanner_pb2.WatchScanRequest, context: Context) -> None:
        await self._write_events(request, lambda: self._scan(request, context), context)

    async def SubscribeList(self, incoming: AsyncIterator[scanner_pb2.SubscribeListRequest], context: Context) -> None:
        """Acks change nothing here: HTTP/2 sets the pace, and a subscriber that is behind gets conflated deltas."""
        first = await first_request(incoming, ("open", "open_scan"))
        is_list = first.HasField("open")
        selection = selected_fields(first.open.fields if is_list else first.open_scan.fields)
        async with self._list(first.open, context) if is_list else self._scan(first.open_scan, context) as subscription:
            await serve(self._messages(subscription, selection, context), incoming, context)

    def _list_request(self, request: scanner_pb2.GetListRequest) -> tuple[str, int, FieldSelection | None]:
        spec = self._core.definitions[known_list(request.list, self._core.definitions)]
        limit = rows_limit(optional(request, "limit"), spec.limit, spec.max_limit)
        return spec.name, limit, selected_fields(request.fields)

    async def _in_turn(self, work: Callable[[], Answer], context: Context) -> Answer:
        """Returns what `work` returns, which takes the event loop a while, in its turn."""
        return await self._turns.take_counted(work, key_name(RequestKey.of_context(context)))

    async def _body(self, make: Callable[..., bytes], request: tuple[Hashable, ...], context: Context) -> bytes:
        """The answer as JSON, whose ETag the gateway compares with a request's If-None-Match; made in its turn."""
        core = self._core

        def tagged() -> tuple[bytes, str]:
            return (answer := make(*request)), core.etag(answer)

        answer, tag = tagged() if core.held(make, *request) is not None else await self._in_turn(tagged, context)
        await context.send_initial_metadata((("etag", tag), ("cache-control", "no-cache")))
        return answer

    async def _write_events(self, request: WatchRequest, subscribe: Callable[[], Subscribed], context: Context) -> None:
        selection = selected_fields(request.fields)
        async with subscribe() as subscription:
            messages = self._messages(subscription, selection, context)
            only = request.changed_fields_only
            if isinstance(request, scanner_pb2.WatchListRequest):
                events = self._events.messages(request.list, messages, lambda: subscription.position, only)
            else:
                # It has no position to resume from.
                events = self._events.messages(SCAN, messages, None, only)
            await write_all(events, context)

    def _messages(
        self, subscription: ListSubscription, selection: FieldSelection | None, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """The messages to a subscriber. A service of the mesh, which passes them on to many, waits for no turn."""
        messages = subscription.messages()
        if is_through_gateway(context):
            messages = self._large.messages(messages)
        return self._selected.messages(messages, selection)

    async def _query(
        self,
        request: scanner_pb2.QueryScanRequest,
        context: Context,
        answer: Callable[[CompiledScan, int, FieldSelection | None], bytes],
    ) -> bytes:
        limit, selection = rows_limit(optional(request, "limit")), selected_fields(request.fields)
        self._core.market  # noqa: B018  NOT_READY while there is none
        name = key_name(RequestKey.of_context(context))
        scan = await self._requests.compile(request.filter, request.order_by, name)
        return await self._requests.take_turn(lambda: answer(scan, limit, selection), name)

    @contextlib.asynccontextmanager
    async def _list(
        self, request: scanner_pb2.WatchListRequest, context: Context, position: Position | None = None
    ) -> AsyncIterator[ListSubscription]:
        """A subscription after `position`, otherwise after the request's."""
        name = known_list(request.list, self._core.definitions)
        position = position or resume_position(request.epoch, request.sequence)
        with self._hub.list_subscription(
            name,
            position,
            interval_ms(request.min_interval_ms),
            changed_fields_only=request.changed_fields_only,
            is_internal=not is_through_gateway(context),
        ) as subscription:
            yield subscription

    @contextlib.asynccontextmanager
    async def _scan(self, request: scanner_pb2.WatchScanRequest, context: Context) -> AsyncIterator[ListSubscription]:
        limit = rows_limit(optional(request, "limit"))
        interval = interval_ms(request.min_interval_ms)
        self._core.market  # noqa: B018  NOT_READY while there is none
        key = RequestKey.of_context(context)
        scan = await self._requests.compile(request.filter, request.order_by, key_name(key))
        opened = self._hub.scan_subscription(
            scan,
            limit,
            interval,
            key,
            changed_fields_only=request.changed_fields_only,
            is_internal=not is_through_gateway(context),
        )
        wanted = ScanKey.of(scan, limit)
        with contextlib.ExitStack() as stack:
            yield await self._requests.open(
                wanted, lambda: wanted in self._hub.scans, lambda: stack.enter_context(opened), key_name(key)
            )


def key_name(key: RequestKey | None) -> str:
    return key.name if key is not None else ""


def scan_mistake(error: ServiceError) -> scanner_pb2.ScanMistake:
    """Returns the mistake that compile_scan() raised."""
    position = error.metadata.get("position")
    return scanner_pb2.ScanMistake(
        reason=error.reason.name,
        message=error.message,
        position=int(position) if position is not None else None,
        suggestion=error.metadata.get("suggestion"),
    )


def known_list(name: str, names: Collection[str]) -> str:
    """Returns `name` when it is one of the lists; raises UNKNOWN_LIST."""
    if name in names:
        return name
    shown = name[:LONGEST_SHOWN]
    nearest = nearest_name(shown, names)
    raise UNKNOWN_LIST.error(f"there is no list {shown!r}{nearest_hint(nearest)}", list=shown, nearest=nearest)


def rows_limit(limit: int | None, default: int = DEFAULT_ROWS, maximum: int = MAX_ROWS) -> int:
    """Returns how many rows to give; raises INVALID_LIMIT."""
    if limit is None:
        return default
    if not 1 <= limit <= maximum:
        raise INVALID_LIMIT.error(f"expected a limit of 1 to {maximum}, was {limit}", limit=limit, maximum=maximum)
    return limit


def least_gap(min_gap: float | None) -> float:
    """Returns the least absolute gap in percent; raises INVALID_REQUEST."""
    if min_gap is None:
        return DEFAULT_MIN_GAP
    if not math.isfinite(min_gap) or min_gap < 0:
        raise INVALID_REQUEST.error(f"expected a min_gap of 0 or more percent, was {min_gap}", field="min_gap")
    return min_gap


def interval_ms(milliseconds: int) -> int:
    """Returns the least time between updates; raises INVALID_REQUEST."""
    if milliseconds > MAX_INTERVAL_MS:
        raise INVALID_REQUEST.error(
            f"expected a min_interval_ms of 0 to {MAX_INTERVAL_MS}, was {milliseconds}", field="min_interval_ms"
        )
    return milliseconds


def resume_position(epoch: int, sequence: int) -> Position | None:
    """Returns the position to resume after; None for a new subscriber. {epoch, 0} is before the first change."""
    if epoch == 0 and sequence != 0:
        raise INVALID_POSITION.error(
            f"expected epoch and sequence or neither, was sequence {sequence} without an epoch", field="epoch"
        )
    return Position(epoch, sequence) if epoch else None


def gappers_request(request: scanner_pb2.GetGappersRequest) -> tuple[float, int, FieldSelection | None]:
    limit = rows_limit(optional(request, "limit"))
    return least_gap(optional(request, "min_gap")), limit, selected_fields(request.fields)


def filtered_request(request: scanner_pb2.GetFilteredRequest) -> tuple[int, FieldSelection | None]:
    return rows_limit(optional(request, "limit"), maximum=MAX_FILTERED_ROWS), selected_fields(request.fields)


def search_request(request: scanner_pb2.SearchSymbolsRequest) -> tuple[str, int]:
    """Returns the query and the limit; raises INVALID_REQUEST, INVALID_LIMIT."""
    if not 1 <= len(request.query) <= LONGEST_QUERY:
        raise INVALID_REQUEST.error(
            f"expected a query of 1 to {LONGEST_QUERY} characters, was {len(request.query)}", field="query"
        )
    return request.query, rows_limit(optional(request, "limit"), DEFAULT_SYMBOLS, MAX_SYMBOLS)


def optional(request: Any, field: str) -> Any:
    """Returns a proto3 optional field's value; None when it is absent."""
    return getattr(request, field) if request.HasField(field) else None
