"""Pages of alerts, newest first: those in memory, then those that are stored."""

from typing import Final, NamedTuple

from tradeul.v1 import alerts_pb2

from services.kit.rpc.page_tokens import encode_page_token
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import STORE_UNAVAILABLE, ServiceError
from services.scanner.alert_events import AlertHistory, AlertMark, PastAlerts, mark_of
from services.scanner.alert_log import AlertLog, HeldAlert
from services.scanner.alert_stream import Selection, Wanted
from services.scanner.turns import Turns

# So many rows of alerts are compared with a filter for one page, which takes some 20 ms.
MOST_COMPARED: Final = 300


class PageRequest(NamedTuple):
    """`mark`: where the page before ended, in memory or among the stored alerts; None for the first page."""

    wanted: Wanted
    symbol: str
    from_ns: int | None
    to_ns: int | None
    limit: int
    mark: Position | AlertMark | None


class AlertPages:
    """The pages of one log and, where there is one, of its history."""

    def __init__(self, log: AlertLog, turns: Turns, history: AlertHistory | None) -> None:
        self._log = log
        self._turns = turns
        self._history = history

    def reaches_back(self, from_ns: int | None) -> bool:
        """True if a range that begins there may have alerts that only the history has."""
        if self._history is None:
            return False
        since_ns = self._log.since_ns
        return from_ns is None or since_ns is None or from_ns < since_ns

    async def page(self, request: PageRequest, key: str) -> alerts_pb2.AlertPage:
        """A page for the key of that name.

        Raises STORE_UNAVAILABLE where only the history can answer; a first page without `from` ends before it instead.
        """
        selection = Selection(request.wanted)
        if isinstance(request.mark, AlertMark):
            return await self._past(request, selection, request.mark, key)
        held = await self._turns.take_counted(lambda: self._in_memory(request, selection), key)
        if held.next_page_token or not self.reaches_back(request.from_ns):
            return held
        mark = self._first_past()
        if not held.alerts:
            try:
                return await self._past(request, selection, mark, key)
            except ServiceError as error:
                if error.reason is not STORE_UNAVAILABLE or request.from_ns is not None or request.mark is not None:
                    raise
        held.next_page_token = encode_page_token(mark)
        return held

    def _first_past(self) -> AlertMark:
        """The mark before which all alerts are those of the history."""
        log = self._log
        if log.oldest <= log.position.sequence:
            return mark_of(log.get(log.oldest).time_ns, log.position.epoch, log.oldest)
        # None is held: whatever is stored up to now.
        return mark_of((log.since_ns or 0) + 1000, 0, 0)

    def _new_page(self) -> alerts_pb2.AlertPage:
        page = alerts_pb2.AlertPage(position=self._log.position.message())
        if self._log.since_ns is not None:
            page.since.FromNanoseconds(self._log.since_ns)
        return page

    def _in_memory(self, request: PageRequest, selection: Selection) -> alerts_pb2.AlertPage:
        log, page, mark = self._log, self._new_page(), request.mark
        before = mark.sequence if isinstance(mark, Position) and mark.epoch == log.position.epoch else None
        compared = 0
        for alert in log.newest_first(before):
            if request.from_ns is not None and alert.time_ns < request.from_ns:
                break
            if (request.symbol and alert.symbol != request.symbol) or (
                request.to_ns is not None and alert.time_ns >= request.to_ns
            ):
                continue
            if len(page.alerts) == request.limit or compared == MOST_COMPARED:
                page.next_page_token = encode_page_token((log.position.epoch, alert.sequence + 1))
                break
            compared += selection.is_costly
            if selection.matches(alert):
                page.alerts.append(alerts_pb2.Alert.FromString(alert.encoded))
        page.count = len(page.alerts)
        return page

    async def _past(
        self, request: PageRequest, selection: Selection, mark: AlertMark, key: str
    ) -> alerts_pb2.AlertPage:
        assert self._history is not None, "it reaches back"
        wanted = request.wanted
        past = PastAlerts(sorted(wanted.rules), request.symbol, request.from_ns or 0, request.to_ns, wanted.min_quality)
        most = MOST_COMPARED if selection.is_costly else request.limit
        found = await self._history.before(mark, past, most + 1)

        def page() -> alerts_pb2.AlertPage:
            answer = self._new_page()
            for number, (place, alert) in enumerate(found):
                if len(answer.alerts) == request.limit or number == most:
                    answer.next_page_token = encode_page_token(found[number - 1][0] if number else mark)
                    break
                time_ns = alert.time.ToNanoseconds()
                if time_ns < past.from_ns or (past.to_ns is not None and time_ns >= past.to_ns):
                    continue
                held = HeldAlert(
                    place.sequence,
                    time_ns,
                    alert.rule,
                    alert.symbol,
                    alert.quality if alert.HasField("quality") else None,
                    alert.SerializeToString() if selection.is_costly else b"",
                )
                if selection.matches(held):
                    answer.alerts.append(alert)
            answer.count = len(answer.alerts)
            return answer

        return await self._turns.take_counted(page, key)


def page_mark(*numbers: int) -> Position | AlertMark:
    """The mark that a page's token names; raises ValueError."""
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers) or len(numbers) not in (2, 3):
        raise ValueError("not a mark")
    return AlertMark(*numbers) if len(numbers) == 3 else Position(*numbers)
