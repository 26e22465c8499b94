"""One-minute bars that wait to be stored: of a minute only the latest, within a bound."""

from typing import Final, NamedTuple

from fastcore.minute_bars import Bar
from services.analytics import metrics
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import utc_time

# Some 60 MB; an hour of a middling market.
MAX_BARS: Final = 200_000
COLUMNS: Final = ("symbol", "time", "open", "high", "low", "close", "volume", "vwap", "trades", "is_made")

BarRow = tuple[object, ...]


class Mark(NamedTuple):
    """Everything up to `position` has been stored.

    Read again from `whole_position` on, minutes from `whole_from_ns` on are whole;
    None where there is no such position.
    """

    position: Position
    whole_position: Position | None
    whole_from_ns: int


class BarQueue:
    """Beyond `max_bars` the oldest are dropped and counted."""

    def __init__(self, max_bars: int = MAX_BARS) -> None:
        # Holds once everything taken before is stored.
        self.mark: Mark | None = None
        self._max_bars = max_bars
        self._bars: dict[tuple[str, int], Bar] = {}

    def __len__(self) -> int:
        return len(self._bars)

    def clear(self) -> None:
        """Drops all of them."""
        self._bars.clear()

    def put(self, symbol: str, bar: Bar) -> None:
        """Adds a bar, which replaces that of its minute; but one made of trades never replaces the vendor's."""
        key = (symbol, bar.start_ns)
        waiting = self._bars.get(key)
        if waiting is not None and bar.is_made and not waiting.is_made:
            return
        self._bars[key] = bar
        if len(self._bars) > self._max_bars:
            del self._bars[next(iter(self._bars))]
            metrics.BARS_DROPPED.labels("full").inc()

    def take(self, most: int) -> list[BarRow]:
        """Takes out the oldest, at most `most`, as rows of aggregates_1min in the order of COLUMNS."""
        keys = [key for key, _ in zip(self._bars, range(most), strict=False)]
        return [_row(key[0], self._bars.pop(key)) for key in keys]


def _row(symbol: str, bar: Bar) -> BarRow:
    return (symbol, utc_time(bar.start_ns), *bar[2:])
