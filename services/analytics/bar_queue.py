"""One-minute bars that wait to be stored: of a minute only the latest, within a bound."""

from typing import TYPE_CHECKING, Final

from fastcore.minute_bars import Bar
from services.analytics import metrics
from services.kit.runtime.clock import utc_time

if TYPE_CHECKING:
    from services.analytics.core import Mark

# Some 60 MB; an hour of a middling market.
MAX_BARS: Final = 200_000
COLUMNS: Final = ("symbol", "time", "open", "high", "low", "close", "volume", "vwap", "trades", "is_made")

BarRow = tuple[object, ...]


class BarQueue:
    """Beyond `max_bars` the oldest go, counted."""

    def __init__(self, max_bars: int = MAX_BARS) -> None:
        # What holds once everything taken before is stored.
        self.mark: Mark | None = None
        self._max_bars = max_bars
        self._bars: dict[tuple[str, int], Bar] = {}

    def __len__(self) -> int:
        return len(self._bars)

    def clear(self) -> None:
        """Forgets all of them."""
        self._bars.clear()

    def put(self, symbol: str, bar: Bar) -> None:
        """Takes a bar; it replaces the one of its minute, but a made one not the vendor's."""
        key = (symbol, bar.start_ns)
        waiting = self._bars.get(key)
        if waiting is not None and bar.is_made and not waiting.is_made:
            return
        self._bars[key] = bar
        if len(self._bars) > self._max_bars:
            del self._bars[next(iter(self._bars))]
            metrics.BARS_DROPPED.labels("full").inc()

    def take(self, most: int) -> list[BarRow]:
        """The oldest as rows of aggregates_1min in the order of COLUMNS, at most `most`; no longer kept here."""
        keys = [key for key, _ in zip(self._bars, range(most), strict=False)]
        return [_row(key[0], self._bars.pop(key)) for key in keys]


def _row(symbol: str, bar: Bar) -> BarRow:
    return (symbol, utc_time(bar.start_ns), *bar[2:])
