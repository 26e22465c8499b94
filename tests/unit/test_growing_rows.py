"""A market's rows grow in place: it has memory for the rows that it has, and no others."""

import subprocess
import sys

from fastcore.market_state import MarketState
from tests.support.small_market import SmallMarket

PROGRAM = """
import os
from pathlib import Path
from fastcore.market_state import MarketState
from tests.support.small_market import SmallMarket

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

SmallMarket(MarketState(), symbols=["A"])
before = resident()
state = MarketState()
market = SmallMarket(state, symbols=["A"])
for number in range(83):
    market.add_symbols([f"S{number}.{i}" for i in range(100)])
print((resident() - before) // len(state.symbols))
"""


def test_memory_is_taken_for_the_rows_that_there_are() -> None:
    """Of 8,301 rows: 3.1 KB for each; room for twice as many would take 4.7 KB."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    assert 1000 < int(done.stdout) < 4400


def test_symbols_that_come_one_after_another_are_those_that_come_at_once() -> None:
    """With room for 1,024 rows at first, growing past a huge page of them, which then stay where they are.

    The first 900 have traded by then.
    """
    symbols = [f"S{i}" for i in range(5000)]
    at_once = MarketState()
    markets = [SmallMarket(at_once, symbols=symbols)]
    one_by_one = MarketState()
    markets.append(SmallMarket(one_by_one, symbols=symbols[:900]))
    for market in markets:
        for price, symbol in enumerate(symbols[:900], 10):
            market.trade("09:59:00", price, symbol=symbol)
    for first in range(900, len(symbols), 7):
        markets[1].add_symbols(symbols[first : first + 7])
    for market in markets:
        for price, symbol in enumerate(symbols[450:], 20):
            market.trade("10:00:00", price, symbol=symbol)
        market.watermark("10:00:01")
    for state in (at_once, one_by_one):
        state.refresh()
    assert [one_by_one.row(symbol) for symbol in symbols] == [at_once.row(symbol) for symbol in symbols]
