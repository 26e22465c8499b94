"""AlertsService: checks requests, and answers them from the log of alerts."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Final

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import alerts_pb2

from fastcore.alert_rules import rule_message
from services.kit.lists.alert_json import alert_json
from services.kit.lists.list_json import message_json
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.page_tokens import decode_page_token
from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import first_request, serve, write_all
from services.kit.runtime.errors import (
    INVALID_REQUEST,
    INVALID_TIME,
    TOO_MANY_STREAMS,
    UNKNOWN_ALERT_RULE,
    UNKNOWN_SYMBOL,
    ServiceError,
)
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.market.symbols import spellings
from services.scanner import metrics
from services.scanner.alert_events import AlertHistory
from services.scanner.alert_log import AlertLog
from services.scanner.alert_pages import AlertPages, PageRequest, page_mark
from services.scanner.alert_stream import AlertStreams, Wanted
from services.scanner.core import ScannerCore
from services.scanner.list_events import event_body, last_event_position
from services.scanner.list_hub import MAX_SUBSCRIBERS
from services.scanner.scan_requests import ScanRequests
from services.scanner.servicer import key_name, optional, resume_position, rows_limit
from services.scanner.turns import Turns

Context = grpc.aio.ServicerContext[Any, Any]
MAX_ALERTS: Final = 500
# After these messages a client has seen all alerts up to the position that is the event's id.
_OF_POSITION: Final = frozenset({"current", "heartbeat", "reset"})


class AlertsServicer:
    """`history`: the stored alerts, None where there are none; `max_streams`: alert streams at once."""

    def __init__(
        self,
        core: ScannerCore,
        log: AlertLog,
        streams: AlertStreams,
        turns: Turns,
        requests: ScanRequests,
        history: AlertHistory | None = None,
        max_streams: int = MAX_SUBSCRIBERS,
    ) -> None:
        self._core = core
        self._log = log
        self._streams = streams
        self._pages = AlertPages(log, turns, history)
        self._requests = requests
        self._max_streams = max_streams

    async def ListAlertRules(
        self, _: alerts_pb2.ListAlertRulesRequest, __: Context
    ) -> alerts_pb2.ListAlertRulesResponse:
        market = self._core.market
        mistakes, counts = market.ignored_alert_rules, market.alert_counts
        rules = [
            alerts_pb2.AlertRuleStatus(
                rule=rule_message(rule),
                alerts_today=counts.get(name, 0),
                mistake=mistakes.get(name, ""),
                enabled=name in counts,
            )
            for name, rule in sorted(self._log.rules.items())
        ]
        return alerts_pb2.ListAlertRulesResponse(rules=rules, count=len(rules))

    async def ListAlerts(self, request: alerts_pb2.ListAlertsRequest, context: Context) -> alerts_pb2.AlertPage:
        from_ns, to_ns = _time_ns(request, "from"), _time_ns(request, "to")
        is_past = from_ns is not None and self._pages.reaches_back(from_ns)
        limit = rows_limit(optional(request, "limit"), maximum=MAX_ALERTS)
        mark = decode_page_token(request.page_token, page_mark)
        wanted = await self._wanted(
            request.rules, request.filter, optional(request, "min_quality"), context, may_be_gone=is_past
        )
        symbol = self._symbol(request.symbol, may_be_gone=is_past) if request.symbol else ""
        return await self._pages.page(
            PageRequest(wanted, symbol, from_ns, to_ns, limit, mark), key_name(RequestKey.of_context(context))
        )

    async def WatchAlerts(self, request: alerts_pb2.WatchAlertsRequest, context: Context) -> None:
        messages = await self._messages(request, context, None)
        with self._counted():
            await write_all(messages, context)

    async def WatchAlertsEvents(self, request: alerts_pb2.WatchAlertsRequest, context: Context) -> None:
        messages = await self._messages(request, context, last_event_position(context))
        with self._counted():
            await write_all(_events(messages), context)

    async def SubscribeAlerts(
        self, incoming: AsyncIterator[alerts_pb2.SubscribeAlertsRequest], context: Context
    ) -> None:
        """Acks change nothing here: HTTP/2 sets the pace, and what a client has not taken is held for it."""
        first = await first_request(incoming)
        messages = await self._messages(first.open, context, None)
        with self._counted():
            await serve(messages, incoming, context)

    async def _messages(
        self, request: alerts_pb2.WatchAlertsRequest, context: Context, position: Position | None
    ) -> AsyncGenerator[bytes, None]:
        position = position or resume_position(request.epoch, request.sequence)
        wanted = await self._wanted(request.rules, request.filter, optional(request, "min_quality"), context)
        return self._streams.messages(wanted, position)

    async def _wanted(
        self, rules: str, filter_text: str, min_quality: float | None, context: Context, may_be_gone: bool = False
    ) -> Wanted:
        """The alerts that a request selects. Raises NOT_READY, UNKNOWN_ALERT_RULE, and what compiling raises.

        `may_be_gone`: the rules may be those of days before.
        """
        self._core.market  # noqa: B018  NOT_READY while there is none
        names = frozenset(name.strip() for name in rules.split(",") if name.strip())
        for name in names:
            if name not in self._log.rules and not may_be_gone:
                shown = name[:100]
                nearest = nearest_name(shown, self._log.rules)
                raise UNKNOWN_ALERT_RULE.error(
                    f"there is no alert rule {shown!r}{nearest_hint(nearest)}", rule=shown, nearest=nearest
                )
        if min_quality is not None and min_quality != min_quality:
            raise INVALID_REQUEST.error("expected a min_quality, was not a number", field="min_quality")
        if filter_text.strip():
            await self._requests.compile(filter_text, "", key_name(RequestKey.of_context(context)))
        return Wanted(names, filter_text.strip(), min_quality)

    def _symbol(self, symbol: str, may_be_gone: bool) -> str:
        """The market's spelling of a symbol; of one that it does not have today, in capitals. Raises UNKNOWN_SYMBOL."""
        try:
            return self._core.known_symbol(symbol)
        except ServiceError as error:
            if not may_be_gone or error.reason is not UNKNOWN_SYMBOL:
                raise
            return spellings(symbol)[-1]

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        gauge = metrics.subscribers("alerts")
        if len(self._streams.readers) >= self._max_streams:
            raise TOO_MANY_STREAMS.error(
                f"limit reached: {self._max_streams} streams of alerts", maximum=self._max_streams
            )
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()


async def _events(messages: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The messages as server-sent events; closes them."""
    async with contextlib.aclosing(messages):
        async for message in messages:
            response = alerts_pb2.WatchAlertsResponse.FromString(message)
            kind = response.WhichOneof("response")
            position = None
            if kind == "alert":
                position = Position(response.alert.epoch, response.alert.sequence)
            elif kind in _OF_POSITION:
                position = Position.of(getattr(response, str(kind)).position)
            body = (
                b'{"alert":%b}' % alert_json(response.alert.SerializeToString())
                if kind == "alert"
                else message_json(response)
            )
            yield event_body(body, position)


def _time_ns(request: alerts_pb2.ListAlertsRequest, field: str) -> int | None:
    """A time of a request, ns since 1970 UTC; None without one. Raises INVALID_TIME."""
    text = optional(request, field)
    if text is None:
        return None
    time = Timestamp()
    try:
        time.FromJsonString(text)
    except ValueError as error:
        raise INVALID_TIME.error(
            f"{field}: expected a time like 2026-01-05T14:30:00Z, was {text[:50]!r}", field=field
        ) from error
    return time.ToNanoseconds()
