"""What requests may hold: each function returns the checked value or raises the ServiceError to answer with."""

import difflib
import math
from collections.abc import Collection
from typing import Final

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_LIMIT, INVALID_POSITION, INVALID_REQUEST, UNKNOWN_LIST

MAX_ROWS: Final = 500
MAX_FILTERED_ROWS: Final = 1000
DEFAULT_ROWS: Final = 100
DEFAULT_MIN_GAP: Final = 4.0
MAX_INTERVAL_MS: Final = 60_000
FILTERED: Final = "filtered"


def known_list(name: str, names: Collection[str]) -> str:
    """`name`, when it is one of the lists."""
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
    raise UNKNOWN_LIST.error(
        f"there is no list {name[:100]!r}{hint}", list=name[:100], nearest=nearest[0] if nearest else ""
    )


def rows_limit(limit: int | None, default: int = DEFAULT_ROWS, maximum: int = MAX_ROWS) -> int:
    """How many rows to give; `default` when not asked."""
    if limit is None:
        return default
    if not 1 <= limit <= maximum:
        raise INVALID_LIMIT.error(f"expected a limit of 1 to {maximum}, was {limit}", limit=limit, maximum=maximum)
    return limit


def least_gap(min_gap: float | None) -> float:
    """The least absolute gap in percent."""
    if min_gap is None:
        return DEFAULT_MIN_GAP
    if not math.isfinite(min_gap) or min_gap < 0:
        raise INVALID_REQUEST.error(f"expected a min_gap of 0 or more percent, was {min_gap}", field="min_gap")
    return min_gap


def interval_ms(milliseconds: int) -> int:
    """The least time between updates."""
    if milliseconds > MAX_INTERVAL_MS:
        raise INVALID_REQUEST.error(
            f"expected a min_interval_ms of 0 to {MAX_INTERVAL_MS}, was {milliseconds}", field="min_interval_ms"
        )
    return milliseconds


def resume_position(epoch: int, sequence: int) -> Position | None:
    """The position to resume after; None for a new subscriber. {epoch, 0} is "before the first change"."""
    if epoch == 0 and sequence != 0:
        raise INVALID_POSITION.error(
            f"expected epoch and sequence or neither, was sequence {sequence} without an epoch", field="epoch"
        )
    return Position(epoch, sequence) if epoch else None
