"""Ticker symbols: their form, and the spellings to look up."""

from fastcore.feed_elements import SYMBOL
from services.kit.runtime.errors import INVALID_SYMBOL


def known_form(symbol: str) -> str:
    """`symbol`, if it has the form of one; raises INVALID_SYMBOL."""
    if SYMBOL.fullmatch(symbol) is None:
        raise INVALID_SYMBOL.error(
            f"expected a symbol like AAPL or BRK.A ({SYMBOL.pattern}), was {symbol[:50]!r}", symbol=symbol[:50]
        )
    return symbol


def spellings(symbol: str) -> tuple[str, ...]:
    """The spellings to look up, in order: as it is, then upper-cased. Raises INVALID_SYMBOL."""
    exact = known_form(symbol)
    upper = exact.upper()
    return (exact,) if exact == upper else (exact, upper)
