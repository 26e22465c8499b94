"""Splits: what turns raw prices and volumes of a day into those of another day.

A split adjusts every day before its execution date (12.11), and none before
that date has come (12.17). Pure.
"""

import bisect
import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from fractions import Fraction
from typing import Final

from services.kit.vendor.models import Split

# A split beyond this is a typing error: the steepest real ones are some thousands to one.
MOST: Final = 1e6


class SplitTable:
    """The splits that count on trading day `day`: those executed on it or before.

    All splits of a symbol count, several on one date, too: the factor is their product, the
    same in whatever order they are told. A split with a wrong date or ratio is left out and
    counted in `set_aside` under "split".
    """

    def __init__(self, splits: Iterable[Split], day: datetime.date, set_aside: Counter[str]) -> None:
        told: dict[str, set[tuple[datetime.date, Fraction, str]]] = {}
        for split in splits:
            try:
                executed = datetime.date.fromisoformat(split.execution_date)
                ratio = Fraction(split.split_to) / Fraction(split.split_from)
            except (ValueError, ZeroDivisionError, OverflowError):
                set_aside["split"] += 1
                continue
            if not 1 / MOST < ratio < MOST:
                set_aside["split"] += 1
            elif executed <= day:
                # The same split told twice, on two pages for example, is one split.
                told.setdefault(split.ticker, set()).add((executed, ratio, split.id or ""))
        self._by_symbol = {symbol: _from_each_date_on(entries) for symbol, entries in told.items()}

    @property
    def symbols(self) -> Set[str]:
        """Those that split, also when all of it comes to nothing in the end."""
        return self._by_symbol.keys()

    def factor(self, symbol: str, after: datetime.date) -> float:
        """How many of today's shares one share of the evening of `after` is.

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

    Exact until the end: 1000 for 1 and 1 for 1000 are exactly nothing.
    """
    ratios: dict[datetime.date, Fraction] = {}
    for executed, ratio, _ in entries:
        ratios[executed] = ratios.get(executed, Fraction(1)) * ratio
    dates, product, factors = sorted(ratios), Fraction(1), [1.0]
    for date in reversed(dates):
        product *= ratios[date]
        factors.append(float(product))
    return dates, factors[::-1]
