"""Splits: what turns raw prices and volumes of a day into those of another day.

A split adjusts every day before its execution date, and none before
that date has come (docs/semantics.md). Pure.
"""

import bisect
import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from fractions import Fraction
from typing import Final, Protocol

# A ratio beyond this is a typing error: the steepest real ones are some thousands to one.
MAX_RATIO: Final = 1e6


class Split(Protocol):
    """A split as the vendor lists it: `split_to` new shares for `split_from` old ones."""

    @property
    def ticker(self) -> str: ...
    @property
    def execution_date(self) -> str: ...
    @property
    def split_from(self) -> float: ...
    @property
    def split_to(self) -> float: ...
    @property
    def id(self) -> str | None: ...


class SplitTable:
    """The splits that count on trading day `day`: those executed on it or before.

    All splits of a symbol count, several on one date, too: the factor is their product, the
    same in whatever order they come. A split with a wrong date or ratio is left out and
    counted in `set_aside` under "split".
    """

    def __init__(self, splits: Iterable[Split], day: datetime.date, set_aside: Counter[str]) -> None:
        listed: dict[str, set[tuple[datetime.date, Fraction, str]]] = {}
        for split in splits:
            try:
                executed = datetime.date.fromisoformat(split.execution_date)
                ratio = Fraction(split.split_to) / Fraction(split.split_from)
            except (ValueError, ZeroDivisionError, OverflowError):
                set_aside["split"] += 1
                continue
            if not 1 / MAX_RATIO < ratio < MAX_RATIO:
                set_aside["split"] += 1
            elif executed <= day:
                # The same split listed twice, on two pages for example, is one split.
                listed.setdefault(split.ticker, set()).add((executed, ratio, split.id or ""))
        self._by_symbol = {symbol: _from_each_date_on(entries) for symbol, entries in listed.items()}

    @property
    def symbols(self) -> Set[str]:
        """The symbols that split, also when the product of the ratios is 1."""
        return self._by_symbol.keys()

    def factor(self, symbol: str, after: datetime.date) -> float:
        """The number of today's shares that one share of the evening of `after` has become.

        A price of that day is divided by it, a volume multiplied.
        """
        if (executions := self._by_symbol.get(symbol)) is None:
            return 1.0
        dates, factors = executions
        return factors[bisect.bisect_right(dates, after)]

    def factors(self, after: datetime.date) -> Mapping[str, float]:
        """The factors of all symbols whose factor is not 1."""
        found = {symbol: self.factor(symbol, after) for symbol in self._by_symbol}
        return {symbol: factor for symbol, factor in found.items() if factor != 1.0}


def _from_each_date_on(
    entries: Iterable[tuple[datetime.date, Fraction, str]],
) -> tuple[list[datetime.date], list[float]]:
    """The execution dates, ascending, and for each the product of the ratios from it on; 1 after the last.

    Exact until the end: 1000 for 1 and 1 for 1000 are exactly 1.
    """
    ratios: dict[datetime.date, Fraction] = {}
    for executed, ratio, _ in entries:
        ratios[executed] = ratios.get(executed, Fraction(1)) * ratio
    dates, product, factors = sorted(ratios), Fraction(1), [1.0]
    for date in reversed(dates):
        product *= ratios[date]
        factors.append(float(product))
    return dates, factors[::-1]
