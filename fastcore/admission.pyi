from collections.abc import Sequence
from typing import Any

REASONS: tuple[str, ...]
MAX_TIME: int

class Admission:
    """The gate in front of the stream.

    `max_remembered`: duplicates are recognised within this many to twice as
    many of the newest trades. Before set_bounds every event is out of session.
    `batch`: bytes or another contiguous buffer. `id_map`: contiguous int32 buffer, such as array("i").
    """

    newest_ns: int
    future_times: dict[int, int]
    # Of the trades that the last admit_trades() accepted: by what a duplicate is recognised, 8 bytes each.
    identities: bytes

    def __init__(self, max_remembered: int = ...) -> None: ...
    def set_bounds(self, start_ns: int, end_ns: int, latest_ns: int = ...) -> None:
        """Accepts event times in [start_ns, end_ns) and not after latest_ns.

        `start_ns` names the day: a trade is a duplicate of another one of the same day only.
        """

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

    @property
    def future_day_symbols(self) -> set[int]:
        """Ids of symbols that sent events of a later day since set_bounds chose this one."""

    def admit_trades(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The rows of an encoded TradeBatch that may enter, and how many they are."""

    def remember(self, identities: bytes) -> None:
        """Takes over what another Admission told as `identities`: these trades are duplicates on their own day.

        ValueError when the bytes are not 8 for each.
        """

    def admit_bars(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The same for a BarBatch."""

    def admit_quotes(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The same for a QuoteBatch."""

    def admit_limits(self, batch: Any, id_map: Sequence[int] | Any) -> tuple[bytes, int]:
        """The same for a LimitBatch."""
