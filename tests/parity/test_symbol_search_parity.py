"""The symbol search against a plain search of all rows, and examples worked out by hand."""

import random
import string
from typing import Any

import pytest
from tradeul.v1 import frame_pb2

from fastcore.market_state import MarketState
from services.scanner.symbol_search import SymbolSearch
from tests.support.tape import Tape

WORDS = (
    "Apple",
    "Applied",
    "Bank",
    "Banc",
    "of",
    "America",
    "AT&T",
    "U.S.",
    "Inc.",
    "Société",
    "Holdings,",
    "X-",
    "3M",
)
COMPANIES = {
    "AAPL": "Apple Inc.",
    "APLE": "Apple Hospitality REIT, Inc.",
    "APP": "AppLovin Corporation",
    "BAC": "Bank of America Corporation",
    "BACpL": "Bank of America Corporation",
    "BRK.B": "Berkshire Hathaway Inc.",
    "MAPP": "Harbor Multi-Asset Apple Fund",
    "T": "AT&T Inc.",
    "NONAME": "",
}


def market(companies: dict[str, str], usual: dict[str, float]) -> tuple[MarketState, Tape]:
    """Symbols with names, and a usual day's volume at 1 USD."""
    tape = Tape(companies)
    state = MarketState()
    for frame in tape.opening():
        state.apply(frame)
    volumes = [usual.get(symbol, float("nan")) for symbol in companies]
    reference = frame_pb2.ReferenceColumns(
        symbol_id=range(len(companies)),
        numbers=[
            frame_pb2.NumberColumn(field=frame_pb2.AVG_VOLUME_30D, values=volumes),
            frame_pb2.NumberColumn(field=frame_pb2.AVG_PRICE_30D, values=[1.0] * len(companies)),
        ],
        texts=[frame_pb2.TextColumn(field=frame_pb2.COMPANY_NAME, values=list(companies.values()))],
    )
    state.apply(tape.frame(reference=reference))
    return state, tape


def plain_words(text: str) -> list[str]:
    separated = "".join(letter if letter.isalnum() else " " for letter in text.casefold())
    return separated.split()


def plain_search(state: MarketState, query: str) -> list[str]:
    """All matches, by looking at every row."""
    searched = plain_words(query)
    found: list[tuple[int, float, str]] = []
    for symbol in state.symbols:
        row: dict[str, Any] = state.row(symbol)
        ticker = "".join(plain_words(symbol))
        name = plain_words(row.get("company_name", ""))
        if not searched:
            continue
        if ticker == "".join(searched):
            kind = 0
        elif ticker.startswith("".join(searched)):
            kind = 1
        elif all(any(word.startswith(part) for word in name) for part in searched):
            kind = 2 if name[0].startswith(searched[0]) else 3
        else:
            continue
        usual = row.get("avg_volume_30d", 0.0) * row.get("avg_price_30d", 0.0)
        found.append((kind, -max(usual, row.get("dollar_volume", 0.0)), symbol))
    return [symbol for _, _, symbol in sorted(found)]


def found(search: SymbolSearch, state: MarketState, query: str, limit: int = 100) -> list[str]:
    return [state.symbols[each] for each in search.find(state, query, limit)]


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ("aapl", ["AAPL"]),
        # The ticker first, then tickers that begin so, then names.
        ("app", ["APP", "AAPL", "APLE", "MAPP"]),
        ("ap", ["APP", "APLE", "AAPL", "MAPP"]),
        ("brkb", ["BRK.B"]),
        ("brk.", ["BRK.B"]),
        ("BACPL", ["BACpL"]),
        ("america bank", ["BAC", "BACpL"]),
        ("at&t", ["T"]),
        ("t", ["T"]),
        ("multi asset", ["MAPP"]),
        ("pple", []),
        ("&", []),
        ("noname", ["NONAME"]),
    ],
)
def test_examples(query: str, symbols: list[str]) -> None:
    usual = {"AAPL": 5e9, "APP": 4e9, "BAC": 2e9, "BACpL": 1e6, "APLE": 1e7, "BRK.B": 1e9, "MAPP": 1e3, "T": 1e9}
    state, _ = market(COMPANIES, usual)
    assert found(SymbolSearch(), state, query) == symbols == plain_search(state, query)


def test_what_trades_today_comes_before_what_usually_does() -> None:
    state, tape = market(COMPANIES, {"APLE": 1e7, "APP": 1e6})
    search = SymbolSearch()
    assert found(search, state, "ap", 2) == ["APLE", "APP"]
    # 100 shares at 200,000 USD: 20 million.
    state.apply(tape.trades({"APP": 200_000.0}))
    assert found(search, state, "ap", 2) == ["APP", "APLE"]
    assert found(search, state, "ap", 1) == ["APP"]


def test_new_symbols_and_new_names_are_found() -> None:
    state, tape = market(COMPANIES, {})
    search = SymbolSearch()
    assert found(search, state, "newco") == []
    first = state.count
    state.apply(tape.frame(symbols=frame_pb2.SymbolTable(first_id=first, symbols=["NEWCO"])))
    assert found(search, state, "newco") == ["NEWCO"]
    name = frame_pb2.TextColumn(field=frame_pb2.COMPANY_NAME, values=["Renamed Company"])
    state.apply(tape.frame(reference=frame_pb2.ReferenceColumns(symbol_id=[first], texts=[name])))
    assert found(search, state, "renamed") == ["NEWCO"]
    assert found(search, state, "apple hosp") == ["APLE"]


@pytest.mark.parametrize("seed", range(4))
def test_random_markets(seed: int) -> None:
    rng = random.Random(seed)
    symbols = {"".join(rng.choices("ABC.p", k=rng.randint(1, 4))).strip(".") or "A" for _ in range(120)}
    companies = {
        symbol: " ".join(rng.choices(WORDS, k=rng.randint(0, 4))) for symbol in sorted(symbols) if symbol[0].isalpha()
    }
    usual = {symbol: float(rng.randint(1, 5)) for symbol in companies if rng.random() < 0.7}
    state, tape = market(companies, usual)
    search = SymbolSearch()
    sizes = set()
    for _ in range(60):
        state.apply(tape.trades({rng.choice(list(companies)): rng.uniform(1, 5)}, size=1.0))
        text = rng.choice([rng.choice(WORDS), rng.choice(list(companies)), "".join(rng.choices(string.printable, k=2))])
        query = rng.choice((text, text[: rng.randint(1, len(text))], f"{text} {rng.choice(WORDS)[:2]}", text.upper()))
        state.refresh()
        expected = plain_search(state, query)
        limit = rng.randint(1, 30)
        assert found(search, state, query, limit) == expected[:limit], query
        sizes.add(len(expected))
    assert len(sizes) > 5
