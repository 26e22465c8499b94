"""Reference data as they come in: which symbols have which kind, and many batches put together into few. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.data_ingest.reference.batch import Baselines, ReferenceBatch
from services.market.levels import LEVELS

# The state forgets the former with the day, the latter with the shares that they count; metadata outlast both.
DAY_BEFORE: Final = frozenset({"prev_close", "prev_volume", *LEVELS})
DAYS_BEFORE: Final = ("avg_volume_10d", "avg_volume_30d", "avg_price_30d", "atr")

Floats = NDArray[np.float64]
SymbolSlots = tuple[np.uint32, Floats, Floats, Floats]


class Holdings:
    """Which symbols have each kind of reference data."""

    def __init__(self) -> None:
        self._marks: dict[str, NDArray[np.bool_]] = {}

    def counts(self) -> dict[str, int]:
        return {kind: int(marks.sum()) for kind, marks in self._marks.items()}

    def add(self, batch: ReferenceBatch, ids: Sequence[int]) -> None:
        if batch.baselines is not None:
            self._mark("baseline", ids, batch.baselines.days > 0)
        for name, values in batch.numbers.items():
            self._mark(name, ids, ~np.isnan(values))
        for name, texts in batch.texts.items():
            self._mark(name, ids, np.array([bool(text) for text in texts], np.bool_))

    def forget_day(self, split: Sequence[int] | None) -> None:
        """The day has changed; `split` are the ids whose shares did, None: perhaps all."""
        for kind in DAY_BEFORE & self._marks.keys():
            self._marks[kind][:] = False
        for kind in {*DAYS_BEFORE, "baseline"} & self._marks.keys():
            marks = self._marks[kind]
            marks[slice(None) if split is None else [each for each in split if each < len(marks)]] = False

    def _mark(self, kind: str, ids: Sequence[int], present: NDArray[np.bool_]) -> None:
        needed = max(ids) + 1
        marks = self._marks.get(kind, np.zeros(0, np.bool_))
        if needed > len(marks):
            marks = np.concatenate([marks, np.zeros(max(needed, 2 * len(marks)) - len(marks), np.bool_)])
            self._marks[kind] = marks
        marks[np.asarray(ids)] = present


class Gathered:
    """Takes batches; of the same symbol and field the last one holds."""

    def __init__(self) -> None:
        self.symbols: set[str] = set()
        self._numbers: dict[str, dict[str, float]] = {}
        self._texts: dict[str, dict[str, str]] = {}
        self._baselines: dict[str, SymbolSlots] = {}

    def add(self, batch: ReferenceBatch) -> None:
        self.symbols.update(batch.symbols)
        for name, values in batch.numbers.items():
            self._numbers.setdefault(name, {}).update(zip(batch.symbols, values.tolist(), strict=True))
        for name, texts in batch.texts.items():
            self._texts.setdefault(name, {}).update(zip(batch.symbols, texts, strict=True))
        if (slots := batch.baselines) is not None:
            for row, symbol in enumerate(batch.symbols):
                volume, trades, sd = slots.avg_volume[row], slots.avg_trades[row], slots.sd_trades[row]
                self._baselines[symbol] = (slots.days[row], volume, trades, sd)

    def counts(self) -> dict[str, int]:
        """Symbols, and how many of them have the main kinds of what is known."""
        return {
            "symbols": len(self.symbols),
            "prev_close": len(self._numbers.get("prev_close", ())),
            "atr": len(self._numbers.get("atr", ())),
            "company_name": len(self._texts.get("company_name", ())),
            "baseline": len(self._baselines),
        }

    def forget_unknown(self, symbols: Iterable[str]) -> None:
        """Forgets those of `symbols` that nobody knows a price, a day of bars, or a name of."""
        for symbol in symbols:
            slots = self._baselines.get(symbol)
            if (
                all(math.isnan(values.get(symbol, math.nan)) for values in self._prices())
                and not any(texts.get(symbol) for texts in self._texts.values())
                and (slots is None or slots[0] == 0)
            ):
                self.symbols.discard(symbol)
                self._baselines.pop(symbol, None)
                for numbers in self._numbers.values():
                    numbers.pop(symbol, None)
                for texts in self._texts.values():
                    texts.pop(symbol, None)

    def _prices(self) -> Iterator[dict[str, float]]:
        return (values for name, values in self._numbers.items() if name != "is_etf")

    def batches(self) -> Iterator[ReferenceBatch]:
        """All of it, by symbol, in pieces as they travel well."""
        for piece in self._whole():
            yield from piece.pieces()

    def _whole(self) -> Iterable[ReferenceBatch]:
        symbols = sorted(set[str]().union(*self._numbers.values(), *self._texts.values()))
        if symbols:
            numbers = {
                name: np.array([values.get(symbol, np.nan) for symbol in symbols])
                for name, values in sorted(self._numbers.items())
            }
            texts = {
                name: [values.get(symbol, "") for symbol in symbols] for name, values in sorted(self._texts.items())
            }
            yield ReferenceBatch(symbols, numbers, texts)
        if self._baselines:
            symbols = sorted(self._baselines)
            rows = [self._baselines[symbol] for symbol in symbols]
            days = np.array([row[0] for row in rows], np.uint32)
            slots = Baselines(
                days,
                np.stack([row[1] for row in rows]),
                np.stack([row[2] for row in rows]),
                np.stack([row[3] for row in rows]),
            )
            yield ReferenceBatch(symbols, baselines=slots)
