"""AlertsService: checks requests, and answers them from the log of alerts."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Final

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import alerts_pb2

from fastcore.alert_rules import rule_message
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.page_tokens import decode_page_token, encode_page_token
from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import first_request, serve, write_all
from services.kit.runtime.errors import INVALID_REQUEST, INVALID_TIME, TOO_MANY_STREAMS, UNKNOWN_ALERT_RULE
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.scanner import metrics
from services.scanner.alert_log import AlertLog
from services.scanner.alert_stream import AlertStreams, Selection, Wanted
from services.scanner.core import ScannerCore
from services.scanner.list_events import event_body, last_event_position, message_json
from services.scanner.list_hub import MAX_SUBSCRIBERS
from services.scanner.scan_requests import ScanRequests
from services.scanner.servicer import key_name, optional, resume_position, rows_limit
from services.scanner.turns import Turns

Context = grpc.aio.ServicerContext[Any, Any]
MAX_ALERTS: Final = 500
# So many rows of alerts are compared with a filter for one page, which takes some 20 ms.
MOST_COMPARED: Final = 300
# After these messages a client has seen all alerts up to the position that is the event's id.
_OF_POSITION: Final = frozenset({"current", "heartbeat", "reset"})


class AlertsServicer:
    """`max_streams`: alert streams at once."""

    def __init__(
        self,
        core: ScannerCore,
        log: AlertLog,
        streams: AlertStreams,
        turns: Turns,
        requests: ScanRequests,
        max_streams: int = MAX_SUBSCRIBERS,
    ) -> None:
        self._core = core
        self._log = log
        self._streams = streams
        self._turns = turns
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
        symbol = self._core.known_symbol(request.symbol) if request.symbol else ""
        limit = rows_limit(optional(request, "limit"), maximum=MAX_ALERTS)
        before = decode_page_token(request.page_token, _position)
        wanted = await self._wanted(request.rules, request.filter, optional(request, "min_quality"), context)
        selection = Selection(wanted)
        from_ns, to_ns = _time_ns(request, "from"), _time_ns(request, "to")

        def page() -> alerts_pb2.AlertPage:
            return self._page(selection, symbol, from_ns or 0, to_ns, limit, before)

        return await self._turns.take_counted(page, key_name(RequestKey.of_context(context)))

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

    async def _wanted(self, rules: str, filter_text: str, min_quality: float | None, context: Context) -> Wanted:
        """The alerts that a request selects. Raises NOT_READY, UNKNOWN_ALERT_RULE, and what compiling raises."""
        self._core.market  # noqa: B018  NOT_READY while there is none
        names = frozenset(name.strip() for name in rules.split(",") if name.strip())
        for name in names:
            if name not in self._log.rules:
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

    def _page(
        self, selection: Selection, symbol: str, from_ns: int, to_ns: int | None, limit: int, before: Position | None
    ) -> alerts_pb2.AlertPage:
        log = self._log
        page = alerts_pb2.AlertPage(position=log.position.message())
        if log.since_ns is not None:
            page.since.FromNanoseconds(log.since_ns)
        newest = before.sequence if before is not None and before.epoch == log.position.epoch else None
        compared = 0
        for alert in log.newest_first(newest):
            if alert.time_ns < from_ns:
                break
            if (symbol and alert.symbol != symbol) or (to_ns is not None and alert.time_ns >= to_ns):
                continue
            if len(page.alerts) == limit or compared == MOST_COMPARED:
                page.next_page_token = encode_page_token((log.position.epoch, alert.sequence + 1))
                break
            compared += selection.is_costly
            if selection.matches(alert):
                page.alerts.append(alerts_pb2.Alert.FromString(alert.encoded))
        page.count = len(page.alerts)
        return page

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
            yield event_body(message_json(response), position)


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


def _position(*numbers: int) -> Position:
    if len(numbers) != 2 or not all(type(number) is int for number in numbers):
        raise ValueError("not a position")
    return Position(*numbers)
