"""A list as the terminal shows it: its rows filtered, sorted and held, who came and left, and why it is empty."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import scanner_pb2
from tradeul.v1.session_pb2 import CLOSED, PRE_MARKET
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import BY_NAME
from fastcore.filter_ast import FilterError
from fastcore.filter_types import check_filter
from fastcore.row_filter import row_filter
from services.cli.lists.columns import ENUMS, SYMBOL, default_columns
from services.kit.lists.list_client import Followed, ListCopy, ListRequest
from services.kit.runtime.clock import new_york_time

LONGEST_LOG: Final = 500
LONGEST_TITLE: Final = 24
WORD: Final = re.compile(r"[A-Za-z0-9.-]+")
# So long a symbol that has entered is marked.
NEW_SECONDS: Final = 10.0


class LogLine(NamedTuple):
    """A symbol that entered ("+") or left ("-"), and when."""

    time: str
    sign: str
    row: TickerRow


class Sheet:
    """One tab: a list or custom scan with all that is chosen for it."""

    def __init__(self, name: str, request: ListRequest, columns: Sequence[str] = ()) -> None:
        self.name = name
        self.request = request
        self.copy = ListCopy()
        self.columns = list(columns) or default_columns(name)
        # "" is the list's own order.
        self.sort_field = ""
        self.is_descending = True
        self.filter_text = ""
        self.definition: scanner_pb2.ListDefinition | None = None
        # Why the scanner refuses the list; "" while it does not.
        self.refused = ""
        self.log: deque[LogLine] = deque(maxlen=LONGEST_LOG)
        # Symbols that entered since the sheet was last shown.
        self.unseen = 0
        # When each member entered, by monotonic seconds; those of the first snapshot did not.
        self.entered: dict[str, float] = {}
        self.held: list[TickerRow] | None = None
        # Changes that wait while the rows are held.
        self.waiting = 0
        self._members: dict[str, TickerRow] | None = None

    @property
    def is_custom(self) -> bool:
        """True for a custom scan."""
        return isinstance(self.request, scanner_pb2.WatchScanRequest)

    @property
    def title(self) -> str:
        """The name, cut to fit a tab."""
        return self.name if len(self.name) <= LONGEST_TITLE else self.name[: LONGEST_TITLE - 1] + "…"

    @property
    def time(self) -> str:
        """The New York time of the rows; "" before the first."""
        return f"{new_york_time(self.copy.timestamp_ns):%H:%M:%S}" if self.copy.timestamp_ns else ""

    def take(self, followed: Followed, now: float) -> None:
        """Notes who came and left with a response."""
        if not followed.is_news or not self.copy.is_loaded:
            return
        before, members = self._members, {row.symbol: row for row in self.copy.rows()}
        self._members = members
        if self.held is not None:
            self.waiting += followed.response is not None
        if before is None:
            return
        time = self.time
        for symbol, row in before.items():
            if symbol not in members:
                self.entered.pop(symbol, None)
                self.log.append(LogLine(time, "-", row))
        for symbol, row in members.items():
            if symbol not in before:
                self.entered[symbol] = now
                self.unseen += 1
                self.log.append(LogLine(time, "+", row))

    def begin_log(self, changes: Sequence[scanner_pb2.LoggedChange]) -> None:
        """Puts changes, the newest first, before those of the log."""
        for change in changes[: LONGEST_LOG - len(self.log)]:
            row = TickerRow(symbol=change.symbol)
            for name in ("rank", "price", "change_percent"):
                if change.HasField(name):
                    setattr(row, name, getattr(change, name))
            sign = "+" if change.action == scanner_pb2.LoggedChange.ENTER else "-"
            self.log.appendleft(LogLine(f"{new_york_time(change.time.ToNanoseconds()):%H:%M:%S}", sign, row))

    def is_new(self, symbol: str, now: float) -> bool:
        """True for a while after a symbol entered."""
        return now - self.entered.get(symbol, float("-inf")) < NEW_SECONDS

    def hold(self) -> None:
        """Keeps the rows as they are, or lets them go on."""
        self.held = self.copy.rows() if self.held is None else None
        self.waiting = 0

    def all_rows(self) -> list[TickerRow]:
        """The list's rows by rank, those of the moment they were held."""
        return self.copy.rows() if self.held is None else self.held

    def rows(self) -> list[TickerRow]:
        """The rows that pass the filter, in the chosen order."""
        rows = list(matching(self.filter_text, self.all_rows()))
        return ordered(rows, self.sort_field, self.is_descending) if self.sort_field else rows

    def empty_reason(self, target: str, status: scanner_pb2.ScannerStatus | None) -> str:
        """Returns, in a line, why there is no row to show."""
        if self.refused:
            return self.refused
        if not self.copy.is_loaded:
            if self.copy.unhealthy_reason:
                return f"not connected to {target}: {short_reason(self.copy.unhealthy_reason)}; trying again"
            return f"loading {self.name} from {target}"
        if count := len(self.all_rows()):
            return f"none of the {count} rows matches {self.filter_text}; Escape clears the filter"
        if status is not None and status.problem:
            return f"the scanner is not current: {status.problem}"
        if status is not None and status.HasField("session") and status.session == CLOSED:
            return "the market is closed, and the list has no rows"
        if status is not None and not status.active_symbols:
            return "no symbol has traded today so far"
        return f"no symbol passes now: {self._condition(status)}"

    def _condition(self, status: scanner_pb2.ScannerStatus | None) -> str:
        if isinstance(self.request, scanner_pb2.WatchScanRequest):
            return self.request.filter or "the filter"
        if (definition := self.definition) is None:
            return f"the filter of {self.name}"
        parts = [part for part in (definition.filter, definition.base_filter) if part]
        if definition.uses_scanner_filters:
            is_early = status is not None and status.session == PRE_MARKET
            parts.append("the scanner filters (premarket volume)" if is_early else "the scanner filters")
        return " AND ".join(parts)


def short_reason(reason: str) -> str:
    """Returns why a connection failed without the layers that gRPC and Envoy name before."""
    if "upstream connect error" in reason:
        return "the gateway does not reach the scanner"
    return reason.rpartition(": ")[2] if "failed to connect" in reason else reason


def filter_error(text: str) -> FilterError | None:
    """Returns what is wrong with a filter; None when it can be used."""
    try:
        check_filter(text)
    except FilterError as error:
        return error
    return None


def is_word(text: str) -> bool:
    """True for a part of a symbol or company, which is no filter."""
    return WORD.fullmatch(text.strip()) is not None and filter_error(text) is not None


def row_filter_error(text: str) -> FilterError | None:
    """Returns what is wrong with a filter of rows that are there, which may be a single word, too."""
    return None if is_word(text) else filter_error(text)


def matching(text: str, rows: Sequence[TickerRow]) -> Iterator[TickerRow]:
    """The rows that pass a filter that can be used; a word finds symbols by beginning and companies by any part."""
    if is_word(text):
        word = text.strip().lower()
        return (row for row in rows if row.symbol.lower().startswith(word) or word in row.company_name.lower())
    passes = row_filter(text)
    return (row for row in rows if passes(values_of(row)))


def ordered(rows: list[TickerRow], name: str, is_descending: bool) -> list[TickerRow]:
    """The rows by a field; those without it last."""

    def key(row: TickerRow) -> Any:
        value = getattr(row, name)
        return value.ToNanoseconds() if isinstance(value, Timestamp) else value

    present = [row for row in rows if name == SYMBOL or row.HasField(name)]  # type: ignore[arg-type]
    absent = [row for row in rows if name != SYMBOL and not row.HasField(name)]  # type: ignore[arg-type]
    return [*sorted(present, key=key, reverse=is_descending), *absent]


def values_of(row: TickerRow) -> Mapping[str, Any]:
    """Returns a row's values by name as filters compare them: times in nanoseconds, enums as their texts."""
    values: dict[str, Any] = {}
    for field, value in row.ListFields():
        name = field.name
        if name not in BY_NAME:
            continue
        if isinstance(value, Timestamp):
            value = value.ToNanoseconds()
        elif name in ENUMS:
            value = ENUMS[name].Name(value)
        values[name] = value
    return values
