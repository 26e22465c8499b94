"""Random filters and orders of the whole language."""

import random
from typing import Final

from fastcore.fields import FIELDS, GAP_SIZES, SESSIONS

NUMBERS: Final = tuple(field.name for field in FIELDS if field.kind == "number")
OFTEN: Final = ("price", "rvol", "gap_percent", "volume_today", "chg_1m", "trades_z_score", "bid", "high", "score")
COMPARE: Final = ("=", "!=", "<", "<=", ">", ">=")


class RandomFilters:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def filter(self, depth: int = 3) -> str:
        rng = self.random
        choice = rng.randrange(10)
        if depth == 0 or choice < 4:
            return self._test()
        if choice < 6:
            return f"({self.filter(depth - 1)}) AND {self.filter(depth - 1)}"
        if choice < 8:
            return f"{self.filter(depth - 1)} OR ({self.filter(depth - 1)})"
        return f"NOT ({self.filter(depth - 1)})"

    def order(self) -> str:
        rng = self.random
        keys = []
        for _ in range(rng.randint(0, 3)):
            key = rng.choice((self._field(), self._sum(1), "symbol", "gap_size", "updated_at"))
            # A constant is no order.
            if any(name in key for name in (*NUMBERS, "symbol", "gap_size", "updated_at")):
                keys.append(key + rng.choice(("", " asc", " desc")))
        return ", ".join(keys)

    def _test(self) -> str:
        rng = self.random
        tests = (
            lambda: f"{self._sum(2)} {rng.choice(COMPARE)} {self._sum(2)}",
            lambda: f"{self._field()} {rng.choice(COMPARE)} {self._constant()}",
            lambda: f"{self._constant()} {rng.choice(COMPARE)} {self._field()}",
            lambda: f"{self._field()} BETWEEN {self._sum(1)} AND {self._sum(1)}",
            lambda: f"{self._field()} IN ({', '.join(self._constant() for _ in range(rng.randint(1, 4)))})",
            lambda: f"has({rng.choice((self._field(), 'sector', 'halted', 'session', 'updated_at'))})",
            lambda: f'sector {rng.choice(("=", "!="))} "{rng.choice(("Energy", "Technology", "Utilities"))}"',
            lambda: 'exchange IN ("XNAS", "BATS")',
            lambda: f"session {rng.choice(COMPARE)} {rng.choice(SESSIONS)}",
            lambda: f"gap_size {rng.choice(COMPARE)} {rng.choice(GAP_SIZES)}",
            lambda: rng.choice(("halted", "NOT is_etf", "halted = true", "is_etf != true", "is_etf = false")),
            lambda: f"session IN ({rng.choice(SESSIONS)}, {rng.choice(SESSIONS)})",
        )
        return rng.choice(tests)()

    def _field(self) -> str:
        return self.random.choice(OFTEN if self.random.random() < 0.6 else NUMBERS)

    def _constant(self) -> str:
        return self.random.choice(("0", "1", "2.5", "-3", "100", "0.000001", "1e4", "20", "-0.5"))

    def _sum(self, depth: int) -> str:
        rng = self.random
        if depth == 0 or rng.random() < 0.3:
            return self._field() if rng.random() < 0.7 else self._constant()
        parts = [self._sum(depth - 1) for _ in range(2)]
        form = rng.randrange(8)
        if form == 0:
            return f"abs({parts[0]})"
        if form == 1:
            return f"{rng.choice(('min', 'max'))}({parts[0]}, {parts[1]})"
        if form == 2:
            return f"-({parts[0]})"
        if form == 3:
            return f"({parts[0]}) {rng.choice('+-*/')} {parts[1]}"
        return f"{parts[0]} {rng.choice('+-*/')} ({parts[1]})"
