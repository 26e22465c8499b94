from collections.abc import Iterable, Sequence

from typing_extensions import disjoint_base

from fastcore.filter_ast import FilterError as FilterError
from fastcore.filter_ast import Node, OrderKey
from fastcore.market_state import MarketState

@disjoint_base
class Filter:
    """A filter ready for any state: `text` as given; made by compile_filter and all_of.

    `cost` is the number of steps that a row takes; each value of a list (`in`) counts as one. Can be pickled.
    """

    text: str
    tree: Node | None
    cost: int
    def match(self, state: MarketState) -> list[int]:
        """The ids of the rows that match, ascending."""

@disjoint_base
class Order:
    """An order ready for any state: `text` as given; made by compile_order. Can be pickled."""

    text: str
    tree: tuple[OrderKey, ...]
    cost: int
    key_count: int
    def keys(self, state: MarketState, ids: Sequence[int] | None = None) -> list[tuple[float, ...]]:
        """The keys of the rows `ids` (all rows when None), a tuple a row: smaller is better, absent infinite."""

def compile_filter(text: str) -> Filter:
    """The filter that `text` says; an empty one matches every row. FilterError when it cannot be used."""

def compile_order(text: str) -> Order:
    """The order that `text` says; an empty one leaves all to the symbol. FilterError when it cannot be used."""

def all_of(filters: Iterable[Filter]) -> Filter:
    """The filter that matches what all of `filters` match; every row when there are none."""
