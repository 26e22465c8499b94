"""Rows of two markets side by side."""

from collections.abc import Mapping
from typing import Any, Final

from fastcore.fields import FIELDS, SHORT_WINDOW_MINUTES, WINDOW_MINUTES

# Sums may be taken in another order: equal to nine digits.
SUMS: Final = frozenset({"volume_today", "dollar_volume", "premarket_volume", "postmarket_volume"})
# And each of the up to 181 buckets of a window is rounded to a billionth.
WINDOW_SUMS: Final = frozenset(
    {f"vol_{minutes}m" for minutes in WINDOW_MINUTES}
    | {f"dollar_volume_{minutes}m" for minutes in SHORT_WINDOW_MINUTES}
)
# Rounded to 6 decimals after a division by or of such sums: the last decimal may fall the other way.
FROM_SUMS: Final = {
    "vwap": 1e-6,
    "price_vs_vwap": 1e-4,
    "rvol": 1e-6,
    "rvol_slot": 1e-6,
    "volume_ratio": 1e-6,
    "score": 1.6e-5,
    "vol_1m_ratio": 1e-6,
    "vol_5m_ratio": 1e-6,
}
_FIELDS: Final = frozenset(field.name for field in FIELDS)


def same(name: str, a: Any, b: Any) -> bool:
    if type(a) is not type(b) or a == b:
        return bool(a == b)
    if name in SUMS:
        return bool(abs(a - b) <= 1e-9 * max(abs(a), abs(b)))
    if name in WINDOW_SUMS:
        return bool(abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1e-7)
    if name in FROM_SUMS:
        return bool(abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1.01 * FROM_SUMS[name])
    return False


def differences(fast: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that differ: name -> (fast's, plain's), None for absent."""
    unknown = (fast.keys() | plain.keys()) - _FIELDS
    assert not unknown, f"expected names of fields, was {unknown}"
    return {
        name: (fast.get(name), plain.get(name))
        for name in sorted(fast.keys() | plain.keys())
        if not same(name, fast.get(name), plain.get(name))
    }
