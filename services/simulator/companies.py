"""Reference data of a symbol: a company's business, shares, people; all derived from its hash."""

import datetime
from typing import Any, Final

import numpy as np

from services.simulator.hashing import Rekeyed, key
from services.simulator.symbols import ADRC, CS, ETF, EXCHANGES, TYPES, Universe

# SIC codes with the texts of the SEC's list.
BUSINESSES: Final = (
    ("1311", "CRUDE PETROLEUM & NATURAL GAS"),
    ("1040", "GOLD & SILVER ORES"),
    ("1531", "OPERATIVE BUILDERS"),
    ("2080", "BEVERAGES"),
    ("2834", "PHARMACEUTICAL PREPARATIONS"),
    ("2836", "BIOLOGICAL PRODUCTS, (NO DIAGNOSTIC SUBSTANCES)"),
    ("2860", "INDUSTRIAL ORGANIC CHEMICALS"),
    ("3571", "ELECTRONIC COMPUTERS"),
    ("3674", "SEMICONDUCTORS & RELATED DEVICES"),
    ("3711", "MOTOR VEHICLES & PASSENGER CAR BODIES"),
    ("3841", "SURGICAL & MEDICAL INSTRUMENTS & APPARATUS"),
    ("4213", "TRUCKING (NO LOCAL)"),
    ("4512", "AIR TRANSPORTATION, SCHEDULED"),
    ("4813", "TELEPHONE COMMUNICATIONS (NO RADIOTELEPHONE)"),
    ("4911", "ELECTRIC SERVICES"),
    ("5331", "RETAIL-VARIETY STORES"),
    ("5812", "RETAIL-EATING PLACES"),
    ("5961", "RETAIL-CATALOG & MAIL-ORDER HOUSES"),
    ("6022", "STATE COMMERCIAL BANKS"),
    ("6311", "LIFE INSURANCE"),
    ("6798", "REAL ESTATE INVESTMENT TRUSTS"),
    ("7372", "SERVICES-PREPACKAGED SOFTWARE"),
    ("7374", "SERVICES-COMPUTER PROCESSING & DATA PREPARATION"),
    ("8071", "SERVICES-MEDICAL LABORATORIES"),
    ("8731", "SERVICES-COMMERCIAL PHYSICAL & BIOLOGICAL RESEARCH"),
)
FIGI_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXYZ0123456789"


class Companies:
    """Rows of /v3/reference/tickers."""

    def __init__(self, universe: Universe, seed: int) -> None:
        self._universe = universe
        self._seed = seed
        self._generators = Rekeyed()

    def summary(self, symbol: int, updated: str) -> dict[str, Any]:
        """A row of the list."""
        universe = self._universe
        row = {
            "ticker": universe.tickers[symbol],
            "name": universe.name(symbol),
            "market": "stocks",
            "locale": "us",
            "primary_exchange": EXCHANGES[int(universe.exchange[symbol])],
            "type": TYPES[int(universe.types[symbol])],
            "active": True,
            "currency_name": "usd",
            "composite_figi": self._figi(symbol, 1),
            "share_class_figi": self._figi(symbol, 2),
            "last_updated_utc": updated,
        }
        if universe.types[symbol] in (CS, ADRC):
            row["cik"] = f"{key(self._seed, 41, symbol) % 2_000_000:010d}"
        return row

    def has_float(self, symbol: int) -> bool:
        """Funds and the like are not in the list of floats, and some companies are missing."""
        return int(self._universe.types[symbol]) in (CS, ADRC) and key(self._seed, 43, symbol) % 25 != 0

    def float_row(self, symbol: int, factor: float, since: str) -> dict[str, Any]:
        """A row of the list of floats; `factor` as in details(), `since` is its date."""
        shares, _ = self._shares(symbol, factor)
        free = 0.25 + 0.7 * (key(self._seed, 44, symbol) % 1000) / 1000
        return {
            "ticker": self._universe.tickers[symbol],
            "free_float": round(shares * free),
            "free_float_percent": round(100.0 * free, 2),
            "effective_date": since,
        }

    def _shares(self, symbol: int, factor: float) -> tuple[int, np.random.Generator]:
        """Shares outstanding, and what the symbol's other facts are drawn from, until the next symbol's."""
        rng = self._generators.of(self._seed, 42, symbol)
        turnover = float(rng.uniform(40.0, 500.0))
        return round(float(self._universe.trades[symbol]) * 300.0 * turnover * factor), rng

    def details(self, symbol: int, price: float, factor: float, updated: str) -> dict[str, Any]:
        """All of one symbol; `price` is its last, `factor` how many shares one of the first day is now."""
        universe = self._universe
        row = self.summary(symbol, updated)
        del row["last_updated_utc"]
        shares, rng = self._shares(symbol, factor)
        weighted = round(shares * float(rng.uniform(0.97, 1.0)))
        founded = datetime.date(1970, 1, 1) + datetime.timedelta(int(rng.integers(0, 18_500)))
        row |= {
            "currency_name": "usd",
            "list_date": founded.isoformat(),
            "share_class_shares_outstanding": shares,
            "round_lot": 100,
            "ticker_root": universe.tickers[symbol].split(".")[0],
        }
        kind = int(universe.types[symbol])
        if kind == ETF:
            return row
        row |= {"weighted_shares_outstanding": weighted, "market_cap": round(weighted * price, 2)}
        if kind in (CS, ADRC):
            code, business = BUSINESSES[int(rng.integers(len(BUSINESSES)))]
            name = universe.name(symbol)
            row |= {
                "sic_code": code,
                "sic_description": business,
                "total_employees": int(10.0 ** rng.uniform(1.3, 5.0)),
                "description": f"{name} is a company of the simulated market: {business.lower()}.",
                "homepage_url": f"https://www.{universe.tickers[symbol].lower()}.example",
                "phone_number": f"({rng.integers(200, 990)}) 555-{rng.integers(0, 10_000):04d}",
                "address": {"address1": f"{rng.integers(1, 9_999)} MARKET STREET", "city": "NEW YORK", "state": "NY",
                            "postal_code": f"{rng.integers(10_001, 10_283)}"},
            }  # fmt: skip
        return row

    def _figi(self, symbol: int, which: int) -> str:
        number = key(self._seed, 40, symbol, which)
        letters = []
        for _ in range(8):
            number, rest = divmod(number, len(FIGI_LETTERS))
            letters.append(FIGI_LETTERS[rest])
        return "BBG0" + "".join(letters)
