"""The universe: tickers as the vendor writes them, and what each symbol is like."""

import bisect
import itertools
import string
from typing import Final, NamedTuple

import numpy as np

from services.simulator.hashing import F8, I8, generator
from services.simulator.shapes import SIZE_ROWS, size_levels
from services.simulator.tuning import FULL_UNIVERSE, TRADES_PER_DAY, ZIPF_EXPONENT, ZIPF_SHIFT

TYPES: Final = ("CS", "ETF", "ADRC", "PFD", "WARRANT", "UNIT")
CS, ETF, ADRC, PFD, WARRANT, UNIT = range(6)
TYPE_SHARES: Final = (0.55, 0.28, 0.04, 0.05, 0.05, 0.03)
EXCHANGES: Final = ("XNAS", "XNYS", "ARCX", "XASE", "BATS")
TAPES: Final = (3, 1, 2, 2, 2)
# Of each type, over EXCHANGES.
LISTED: Final = (
    (0.6, 0.35, 0.0, 0.05, 0.0),
    (0.2, 0.0, 0.55, 0.0, 0.25),
    (0.5, 0.5, 0.0, 0.0, 0.0),
    (0.2, 0.75, 0.0, 0.05, 0.0),
    (0.8, 0.15, 0.0, 0.05, 0.0),
    (0.8, 0.2, 0.0, 0.0, 0.0),
)


class Known(NamedTuple):
    ticker: str
    type: int
    exchange: int
    price: float


# The most active ones, so that examples that anybody types find something.
KNOWN: Final = (
    Known("SPY", ETF, 2, 590.0),
    Known("NVDA", CS, 0, 140.0),
    Known("TSLA", CS, 0, 310.0),
    Known("AAPL", CS, 0, 230.0),
    Known("QQQ", ETF, 0, 505.0),
    Known("AMD", CS, 0, 140.0),
    Known("AMZN", CS, 0, 205.0),
    Known("PLTR", CS, 0, 62.0),
    Known("MSFT", CS, 0, 420.0),
    Known("SOXL", ETF, 2, 28.0),
    Known("META", CS, 0, 560.0),
    Known("GOOGL", CS, 0, 172.0),
    Known("F", CS, 1, 11.0),
    Known("INTC", CS, 0, 24.0),
    Known("BAC", CS, 1, 46.0),
    Known("IWM", ETF, 2, 235.0),
    Known("T", CS, 1, 23.0),
    Known("GOOG", CS, 0, 173.0),
    Known("C", CS, 1, 69.0),
    Known("JPM", CS, 1, 245.0),
    Known("BRK.B", CS, 1, 475.0),
    Known("GME", CS, 1, 27.0),
    Known("BABA", ADRC, 1, 88.0),
    Known("XLF", ETF, 2, 50.0),
    Known("TLT", ETF, 0, 90.0),
    Known("BRK.A", CS, 1, 712_000.0),
    Known("BACpL", PFD, 1, 1_240.0),
    Known("BCATrw", WARRANT, 1, 0.12),
)

NAME_HEADS: Final = (
    "Apex", "Borealis", "Cobalt", "Delphi", "Eastgate", "Fulcrum", "Granite", "Harbor", "Ironwood", "Juniper",
    "Keystone", "Lumen", "Meridian", "Northfield", "Orchard", "Pinnacle", "Quarry", "Ridgeline", "Sterling",
    "Tidewater", "Umbra", "Vantage", "Westbrook", "Xylem", "Yellowstone", "Zephyr",
)  # fmt: skip
NAME_TAILS: Final = (
    "Bancorp", "Biosciences", "Capital", "Devices", "Energy", "Foods", "Gold", "Health", "Industries", "Logistics",
    "Materials", "Motors", "Networks", "Oncology", "Pharma", "Realty", "Robotics", "Semiconductor", "Software",
    "Systems",
)  # fmt: skip
FUND_TAILS: Final = ("Growth ETF", "Value ETF", "Bond ETF", "Income ETF", "2X Bull ETF", "2X Bear ETF", "Sector ETF")


# How long roots are, of each type that has a root of its own: shares of 1, 2, 3 and 4 letters.
ROOT_LENGTHS: Final = {CS: (0.002, 0.02, 0.328, 0.65), ETF: (0.0, 0.0, 0.25, 0.75), ADRC: (0.0, 0.0, 0.2, 0.8)}


def _tickers(rng: np.random.Generator, types: I8) -> list[str]:
    """One ticker for each type, all different: roots of letters, suffixes as the vendor writes them."""
    taken = {known.ticker for known in KNOWN}
    roots: list[str] = []
    tickers: list[str] = []
    pool = _Words(rng)
    for kind in types.tolist():
        while True:
            if kind in (PFD, WARRANT, UNIT) and roots:
                ticker = roots[pool.number() % len(roots)] + _suffix(kind, pool.number())
            else:
                shares = ROOT_LENGTHS.get(kind, ROOT_LENGTHS[ADRC])
                word, chance = pool.word(), pool.number() / _Words.NUMBERS
                ticker = word[: 1 + bisect.bisect(list(itertools.accumulate(shares[:-1])), chance)]
                # When the short ones run out.
                if ticker in taken:
                    ticker = word
            if ticker not in taken:
                break
        taken.add(ticker)
        tickers.append(ticker)
        if kind == CS and len(ticker) <= 4:
            roots.append(ticker)
    return tickers


class _Words:
    """Random words of five letters and random numbers below NUMBERS, drawn many at a time."""

    NUMBERS: Final = 1 << 30

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._words: list[str] = []
        self._numbers: list[int] = []

    def word(self) -> str:
        if not self._words:
            letters = self._rng.integers(65, 91, (4096, 5), dtype=np.uint8).tobytes().decode("ascii")
            self._words = [letters[i : i + 5] for i in range(0, len(letters), 5)]
        return self._words.pop()

    def number(self) -> int:
        if not self._numbers:
            self._numbers = self._rng.integers(0, self.NUMBERS, 4096).tolist()
        return self._numbers.pop()


def _suffix(kind: int, number: int) -> str:
    if kind == PFD:
        return "p" + string.ascii_uppercase[number % 26]
    if kind == UNIT:
        return ("U", ".U")[number % 2]
    return ("W", ".WS", "rw", "w")[number % 4]


class Universe:
    """`count` symbols, the most active first; arrays have one element a symbol.

    price: USD on the calendar's first day. sigma: standard deviation of a day's log return. trades: of an
    ordinary day. size_row: row of SizeShapes.
    """

    def __init__(self, seed: int, count: int) -> None:
        rng = generator(seed, 1)
        self.count = count
        types = rng.choice(len(TYPES), count, p=TYPE_SHARES).astype(np.int64)
        chosen = rng.random(count)
        exchange = np.zeros(count, dtype=np.int64)
        for kind, shares in enumerate(LISTED):
            of_kind = types == kind
            exchange[of_kind] = np.searchsorted(np.cumsum(shares), chosen[of_kind]).clip(0, len(EXCHANGES) - 1)
        price = np.exp(rng.normal(2.9, 1.25, count)).clip(0.4, 900.0)
        price = np.where(types == WARRANT, price * 0.03 + 0.02, price)
        price = np.where(types == PFD, rng.normal(22.0, 3.0, count).clip(5.0, 50.0), price)
        price = np.where(types == UNIT, rng.normal(10.4, 0.4, count), price)
        sigma = np.exp(rng.normal(-3.75, 0.45, count)) * (1.0 + 0.9 * np.exp(-price / 4.0))
        sigma = np.where(types == ETF, sigma * 0.45, sigma)
        sigma = np.where((types == PFD) | (types == UNIT), 0.005, sigma)
        known = KNOWN[:count]
        for i, one in enumerate(known):
            types[i], exchange[i], price[i] = one.type, one.exchange, one.price
            sigma[i] = 0.011 if one.type in (ETF, PFD) else 0.022
        self.tickers: list[str] = [one.ticker for one in known] + _tickers(rng, types[len(known) :])
        self.index: dict[str, int] = {ticker: i for i, ticker in enumerate(self.tickers)}
        self.types: I8 = types
        self.exchange: I8 = exchange
        self.tape: I8 = np.asarray(TAPES, dtype=np.int64)[exchange]
        self.price: F8 = price
        self.sigma: F8 = sigma.clip(0.002, 0.09)
        ranks = np.arange(max(count, FULL_UNIVERSE), dtype=np.float64)
        weights = (ranks + ZIPF_SHIFT) ** -ZIPF_EXPONENT
        self.trades: F8 = TRADES_PER_DAY * weights[:count] / weights[:FULL_UNIVERSE].sum()
        if (at := self.index.get("BRK.A")) is not None:
            self.trades[at] = 300.0
        self.size_row: I8 = (size_levels(price) * SIZE_ROWS + rng.integers(0, SIZE_ROWS, count)).astype(np.int64)
        self.by_ticker: I8 = np.array(sorted(range(count), key=self.tickers.__getitem__), dtype=np.int64)
        self._name_key = rng.integers(0, 1 << 30, count)

    def name(self, symbol: int) -> str:
        """The company's or fund's name."""
        number = int(self._name_key[symbol])
        head = NAME_HEADS[number % len(NAME_HEADS)]
        if self.types[symbol] == ETF:
            return f"{head} {FUND_TAILS[number // 31 % len(FUND_TAILS)]}"
        name = f"{head} {NAME_TAILS[number // 31 % len(NAME_TAILS)]}"
        what = ("Inc. Common Stock", "", "plc American Depositary Shares", "Preferred Stock", "Warrants", "Units")
        return f"{name} {what[self.types[symbol]]}"
