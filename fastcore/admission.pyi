from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from typing_extensions import disjoint_base

MAX_TIME: int
# In an id map: the symbol is refused; it gets an id with its first event that is admitted.
REFUSED: int
UNNAMED: int

@disjoint_base
class Admission:
    """The gate in front of the stream.

    `max_remembered`: duplicates are recognised within this many to twice as
    many of the newest trades. `name`: gives the sequencer's id of a symbol of the
    feed that has none, or REFUSED. `day_symbols`: of so many (1 to 8) there must be
    events of a later day until it is believed. Before set_bounds every event is out of session.
    `batch`: bytes or another contiguous buffer. `id_map`: contiguous int32 buffer, such as array("i").
    """

    newest_ns: int
    # The time of the last event that nothing but its time kept out; 0 before the first.
    aside_ns: int
    # The newest time of a later day's sessions in the last batch, of events that nothing else keeps out; 0 for none.
    later_ns: int
    # Of the trades that the last admit_trades() accepted: by what a duplicate is recognised, 8 bytes each.
    identities: bytes

    def __new__(
        cls, max_remembered: int = ..., name: Callable[[int], int] | None = ..., day_symbols: int = ...
    ) -> Self: ...
    def set_bounds(self, start_ns: int, end_ns: int, latest_ns: int = ...) -> None:
        """Accepts event times in [start_ns, end_ns) and not after latest_ns.

        `start_ns` names the day: a trade is a duplicate of another one of the same day only.
        """

    def set_later_days(self, days: Iterable[tuple[int, int]]) -> None:
        """The sessions' ends (start_ns, end_ns) of the trading days to come, ascending; no events of them have come.

        Those beyond 64 are left out. ValueError when they are not ascending, or begin before the day's end.
        """

    def forget_later(self) -> None:
        """Whoever sent events of later days did not mean them, or has other ids now."""

    @property
    def later_symbols(self) -> list[int]:
        """For each of the later days, how many symbols have sent events of its sessions; counted up to day_symbols."""

    @property
    def begun_day(self) -> int:
        """The place in set_later_days() of the first day that is to be believed; -1 when there is none."""

    def set_known_conditions(self, mask: int) -> None:
        """Trades with conditions outside this mask are accepted and counted in `unknown_condition_trades`."""

    @property
    def rejected(self) -> dict[str, int]:
        """Rows set aside since the start, by reason."""

    @property
    def accepted(self) -> dict[str, int]:
        """Rows accepted since the start, by kind."""

    @property
    def unknown_condition_trades(self) -> int:
        """Accepted trades with a condition that the rules do not know; it forbids nothing."""

    def admit_trades(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The rows of an encoded TradeBatch that may enter, and how many they are.

        `id_map[i]` is the sequencer's id of the feed's id i, REFUSED, or UNNAMED, for which `name` is
        called with the symbol's first row that may enter.
        """

    def remember(self, identities: bytes) -> None:
        """Takes over the `identities` of another Admission: these trades are duplicates on their own day.

        ValueError when the bytes are not 8 for each.
        """

    def admit_bars(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The same for a BarBatch."""

    def admit_quotes(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The same for a QuoteBatch."""

    def admit_limits(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The same for a LimitBatch."""
