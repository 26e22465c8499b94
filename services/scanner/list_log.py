"""The log of the built-in lists: which symbol entered or left which list today, when, and at what price.

It follows from the frames alone, as the lists do. The newest changes are held in memory, packed: as tuples of Python
they would be four times as large.
"""

import itertools
import math
import struct
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from tradeul.v1 import scanner_pb2

from fastcore.list_membership import membership_changes
from fastcore.ranked_list import ListUpdate
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.page_tokens import decode_page_token, encode_page_token
from services.scanner.core import ScannerCore

# About 12 MB.
MAX_HELD: Final = 100_000
# A place, whose bytes are in the order of places; then what else LoggedChange has, but the list, which the place names,
# and the symbol, which comes last.
_PLACE: Final = struct.Struct(">IIHI")
_CHANGE: Final = struct.Struct("<qIIdd")


class Place(NamedTuple):
    """The place of a change among all of them: the frame's position, then the list, then the change within it."""

    epoch: int
    sequence: int
    list_number: int
    number: int


class LoggedChange(NamedTuple):
    """`rank` is 0 for one that left; prices in USD, absent values None."""

    place: Place
    time_ns: int
    list: str
    list_sequence: int
    symbol: str
    rank: int
    price: float | None
    change_percent: float | None


class ListLog:
    """A listener of the hub, which logs the changes of a trading day, at most `max_held` of them."""

    def __init__(self, core: ScannerCore, max_held: int = MAX_HELD) -> None:
        self._core = core
        self._max_held = max_held
        # The event time since which every change is held; None before there is a market.
        self.since_ns: int | None = None
        self._trading_date = ""
        self._list_names = list(core.list_numbers)
        # The same packed changes three times.
        self._changes: deque[bytes] = deque()
        self._by_list: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self._by_symbol: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self._members: dict[str, set[str]] = {}
        # True when the members have to be compared with the lists, since changes of them were not seen.
        self._is_behind = False

    def frame_applied(self, frame: Frame, updates: list[ListUpdate]) -> None:
        """Logs who entered and who left at a watermark."""
        if frame.kind != WATERMARK:
            return
        core = self._core
        state = core.market.state
        if state.trading_date != self._trading_date:
            self._begin_day(state.trading_date, state.now_ns)
        if self._is_behind:
            self._compare()
            return
        for update in updates:
            if update.list in self._members and (update.added or update.removed):
                self._log(update.list, update.sequence, membership_changes(update.delta))

    def market_replaced(self) -> None:
        """Logs the difference between the members of before and those of now, once that is known."""
        market = self._core.market
        has_lists = any(market.list_sequence(name) for name in self._core.definitions)
        # A new epoch begins with empty lists, which its first watermark fills.
        self._is_behind = not has_lists
        if has_lists or not self._members:
            self._compare()

    def newest(self, list_name: str, symbol: str, before: Place | None) -> Iterator[LoggedChange]:
        """Yields the changes before a place, the newest first: of a list, of a symbol, or of all where that is ""."""
        if symbol:
            changes = self._by_symbol.get(symbol, ())
        else:
            changes = self._by_list.get(list_name, ()) if list_name else self._changes
        end = None if before is None else _PLACE.pack(*before)
        for packed in reversed(changes):
            if end is None or packed[: _PLACE.size] < end:
                change = self._unpacked(packed)
                if not list_name or change.list == list_name:
                    yield change

    def _unpacked(self, packed: bytes) -> LoggedChange:
        place = Place(*_PLACE.unpack_from(packed))
        time_ns, list_sequence, rank, *numbers = _CHANGE.unpack_from(packed, _PLACE.size)
        symbol = packed[_PLACE.size + _CHANGE.size :].decode()
        price, change_percent = map(_known, numbers)
        name = self._list_names[place.list_number]
        return LoggedChange(place, time_ns, name, list_sequence, symbol, rank, price, change_percent)

    def _begin_day(self, trading_date: str, now_ns: int) -> None:
        self._trading_date = trading_date
        self.since_ns = now_ns
        for held in (self._changes, self._by_list, self._by_symbol):
            held.clear()

    def _compare(self) -> None:
        core, is_first = self._core, not self._members
        self._is_behind = False
        market = core.market
        self.since_ns = market.state.now_ns
        self._trading_date = market.state.trading_date
        for name in core.definitions:
            rows = scanner_pb2.RankedList.FromString(market.snapshot(name)).rows
            ranks = {row.symbol: row.rank for row in rows}
            members = self._members.setdefault(name, set())
            if is_first:
                members.update(ranks)
                continue
            gone = sorted(members.difference(ranks))
            new = [(symbol, rank) for symbol, rank in ranks.items() if symbol not in members]
            self._log(name, market.list_sequence(name), [*zip(gone, itertools.repeat(0)), *new])

    def _log(self, name: str, list_sequence: int, changes: list[tuple[str, int]]) -> None:
        core = self._core
        position, state = core.position, core.market.state
        assert position is not None, "a change comes with a frame or a snapshot"
        list_number, members, of_list = core.list_numbers[name], self._members[name], self._by_list[name]
        now_ns, number_of = state.now_ns, state.number
        for number, (symbol, rank) in enumerate(changes):
            if rank:
                members.add(symbol)
            else:
                members.discard(symbol)
            price, change_percent = number_of(symbol, "price"), number_of(symbol, "change_percent")
            packed = (
                _PLACE.pack(*position, list_number, number)
                + _CHANGE.pack(now_ns, list_sequence, rank, price, change_percent)
                + symbol.encode()
            )
            self._changes.append(packed)
            of_list.append(packed)
            self._by_symbol[symbol].append(packed)
        while len(self._changes) > self._max_held:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._unpacked(self._changes.popleft())
        self.since_ns = oldest.time_ns + 1
        self._by_list[oldest.list].popleft()
        of_symbol = self._by_symbol[oldest.symbol]
        of_symbol.popleft()
        if not of_symbol:
            del self._by_symbol[oldest.symbol]


def list_log_page(
    log: ListLog, list_name: str, symbol: str, limit: int, before: Place | None
) -> scanner_pb2.ListLogPage:
    """Returns the newest `limit` changes before a place, and the token of the page after them."""
    page = scanner_pb2.ListLogPage()
    if log.since_ns is not None:
        page.since.FromNanoseconds(log.since_ns)
    last = None
    for change in log.newest(list_name, symbol, before):
        if len(page.changes) == limit:
            assert last is not None, "a limit is at least 1"
            page.next_page_token = page_token(last.place)
            break
        logged = page.changes.add(
            list=change.list,
            symbol=change.symbol,
            action=scanner_pb2.LoggedChange.ENTER if change.rank else scanner_pb2.LoggedChange.LEAVE,
            rank=change.rank or None,
            price=change.price,
            change_percent=change.change_percent,
            sequence=change.list_sequence,
        )
        logged.time.FromNanoseconds(change.time_ns)
        last = change
    page.count = len(page.changes)
    return page


def page_token(place: Place) -> str:
    """The token that requests the page after `place`; the same in every replica."""
    return encode_page_token(place)


def page_place(token: str) -> Place | None:
    """The last change of the page before; None for the first page. Raises INVALID_REQUEST."""
    return decode_page_token(token, _place)


def _place(*numbers: int) -> Place:
    if not all(type(number) is int for number in numbers):
        raise ValueError("not numbers")
    place = Place(*numbers)
    try:
        _PLACE.pack(*place)
    except struct.error as error:
        raise ValueError("not the numbers of a place") from error
    return place


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
