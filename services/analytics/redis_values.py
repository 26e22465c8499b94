"""The keys and texts that analytics writes to Redis. Pure.

Only ids of symbols are queued: texts are made of the state when they are about
to be written, so that the latest values are the ones written.
"""

import itertools
import math
from array import array
from collections import deque
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from fastcore.measures import Measures, shown, touched_since
from fastcore.row_json import instant_json
from services.analytics.core import AnalyticsCore
from services.analytics.metrics_broadcast import session_name
from services.kit.runtime.clock import NEW_YORK

RVOL_FIELDS: Final = ("rvol", "rvol_slot", "slot", "session", "volume_today", "baseline", "days", "updated_at")
INTRADAY_FIELDS: Final = ("high", "low", "high_time", "low_time")
# Everything is of today. A key that is not removed when the next day begins expires, by the wall clock.
DAY_BEGINS_HOUR: Final = 4
SHORTEST_TTL: Final = 60
NS: Final = 1_000_000_000
# All keys of a day; no other service's keys match.
PATTERNS: Final = ("rvol:*", "intraday:*", "slot:*")
# Making the texts of so many takes a few milliseconds.
SYMBOLS_AT_ONCE: Final = 512
# Values of slots that are over, written at once.
SLOT_VALUES_AT_ONCE: Final = 1_024


class Hashes(NamedTuple):
    keys: list[str]
    values: list[tuple[str, ...]]


class Strings(NamedTuple):
    keys: list[str]
    values: list[str]


class Batch(NamedTuple):
    """Keys to be written, of one trading day. Its `ids` and `slots` are given back when it could not be written."""

    date: str
    ids: list[int]
    slots: list[tuple[int, int]]
    rvol: Hashes
    intraday: Hashes
    volumes: Strings
    ttl_seconds: int


def rvol_key(symbol: str) -> str:
    return f"rvol:{symbol}"


def intraday_key(symbol: str) -> str:
    return f"intraday:{symbol}"


def slot_volume_key(symbol: str, slot: int) -> str:
    return f"slot:{symbol}:{slot}"


class RedisValues:
    """Follows which symbols changed since they were written."""

    def __init__(self, core: AnalyticsCore) -> None:
        self._core = core
        self._seen = array("I")
        self._due: set[int] = set()
        self._intraday: dict[int, tuple[float | int | None, ...]] = {}
        # Slots that are over and whose last values have to be written: (slot, first symbol id).
        self._slots: deque[tuple[int, int]] = deque()
        self._generation = core.generation
        self._date = ""
        self._slot = -1

    @property
    def date(self) -> str:
        """The trading day of the values; empty while there is none."""
        return self._core.state.trading_date if self._core.is_loaded else ""

    @property
    def pending(self) -> int:
        """Symbols that wait to be written."""
        return len(self._due)

    @property
    def batches(self) -> int:
        """Batches that those symbols make."""
        return math.ceil(len(self._due) / SYMBOLS_AT_ONCE)

    def everything(self) -> None:
        """Makes everything due again, since Redis may have lost it."""
        self._seen = array("I")
        self._intraday.clear()
        self._slots = deque((slot, 0) for slot in sorted(self._core.slot_volumes, reverse=True))

    def note(self) -> None:
        """Makes due what changed since the last time."""
        if self._core.is_loaded:
            self._follow()
            self._due.update(touched_since(self._core.state, self._seen))

    def take(self) -> Batch | None:
        """Takes out a part of what is due; None when nothing is."""
        core = self._core
        if not core.is_loaded or not (self._due or self._slots):
            return None
        self._follow()
        ids = sorted(itertools.islice(self._due, SYMBOLS_AT_ONCE))
        self._due.difference_update(ids)
        slots: list[tuple[int, int]] = []
        volumes = Strings([], [])
        rvol, intraday = Hashes([], []), Hashes([], [])
        symbols, slot = core.symbols, core.slot
        common = (str(slot), session_name(core.state.session))
        for symbol_id in ids:
            measured = core.measures(symbol_id)
            symbol = symbols[symbol_id]
            rvol.keys.append(rvol_key(symbol))
            rvol.values.append(rvol_texts(measured, *common))
            if measured.volume_today is not None:
                volumes.keys.append(slot_volume_key(symbol, slot))
                volumes.values.append(number(measured.volume_today))
            extremes = measured[5:9]
            if self._intraday.get(symbol_id) != extremes:
                self._intraday[symbol_id] = extremes
                intraday.keys.append(intraday_key(symbol))
                intraday.values.append(intraday_texts(measured))
        while self._slots and len(volumes.keys) < SLOT_VALUES_AT_ONCE:
            slots.append(self._slots.popleft())
            self._take_slot(*slots[-1], volumes)
        left = seconds_left(self._date, core.state.now_ns)
        return Batch(self._date, ids, slots, rvol, intraday, volumes, left)

    def give_back(self, batch: Batch) -> None:
        """Makes due again a batch that could not be written."""
        self._due.update(batch.ids)
        for symbol_id in batch.ids:
            self._intraday.pop(symbol_id, None)
        self._slots.extendleft(reversed(batch.slots))

    def _follow(self) -> None:
        core = self._core
        if core.generation != self._generation or core.state.trading_date != self._date:
            # Ids may mean other symbols, or the values another day.
            self._generation, self._date, self._slot = core.generation, core.state.trading_date, core.slot
            self._due.clear()
            self.everything()
        elif core.slot != self._slot:
            if self._slot in core.slot_volumes:
                self._slots.append((self._slot, 0))
            self._slot = core.slot

    def _take_slot(self, slot: int, first: int, out: Strings) -> None:
        """Adds the values at the end of a slot, of the symbols that traded in it, from symbol id `first` on."""
        core = self._core
        column = core.slot_volumes.get(slot)
        if column is None:
            return
        before = core.slot_volumes.get(slot - 1)
        symbols = core.symbols
        for symbol_id in range(first, len(column)):
            if len(out.keys) >= SLOT_VALUES_AT_ONCE:
                self._slots.appendleft((slot, symbol_id))
                return
            volume = column[symbol_id]
            earlier = before[symbol_id] if before is not None and symbol_id < len(before) else math.nan
            if not math.isnan(volume) and volume != earlier:
                out.keys.append(slot_volume_key(symbols[symbol_id], slot))
                out.values.append(number(volume))


def rvol_texts(measured: Measures, slot: str, session: str) -> tuple[str, ...]:
    """The values of RVOL_FIELDS; of a symbol that has not traded today none, so that it has no key."""
    if measured.volume_today is None:
        return ("",) * len(RVOL_FIELDS)
    return (
        number(measured.rvol),
        number(measured.rvol_slot),
        slot,
        session,
        number(measured.volume_today),
        number(measured.baseline),
        number(measured.days),
        time(measured.updated_ns),
    )


def intraday_texts(measured: Measures) -> tuple[str, ...]:
    """The values of INTRADAY_FIELDS."""
    return (
        number(measured.intraday_high),
        number(measured.intraday_low),
        time(measured.high_ns),
        time(measured.low_ns),
    )


def number(value: float | int | None) -> str:
    """As JSON has it, with 6 decimals at most; empty when absent."""
    if value is None:
        return ""
    value = shown(value)
    whole = int(value)
    return str(whole) if whole == value else repr(value)


def time(ns: int | None) -> str:
    """RFC 3339, UTC; empty when absent."""
    return "" if ns is None else instant_json(ns)[1:-1].decode()


def seconds_left(trading_date: str, now_ns: int) -> int:
    """Seconds until 04:00 of the day after, when values of the trading day have to be gone."""
    if not trading_date:
        return SHORTEST_TTL
    day = date.fromisoformat(trading_date) + timedelta(days=1)
    end = datetime(day.year, day.month, day.day, DAY_BEGINS_HOUR, tzinfo=NEW_YORK)
    return max(SHORTEST_TTL, int(end.timestamp()) - now_ns // NS)
