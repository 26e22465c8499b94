"""Splits: what turns raw prices and volumes of a day into those of another day.

A split adjusts every day before its execution date (12.11), and none before
that date has come (12.17). Pure.
"""

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from services.kit.vendor_models import Split

# A split beyond this is a typing error: the steepest real ones are some thousands to one.
MOST: Final = 1e6


class SplitTable:
    """The splits that count on trading day `day`: those executed on it or before.

    A split with a wrong date or ratio is left out and counted in `set_aside`
    under "split".
    """

    def __init__(self, splits: Iterable[Split], day: datetime.date, set_aside: Counter[str]) -> None:
        self._by_symbol: dict[str, dict[datetime.date, float]] = {}
        for split in splits:
            try:
                executed = datetime.date.fromisoformat(split.execution_date)
                ratio = split.split_to / split.split_from
            except (ValueError, ZeroDivisionError):
                set_aside["split"] += 1
                continue
            if not (math.isfinite(ratio) and 1 / MOST < ratio < MOST):
                set_aside["split"] += 1
            elif executed <= day:
                # The same split told twice is one split.
                self._by_symbol.setdefault(split.ticker, {})[executed] = ratio

    def factor(self, symbol: str, after: datetime.date) -> float:
        """How many of today's shares one share of the evening of `after` is.

        A price of that day is divided by it, a volume multiplied.
        """
        executions = self._by_symbol.get(symbol)
        if executions is None:
            return 1.0
        return math.prod(ratio for executed, ratio in executions.items() if executed > after)

    def factors(self, after: datetime.date) -> Mapping[str, float]:
        """The factors of all symbols whose factor is not 1."""
        found = {symbol: self.factor(symbol, after) for symbol in self._by_symbol}
        return {symbol: factor for symbol, factor in found.items() if factor != 1.0}
