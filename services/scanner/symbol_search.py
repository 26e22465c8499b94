"""Finds symbols by ticker and by the words of the company's name, among all that the market knows."""

import bisect
import heapq
import re
from collections.abc import Iterable, Sequence
from typing import Final

from fastcore.market_state import MarketState

# How a symbol matches, the best first. In between, the most traded comes first.
EXACT: Final = 0
TICKER: Final = 1
NAME_BEGINS: Final = 2
NAME_WORDS: Final = 3
_LAST: Final = "\U0010ffff"
_WORD: Final = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Returns the words of a text without case and punctuation: letters and digits that are not separated."""
    return _WORD.findall(text.casefold())


class SymbolSearch:
    """Searches a market's symbols; what it prepares from names is kept until a name changes."""

    def __init__(self) -> None:
        self._symbols: list[str] = []
        self._names: list[str] = []
        # The tickers' letters and digits in ascending order, and the id of each.
        self._tickers: list[str] = []
        self._ids: list[int] = []
        # By id: the name's words, each after a space.
        self._searched: list[str] = []
        self._prepared: dict[str, str] = {}

    def find(self, state: MarketState, query: str, limit: int) -> list[int]:
        """Returns the ids of at most `limit` symbols that match, the best first; none for a query without words.

        A symbol matches when its ticker begins with the query, or when each word of the query begins a word of the
        company's name. Among equal matches, the one with more dollars traded comes first: today's, or a usual day's
        if that is more.
        """
        searched_words = words(query)
        if not searched_words:
            return []
        self._prepare(state)
        matches = self._by_ticker("".join(searched_words))
        # Most of what matches one letter are names, which are not needed then.
        if len(matches) < limit:
            matches = self._by_name(searched_words) | matches
        dollars = _dollars(state, matches)
        symbols = self._symbols
        return heapq.nsmallest(limit, matches, key=lambda each: (matches[each], -dollars[each], symbols[each]))

    def _by_ticker(self, ticker: str) -> dict[int, int]:
        first = bisect.bisect_left(self._tickers, ticker)
        last = bisect.bisect_left(self._tickers, ticker + _LAST, first)
        return {
            self._ids[place]: EXACT if len(self._tickers[place]) == len(ticker) else TICKER
            for place in range(first, last)
        }

    def _by_name(self, searched_words: Sequence[str]) -> dict[int, int]:
        first, *others = [f" {word}" for word in searched_words]
        return {
            each: NAME_BEGINS if text.startswith(first) else NAME_WORDS
            for each, text in enumerate(self._searched)
            if first in text and all(word in text for word in others)
        }

    def _prepare(self, state: MarketState) -> None:
        symbols, names = state.texts("symbol"), state.texts("company_name")
        if symbols != self._symbols:
            self._symbols = symbols
            tickers = ["".join(words(symbol)) for symbol in symbols]
            self._ids = sorted(range(len(tickers)), key=tickers.__getitem__)
            self._tickers = [tickers[each] for each in self._ids]
        if names != self._names:
            self._names = names
            # Names are shared by classes of shares, and few change: what was prepared before is used again.
            before = self._prepared
            self._prepared = {name: before[name] if name in before else _searched(name) for name in set(names)}
            self._searched = [self._prepared[name] for name in names]


def _searched(name: str) -> str:
    return "".join([f" {word}" for word in words(name)])


def _dollars(state: MarketState, ids: Iterable[int]) -> dict[int, float]:
    """Returns the dollars of today or of a usual day, whichever is more; 0 when neither is known."""
    state.refresh()
    today = state.column("dollar_volume")
    volume, price = state.column("avg_volume_30d"), state.column("avg_price_30d")
    # max() returns its first argument unless a later one is greater, which NaN never is.
    return {each: max(0.0, today[each], volume[each] * price[each]) for each in ids}
