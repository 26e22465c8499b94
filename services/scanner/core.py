"""The scanner's copy of the market and what can be asked of it: no I/O, no clock, no waiting."""

from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple

from tradeul.v1 import frame_pb2, scanner_pb2

from fastcore.fields import FIELDS
from fastcore.filters import FilterError, compile_filter, compile_order
from fastcore.market import ListUpdate, Market
from fastcore.ranked_list import RankedList
from services.kit.lists.definitions import ListSpec
from services.kit.rpc.frames import FrameError, next_frame
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import fields, wrap
from services.kit.runtime.errors import INVALID_FILTER, INVALID_ORDER, NOT_READY, UNKNOWN_SYMBOL
from services.scanner.lag import last_trade_ns
from services.scanner.list_json import filtered_json, gappers_json, http_body, ranked_list_json
from services.scanner.requests import FILTERED

TRADES: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["trades"].number
# What an own list is called.
QUERIED: Final = "scan"
WATERMARK: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["watermark"].number
# Field numbers of messages that are put together from encoded parts.
_RANKED_ROWS: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["rows"].number
_RANKED_TIMESTAMP: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["timestamp"].number
_RANKED_POSITION: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["position"].number
_GAPPERS: Final = {name: field.number for name, field in scanner_pb2.Gappers.DESCRIPTOR.fields_by_name.items()}
_FILTERED: Final = {name: field.number for name, field in scanner_pb2.FilteredTickers.DESCRIPTOR.fields_by_name.items()}


class Applied(NamedTuple):
    """What a frame did."""

    updates: list[ListUpdate]
    # Whether it began a new market.
    begins: bool
    # Whether the lists were refreshed.
    is_watermark: bool
    # The time of its last trade; None in a frame without trades.
    trade_ns: int | None


class ScannerCore:
    """One copy of the market.

    `definitions`: the built-in lists. Until a whole state or the first frame of
    an epoch has come there is no market, and every question raises NOT_READY.
    """

    def __init__(self, definitions: Sequence[ListSpec]) -> None:
        self.definitions = {definition.name: definition for definition in definitions}
        self._specs = list(definitions)
        self._market: Market | None = None
        self._position: Position | None = None
        self._answers: dict[Hashable, bytes] = {}

    @property
    def position(self) -> Position | None:
        """The last frame applied; None without a state."""
        return self._position

    @property
    def market(self) -> Market:
        """The market; raises NOT_READY while there is none."""
        if self._market is None:
            raise NOT_READY.error("the market's state is not here yet: the sequencer has not sent it")
        return self._market

    @property
    def is_loaded(self) -> bool:
        return self._market is not None

    def apply(self, frame: memoryview) -> Applied:
        """Applies the next encoded Frame.

        Frame 1 of a later epoch begins a new market. Raises StreamHole when it
        is not the next one, FrameError when it cannot be applied.
        """
        parts, begins = next_frame(frame, self._position)
        market = Market(self._specs, parts.epoch) if begins else self._market
        assert market is not None, "a position goes with a market"
        self._answers.clear()
        try:
            updates = market.apply(frame)
        except ValueError as error:
            raise FrameError(f"frame {parts.epoch}/{parts.sequence} cannot be applied: {error}") from error
        self._market = market
        self._position = Position(parts.epoch, parts.sequence)
        trade_ns = last_trade_ns(parts.body) if parts.kind == TRADES else None
        return Applied(updates, begins, parts.kind == WATERMARK, trade_ns)

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the market by a whole state; raises FrameError when it cannot be read."""
        try:
            market = Market.from_bytes(self._specs, data)
        except ValueError as error:
            raise FrameError(f"whole state at {position} cannot be read: {error}") from error
        self._answers.clear()
        self._market = market
        self._position = position

    def forget(self) -> None:
        """Drops the position, so that a whole state is asked for; answers go on from what there is."""
        self._position = None

    def ranked_list(self, name: str, limit: int | None = None) -> bytes:
        """A built-in list as last published: an encoded RankedList."""
        return self.market.snapshot(name, limit)

    def ranked_list_body(self, name: str, limit: int) -> bytes:
        """The same as JSON: an encoded HttpBody, made once for all who ask before the next frame."""
        return self._answer(
            ("list", name, limit), lambda: http_body(ranked_list_json(name, self.ranked_list(name, limit)))
        )

    def list_position(self, name: str) -> Position:
        """A built-in list's own position."""
        market = self.market
        return Position(market.epoch, market.list_sequence(name))

    def scan_position(self, handle: RankedList) -> Position:
        """The position of an own list that is kept live."""
        return Position(self.market.epoch, handle.sequence)

    def scan(self, handle: RankedList) -> bytes:
        """An own list that is kept live, as last published: an encoded RankedList."""
        return self.market.scan_snapshot(handle)

    def query(self, filter_text: str, order_by: str, limit: int) -> bytes:
        """An own list now: an encoded RankedList. Raises INVALID_FILTER, INVALID_ORDER."""
        checked_query(filter_text, order_by)
        return self.market.query(filter_text, order_by, limit)

    def query_body(self, filter_text: str, order_by: str, limit: int) -> bytes:
        """The same as JSON: an encoded HttpBody."""
        return self._answer(
            ("query", filter_text, order_by, limit),
            lambda: http_body(ranked_list_json(QUERIED, self.query(filter_text, order_by, limit))),
        )

    def gappers(self, min_gap: float, limit: int) -> bytes:
        """Encoded Gappers: both sides with at least `min_gap` percent, filtered like the built-in lists."""
        up, down = self._gapper_sides(min_gap, limit)
        parts: list[bytes] = []
        count = 0
        for side, ranked in (("gappers_up", up), ("gappers_down", down)):
            rows = _payloads(ranked, _RANKED_ROWS)
            count += len(rows)
            parts += [wrap(_GAPPERS[side], row) for row in rows]
        parts.append(scanner_pb2.Gappers(count=count).SerializeToString())
        parts += [wrap(_GAPPERS["timestamp"], time) for time in _payloads(up, _RANKED_TIMESTAMP)]
        parts += [wrap(_GAPPERS["position"], position) for position in _payloads(up, _RANKED_POSITION)]
        return b"".join(parts)

    def gappers_body(self, min_gap: float, limit: int) -> bytes:
        """The same as JSON: an encoded HttpBody."""
        return self._answer(
            ("gappers", min_gap, limit), lambda: http_body(gappers_json(*self._gapper_sides(min_gap, limit)))
        )

    def ticker_row(self, symbol: str) -> bytes:
        """One symbol's row as of now: an encoded TickerRow without a rank. Raises UNKNOWN_SYMBOL."""
        row = self.market.row(symbol)
        if row is None:
            raise UNKNOWN_SYMBOL.error(f"the market has no symbol {symbol!r}", symbol=symbol)
        return row

    def filtered(self, limit: int) -> bytes:
        """Encoded FilteredTickers: the list `filtered`."""
        ranked = self.ranked_list(FILTERED, limit)
        rows = _payloads(ranked, _RANKED_ROWS)
        parts = [wrap(_FILTERED["tickers"], row) for row in rows]
        parts.append(scanner_pb2.FilteredTickers(count=len(rows)).SerializeToString())
        parts += [wrap(_FILTERED["timestamp"], time) for time in _payloads(ranked, _RANKED_TIMESTAMP)]
        return b"".join(parts)

    def filtered_body(self, limit: int) -> bytes:
        """The same as JSON: an encoded HttpBody."""
        return self._answer(("filtered", limit), lambda: http_body(filtered_json(self.ranked_list(FILTERED, limit))))

    def _gapper_sides(self, min_gap: float, limit: int) -> tuple[bytes, bytes]:
        market = self.market
        return (
            market.query(f"gap_percent >= {min_gap!r}", "gap_percent desc", limit, as_built_in=True),
            market.query(f"gap_percent <= {-min_gap!r}", "gap_percent asc", limit, as_built_in=True),
        )

    def _answer(self, question: Hashable, make: Callable[[], bytes]) -> bytes:
        """The state answers a question alike until the next frame."""
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answers[question] = make()
        return answer


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
    """The payloads of all top-level fields `wanted` of an encoded message."""
    return [message[start:end] for number, _, start, end in fields(message) if number == wanted]


def checked_query(filter_text: str, order_by: str) -> None:
    """Raises INVALID_FILTER or INVALID_ORDER, saying where the text is wrong and what was probably meant."""
    for text, compile_text, reason in (
        (filter_text, compile_filter, INVALID_FILTER),
        (order_by, compile_order, INVALID_ORDER),
    ):
        try:
            compile_text(text)
        except FilterError as error:
            metadata = {"position": error.position, "text": text[:200]}
            if error.suggestion:
                metadata["suggestion"] = error.suggestion
            raise reason.error(str(error), **metadata) from error
