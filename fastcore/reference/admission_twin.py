"""The gate in front of the stream, one row at a time on generated messages."""

import math
from collections import Counter
from collections.abc import Callable, MutableSequence, Sequence

from google.protobuf.message import Message
from tradeul.v1 import market_data_pb2

_OFFICIAL = 1 << 15 | 1 << 16
_HOUR = 3_600_000_000_000


def is_price(value: float) -> bool:
    return 0 < value < 1e7


def is_size(value: float) -> bool:
    return 0 < value < 1e12


def may_be_price(value: float) -> bool:
    """A price, or "none" in one of its two ways."""
    return math.isnan(value) or value == 0 or is_price(value)


def may_be_size(value: float) -> bool:
    return math.isnan(value) or value == 0 or is_size(value)


def without_zeros(column: MutableSequence[float]) -> None:
    """The vendor writes 0 for "none"."""
    column[:] = [math.nan if value == 0 else value for value in column]


class AdmissionTwin:
    """Same methods as fastcore.admission.Admission; remembers every trade of its life."""

    def __init__(self, name: Callable[[int], int] = lambda feed_id: -1, day_symbols: int = 3) -> None:
        self.rejected: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.newest_ns = 0
        self.aside_ns = 0
        self._name = name
        self._day_symbols = day_symbols
        # By the later days' ends, who sent events of them.
        self._later: dict[tuple[int, int], set[int]] = {}
        self._seen: set[tuple[int, int, int]] = set()
        self._bounds = (0, 0, 0)

    def set_bounds(self, start_ns: int, end_ns: int, latest_ns: int = 2**63 - 1) -> None:
        self._bounds = (start_ns, end_ns, latest_ns)

    def set_later_days(self, days: Sequence[tuple[int, int]]) -> None:
        self._later = {day: set() for day in days}

    @property
    def later_symbols(self) -> list[int]:
        return [min(len(symbols), self._day_symbols) for symbols in self._later.values()]

    @property
    def begun_day(self) -> int:
        return next((i for i, count in enumerate(self.later_symbols) if count == self._day_symbols), -1)

    def admit_trades(self, batch: bytes, id_map: MutableSequence[int]) -> tuple[bytes, int]:
        message = market_data_pb2.TradeBatch.FromString(batch)
        kept = []
        for i, time in enumerate(message.time_ns):
            official = message.conditions[i] & _OFFICIAL
            size = message.size[i]
            fault = ""
            if not is_price(message.price[i]):
                fault = "price"
            elif not (is_size(size) or (official and size == 0)):
                fault = "size"
            reason = self._reason(message.symbol_id[i], id_map, time, time, fault)
            key = message.trade_key[i] if message.trade_key else 0
            if not reason and key:
                trade = (self._bounds[0], id_map[message.symbol_id[i]], key)
                if trade in self._seen:
                    reason = "duplicate"
                self._seen.add(trade)
            self._judged("trades", reason, time)
            if not reason:
                kept.append(i)
        return self._answer(message, kept, id_map)

    def admit_bars(self, batch: bytes, id_map: MutableSequence[int]) -> tuple[bytes, int]:
        message = market_data_pb2.BarBatch.FromString(batch)
        kept = []
        for i, (start, end) in enumerate(zip(message.start_ns, message.end_ns, strict=True)):
            opening, high, low, closing = message.open[i], message.high[i], message.low[i], message.close[i]
            fault = ""
            if not (
                all(is_price(price) for price in (opening, high, low, closing))
                and all(may_be_price(c[i]) for c in (message.day_vwap, message.official_open, message.vwap))
            ):
                fault = "price"
            elif not (
                is_size(message.volume[i])
                and all(may_be_size(c[i]) for c in (message.accumulated_volume, message.average_size))
            ):
                fault = "size"
            elif not (low <= min(opening, closing) and max(opening, closing) <= high and 0 < end - start <= _HOUR):
                fault = "bar_shape"
            reason = self._reason(message.symbol_id[i], id_map, start, end, fault)
            self._judged("bars", reason, end)
            if not reason:
                kept.append(i)
        for column in (message.accumulated_volume, message.day_vwap, message.official_open):
            without_zeros(column)
        return self._answer(message, kept, id_map)

    def admit_quotes(self, batch: bytes, id_map: MutableSequence[int]) -> tuple[bytes, int]:
        message = market_data_pb2.QuoteBatch.FromString(batch)
        kept = []
        for i, time in enumerate(message.time_ns):
            fault = ""
            if not (may_be_price(message.bid[i]) and may_be_price(message.ask[i])):
                fault = "price"
            elif not (may_be_size(message.bid_size[i]) and may_be_size(message.ask_size[i])):
                fault = "size"
            reason = self._reason(message.symbol_id[i], id_map, time, time, fault)
            self._judged("quotes", reason, time)
            if not reason:
                kept.append(i)
        without_zeros(message.bid)
        without_zeros(message.ask)
        return self._answer(message, kept, id_map)

    def admit_limits(self, batch: bytes, id_map: MutableSequence[int]) -> tuple[bytes, int]:
        message = market_data_pb2.LimitBatch.FromString(batch)
        kept = []
        for i, time in enumerate(message.time_ns):
            fault = "" if may_be_price(message.upper[i]) and may_be_price(message.lower[i]) else "price"
            reason = self._reason(message.symbol_id[i], id_map, time, time, fault)
            self._judged("limits", reason, time)
            if not reason:
                kept.append(i)
        without_zeros(message.upper)
        without_zeros(message.lower)
        return self._answer(message, kept, id_map)

    def _reason(self, feed_id: int, id_map: MutableSequence[int], time: int, known: int, fault: str) -> str:
        """`known` is when the event can be known at the earliest, a bar's end; `fault` is what is wrong with its
        values."""
        start, end, latest = self._bounds
        if feed_id >= len(id_map):
            raise ValueError(f"symbol_id: expected one of {len(id_map)} ids, was {feed_id}")
        if id_map[feed_id] == -1:
            return "unknown_symbol"
        if not fault and not (start <= time < end and known <= latest):
            self.aside_ns = known
        if not start <= time < end:
            for (later_start, later_end), symbols in self._later.items():
                if later_start <= time < later_end and known <= latest and not fault:
                    symbols.add(feed_id)
            return "time_out_of_session"
        if known > latest:
            return "time_ahead"
        if not fault and id_map[feed_id] == -2:
            id_map[feed_id] = self._name(feed_id)
            if id_map[feed_id] == -1:
                return "unknown_symbol"
        return fault

    def _judged(self, kind: str, reason: str, time: int) -> None:
        if reason:
            self.rejected[reason] += 1
            return
        self.accepted[kind] += 1
        self.newest_ns = max(self.newest_ns, time)

    @staticmethod
    def _answer(message: Message, kept: list[int], id_map: Sequence[int]) -> tuple[bytes, int]:
        """The rows that stay, with the sequencer's ids and without identities."""
        answer = type(message)()
        if not kept:
            return b"", 0
        for column, value in message.ListFields():
            if column.name == "trade_key":
                continue
            if column.name == "span":
                setattr(answer, "span", value)  # noqa: B010
            else:
                rows = [value[i] for i in kept]
                getattr(answer, column.name).extend([id_map[v] for v in rows] if column.name == "symbol_id" else rows)
        return answer.SerializeToString(), len(kept)
