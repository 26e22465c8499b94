"""Ranked lists of a market twin: the members, their order, and what is sent to subscribers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fastcore.fields import SUMS
from fastcore.reference.filters_twin import first_key, matches, ranked
from fastcore.reference.market_twin import MarketTwin

Row = dict[str, Any]


def shown(row: Row) -> Row:
    """A row as lists show it: sums and averages, which are stored exactly, to 6 decimals."""
    return {name: round(value * 1e6) / 1e6 if name in SUMS and value < 9e9 else value for name, value in row.items()}


class Definition(Protocol):
    """The part of a list's definition that decides its rows; services.kit.lists.definitions.ListSpec has it."""

    @property
    def name(self) -> str: ...
    @property
    def filter(self) -> str: ...
    @property
    def order_by(self) -> str: ...
    @property
    def stay(self) -> str: ...
    @property
    def base_filter(self) -> str: ...
    @property
    def uses_scanner_filters(self) -> bool: ...
    @property
    def limit(self) -> int: ...


class Change(NamedTuple):
    """One change; ranks count from 1, `row` is there for ADD and UPDATE."""

    action: str
    symbol: str
    rank: int | None = None
    old_rank: int | None = None
    row: Row | None = None


class Update(NamedTuple):
    """The changes that turn a list at `sequence - 1` into the list at `sequence`."""

    name: str
    sequence: int
    changes: list[Change]


@dataclass
class PublishedList:
    """A list as last published: its symbols by rank, their rows as taken, and how often the list changed."""

    sequence: int = 0
    members: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    taken_at: dict[str, int] = field(default_factory=dict)
    # The first order value as taken; see first_key().
    keys: dict[str, float | None] = field(default_factory=dict)


class ListsTwin:
    """`apply` takes the frames; at watermarks it returns the updates of the lists that changed."""

    def __init__(self, definitions: Sequence[Definition], market: MarketTwin) -> None:
        self.definitions = list(definitions)
        self.market = market
        self.published = {definition.name: PublishedList() for definition in self.definitions}
        self._mark = 0

    def apply(self, frame: bytes) -> list[Update]:
        if self.market.apply(frame) != "watermark":
            return []
        mark = self.market.now_ns // 10_000_000_000
        moved, self._mark = mark != self._mark, mark
        rows = self.market.rows()
        updates = [self._refresh(definition, rows, moved) for definition in self.definitions]
        return [update for update in updates if update.changes]

    def rows(self, name: str) -> list[Row]:
        """The list as published, by rank."""
        published = self.published[name]
        return [published.rows[symbol] for symbol in published.members]

    def select(self, definition: Definition, rows: dict[str, Row]) -> list[str]:
        """The symbols that are in now, by rank."""
        members = set(self.published[definition.name].members)
        chosen = [row for row in rows.values() if self._is_in(definition, row, str(row["symbol"]) in members)]
        return [str(row["symbol"]) for row in ranked(definition.order_by, chosen)[: definition.limit]]  # type: ignore[arg-type]

    def _is_in(self, definition: Definition, row: Row, member: bool) -> bool:
        own = definition.stay if member and definition.stay else definition.filter
        if not matches(own, row) or not matches(definition.base_filter, row):
            return False
        if not definition.uses_scanner_filters:
            return True
        session = self.market.session
        return all(matches(text, row) for text, sessions in self.market.filters if not sessions or session in sessions)

    def _refresh(self, definition: Definition, rows: dict[str, Row], moved: bool) -> Update:
        published = self.published[definition.name]
        selected = self.select(definition, rows)
        keys = {symbol: first_key(definition.order_by, rows[symbol]) for symbol in selected}
        rows = {symbol: shown(rows[symbol]) for symbol in selected}
        before = {symbol: rank for rank, symbol in enumerate(published.members, 1)}
        taken = {symbol for symbol in selected if self._is_taken(published, symbol, moved)}
        self._take_disordered(published, selected, keys, taken)
        changes = [Change("REMOVE", symbol) for symbol in published.members if symbol not in set(selected)]
        for change in changes:
            del published.rows[change.symbol]
        for rank, symbol in enumerate(selected, 1):
            touched = self.market.touched.get(symbol, 0)
            if symbol not in before:
                changes.append(Change("ADD", symbol, rank, row=rows[symbol]))
            elif symbol in taken:
                if rows[symbol] != published.rows[symbol]:
                    changes.append(Change("UPDATE", symbol, rank, row=rows[symbol]))
                elif rank != before[symbol]:
                    changes.append(Change("RERANK", symbol, rank, before[symbol]))
            else:
                if rank != before[symbol]:
                    changes.append(Change("RERANK", symbol, rank, before[symbol]))
                continue
            published.rows[symbol] = rows[symbol]
            published.taken_at[symbol] = touched
            published.keys[symbol] = keys[symbol]
        published.members = selected
        if changes:
            published.sequence += 1
        return Update(definition.name, published.sequence, changes)

    def _is_taken(self, published: PublishedList, symbol: str, moved: bool) -> bool:
        is_member = symbol in published.members
        return not is_member or moved or self.market.touched.get(symbol, 0) != published.taken_at[symbol]

    def _take_disordered(
        self, published: PublishedList, selected: list[str], keys: dict[str, float | None], taken: set[str]
    ) -> None:
        """Adds to `taken` the neighbours whose first order values, as shown, would contradict their ranks."""

        def key(symbol: str) -> float | None:
            return keys[symbol] if symbol in taken else published.keys[symbol]

        for end in range(1, len(selected)):
            for last in range(end, 0, -1):
                pair = selected[last - 1 : last + 1]
                better, worse = map(key, pair)
                if better is None or worse is None or better <= worse:
                    break
                taken |= {symbol for symbol in pair if key(symbol) != keys[symbol]}
