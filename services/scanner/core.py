"""The scanner's copy of the market and the answers it gives: no I/O, no clock, no waiting."""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias, cast

from tradeul.v1 import scanner_pb2, session_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.breadth import Breadth, breadth
from fastcore.fields import FIELDS
from fastcore.filters import compile_filter, compile_order
from fastcore.market import Market
from fastcore.ranked_list import ListUpdate, RankedList
from fastcore.wire import fields, wrap
from services.kit.lists.definitions import ListSpec
from services.kit.lists.field_selection import FieldSelection
from services.kit.lists.list_json import filtered_json, gappers_json, http_body, ranked_list_json
from services.kit.rpc.frames import Frame
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import NOT_READY, UNKNOWN_SYMBOL
from services.market.symbols import spellings
from services.scanner.compiled_scan import CompiledScan
from services.scanner.symbol_search import SymbolSearch

MarketSource: TypeAlias = scanner_pb2.ScannerStatus.Market.ValueType
# The built-in list that GetFiltered shows.
FILTERED: Final = "filtered"
# The name of custom scans in messages and metrics.
SCAN: Final = "scan"
# Responses are held for equal requests until the next frame, as long as they are not more than this.
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
# Field numbers of messages that are put together from encoded parts.
_RANKED_ROWS: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["rows"].number
_RANKED_TIMESTAMP: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["timestamp"].number
_RANKED_POSITION: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["position"].number
_GAPPERS: Final = {name: field.number for name, field in scanner_pb2.Gappers.DESCRIPTOR.fields_by_name.items()}
_OPTIONAL_OF_MATCH: Final = tuple(field.name for field in scanner_pb2.SymbolMatch.DESCRIPTOR.fields[1:])
_FILTERED: Final = {name: field.number for name, field in scanner_pb2.FilteredTickers.DESCRIPTOR.fields_by_name.items()}


class ScannerCore:
    """One copy of the market, with the built-in lists of `definitions`.

    Before the first snapshot, or the first frame of an epoch, there is no market,
    and every request raises NOT_READY.
    """

    def __init__(self, definitions: Sequence[ListSpec]) -> None:
        self.definitions = {definition.name: definition for definition in definitions}
        # By name, in the order of the definitions.
        self.list_numbers = {name: number for number, name in enumerate(self.definitions)}
        # The last frame applied; None when a snapshot is needed.
        self.position: Position | None = None
        # As of the newest note_stale().
        self._stale_seconds = 0.0
        self._specs = list(definitions)
        self._market: Market | None = None
        self._search = SymbolSearch()
        self._answers: dict[Hashable, bytes] = {}
        self._answer_bytes = 0
        self._etags: dict[bytes, str] = {}

    @property
    def market(self) -> Market:
        """The market; raises NOT_READY while there is none."""
        if self._market is None:
            raise NOT_READY.error("the market's state is not here yet: the sequencer has not sent it")
        return self._market

    @property
    def is_loaded(self) -> bool:
        return self._market is not None

    def apply(self, frame: Frame) -> list[ListUpdate]:
        """Applies the next frame; returns what it changed in the built-in lists.

        After a watermark the market's alerts are still to be refreshed. Raises ValueError when it cannot be applied.
        """
        market = Market(self._specs, frame.position.epoch) if frame.begins_market else self.market
        self._forget_answers()
        updates = market.refresh_lists() if market.take(frame.encoded) else []
        self._market, self.position = market, frame.position
        return updates

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the market by a snapshot; raises ValueError when it cannot be read."""
        self._market = Market.from_bytes(self._specs, data)
        self._forget_answers()
        self.position = position

    def forget(self) -> None:
        """Drops the position, so that a snapshot comes next; answers continue from what there is."""
        self.position = None

    def note_stale(self, seconds: float) -> None:
        """From now on answers say that nothing has come for so long although something should have."""
        if seconds != self._stale_seconds:
            self._stale_seconds = seconds
            self._forget_answers()

    def answered(self, ranked_list: bytes) -> bytes:
        """An encoded RankedList as an answer of its own: it says whether the vendor's line is silent."""
        return ranked_list + scanner_pb2.RankedList(stale_seconds=self._stale_seconds).SerializeToString()

    def ranked_list(self, name: str, limit: int | None = None, selection: FieldSelection | None = None) -> bytes:
        """A built-in list as last published: an encoded RankedList, with the selected fields of its rows."""
        return _selected(self.market.snapshot(name, limit), selection)

    def ranked_list_body(self, name: str, limit: int, selection: FieldSelection | None = None) -> bytes:
        """The same as JSON: an encoded HttpBody, made once for all requests before the next frame."""
        return self._answer(
            (self.ranked_list_body.__name__, name, limit, selection),
            lambda: http_body(ranked_list_json(name, self.ranked_list(name, limit, selection), self._stale_seconds)),
        )

    def list_position(self, name: str) -> Position:
        """A built-in list's own position."""
        market = self.market
        return Position(market.epoch, market.list_sequence(name))

    def scan_position(self, handle: RankedList) -> Position:
        """The position of a custom scan that is kept live."""
        return Position(self.market.epoch, handle.sequence)

    def scan(self, handle: RankedList) -> bytes:
        """A custom scan that is kept live, as last published: an encoded RankedList."""
        return self.market.scan_snapshot(handle)

    def query(self, scan: CompiledScan, limit: int, selection: FieldSelection | None = None) -> bytes:
        """A custom scan as of now: an encoded RankedList."""
        return _selected(self.market.query(scan.filter, scan.order, limit), selection)

    def query_body(self, scan: CompiledScan, limit: int, selection: FieldSelection | None = None) -> bytes:
        """The same as JSON: an encoded HttpBody."""
        return self._answer(
            ("query", scan.filter.text, scan.order.text, limit, selection),
            lambda: http_body(ranked_list_json(SCAN, self.query(scan, limit, selection), self._stale_seconds)),
        )

    def gappers(self, min_gap: float, limit: int, selection: FieldSelection | None = None) -> bytes:
        """Encoded Gappers: both sides with at least `min_gap` percent, filtered like the built-in lists."""
        up, down = self._gapper_sides(min_gap, limit, selection)
        parts: list[bytes] = []
        count = 0
        for side, ranked in (("gappers_up", up), ("gappers_down", down)):
            rows = _payloads(ranked, _RANKED_ROWS)
            count += len(rows)
            parts += [wrap(_GAPPERS[side], row) for row in rows]
        parts.append(scanner_pb2.Gappers(count=count, stale_seconds=self._stale_seconds).SerializeToString())
        parts += [wrap(_GAPPERS["timestamp"], time) for time in _payloads(up, _RANKED_TIMESTAMP)]
        parts += [wrap(_GAPPERS["position"], position) for position in _payloads(up, _RANKED_POSITION)]
        return b"".join(parts)

    def gappers_body(self, min_gap: float, limit: int, selection: FieldSelection | None = None) -> bytes:
        """The same as JSON: an encoded HttpBody."""
        return self._answer(
            (self.gappers_body.__name__, min_gap, limit, selection),
            lambda: http_body(gappers_json(*self._gapper_sides(min_gap, limit, selection), self._stale_seconds)),
        )

    def ticker_row(self, symbol: str, selection: FieldSelection | None = None) -> bytes:
        """One symbol's row as of now: an encoded TickerRow without a rank. Raises UNKNOWN_SYMBOL."""
        row = self.market.row(symbol)
        if row is None:
            raise UNKNOWN_SYMBOL.error(f"the market has no symbol {symbol!r}", symbol=symbol)
        return row if selection is None else selection.row(row)

    def breadth(self) -> scanner_pb2.MarketBreadth:
        """Market breadth as of now."""
        market = self.market
        total, *sectors = breadth(market.state)
        answer = scanner_pb2.MarketBreadth(
            total=_breadth(total),
            sectors=[scanner_pb2.SectorBreadth(sector=each.sector, breadth=_breadth(each)) for each in sectors],
            session=cast("session_pb2.Session.ValueType", market.state.session),
        )
        if market.state.now_ns:
            answer.timestamp.FromNanoseconds(market.state.now_ns)
        if self.position is not None:
            answer.position.CopyFrom(self.position.message())
        return answer

    def known_symbol(self, symbol: str) -> str:
        """The spelling of a symbol that the market has. Raises INVALID_SYMBOL, UNKNOWN_SYMBOL."""
        state = self.market.state
        for spelling in spellings(symbol):
            if state.symbol_id(spelling) >= 0:
                return spelling
        raise UNKNOWN_SYMBOL.error(f"the market has no symbol {symbol!r}", symbol=symbol)

    def search(self, query: str, limit: int) -> scanner_pb2.SearchSymbolsResponse:
        """At most `limit` symbols whose ticker or company name matches, the best first."""
        state = self.market.state
        found = self._search.find(state, query, limit)
        answer = scanner_pb2.SearchSymbolsResponse(count=len(found))
        for each in found:
            row = TickerRow.FromString(state.encode_row(each))
            match = answer.symbols.add(symbol=row.symbol)
            for name in _OPTIONAL_OF_MATCH:
                if row.HasField(name):  # type: ignore[arg-type]
                    setattr(match, name, getattr(row, name))
        return answer

    def filtered(self, limit: int, selection: FieldSelection | None = None) -> bytes:
        """Encoded FilteredTickers: the list `filtered`."""
        ranked = self.ranked_list(FILTERED, limit, selection)
        rows = _payloads(ranked, _RANKED_ROWS)
        parts = [wrap(_FILTERED["tickers"], row) for row in rows]
        plain = scanner_pb2.FilteredTickers(count=len(rows), stale_seconds=self._stale_seconds)
        parts.append(plain.SerializeToString())
        parts += [wrap(_FILTERED["timestamp"], time) for time in _payloads(ranked, _RANKED_TIMESTAMP)]
        return b"".join(parts)

    def filtered_body(self, limit: int, selection: FieldSelection | None = None) -> bytes:
        """The same as JSON: an encoded HttpBody."""
        return self._answer(
            (self.filtered_body.__name__, limit, selection),
            lambda: http_body(filtered_json(self.ranked_list(FILTERED, limit, selection), self._stale_seconds)),
        )

    def _gapper_sides(self, min_gap: float, limit: int, selection: FieldSelection | None) -> tuple[bytes, bytes]:
        market = self.market
        up = market.query(*_gap_side(f">= {min_gap!r}", "desc"), limit, as_built_in=True)
        down = market.query(*_gap_side(f"<= {-min_gap!r}", "asc"), limit, as_built_in=True)
        return _selected(up, selection), _selected(down, selection)

    def etag(self, answer: bytes) -> str:
        """The ETag of one of the HttpBodies above, made once as the answer is.

        A weak one, of all before the count, and of how long nothing has come: that the same rows hold at a later
        position is no change.
        """
        tag = self._etags.get(answer)
        if tag is None:
            rows = memoryview(answer)[answer.index(b'{"') : answer.rindex(b'],"count":')]
            digest = blake2b(rows, digest_size=12)
            digest.update(b"%g" % self._stale_seconds)
            tag = self._etags[answer] = f'W/"{digest.hexdigest()}"'
        return tag

    def held(self, body: Callable[..., bytes], *request: Hashable) -> bytes | None:
        """The answer of a method above that makes JSON to an equal request since the last frame; None without one."""
        return self._answers.get((body.__name__, *request))

    def _answer(self, request: Hashable, make: Callable[[], bytes]) -> bytes:
        """Equal requests have equal answers until the next frame."""
        answer = self._answers.get(request)
        if answer is None:
            answer = make()
            if self._answer_bytes + len(answer) > MAX_ANSWER_BYTES:
                self._forget_answers()
            self._answers[request] = answer
            self._answer_bytes += len(answer)
        return answer

    def _forget_answers(self) -> None:
        self._answers.clear()
        self._etags.clear()
        self._answer_bytes = 0


def _selected(ranked_list: bytes, selection: FieldSelection | None) -> bytes:
    return ranked_list if selection is None else selection.ranked_list(ranked_list)


def _breadth(counted: Breadth) -> scanner_pb2.Breadth:
    values = counted._asdict()
    del values["sector"]
    return scanner_pb2.Breadth(**values)


def list_definitions(definitions: Sequence[ListSpec]) -> scanner_pb2.ListListsResponse:
    """The built-in lists as the API shows them."""
    return scanner_pb2.ListListsResponse(
        lists=[
            scanner_pb2.ListDefinition(
                list=spec.name,
                title=spec.title,
                filter=spec.filter,
                order_by=spec.order_by,
                stay=spec.stay,
                base_filter=spec.base_filter,
                uses_scanner_filters=spec.uses_scanner_filters,
                limit=spec.limit,
            )
            for spec in definitions
        ]
    )


def field_definitions() -> scanner_pb2.GetFieldsResponse:
    """The field table as the API shows it."""
    return scanner_pb2.GetFieldsResponse(
        fields=[
            scanner_pb2.FieldDefinition(
                name=field.name, type=field.kind, unit=field.unit, meaning=field.meaning, values=field.values
            )
            for field in FIELDS
        ]
    )


def _payloads(message: bytes, wanted: int) -> list[bytes]:
    """The payloads of all top-level fields with the number `wanted` of an encoded message."""
    return [message[start:end] for number, _, start, end in fields(message) if number == wanted]


@lru_cache(64)
def _gap_side(condition: str, direction: str) -> CompiledScan:
    return CompiledScan(compile_filter(f"gap_percent {condition}"), compile_order(f"gap_percent {direction}"))
