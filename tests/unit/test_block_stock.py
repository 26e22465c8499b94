"""Memory that is prepared by a thread is what markets then grow into; in a process of its own, which has one stock."""

import subprocess
import sys

PROGRAM = """
import os
import time
from fastcore.block_stock import count_blocks
from fastcore.market_state import MarketState
from services.kit.runtime.memory import prepare_memory
from tests.support.small_market import SmallMarket

def grown():
    state = MarketState()
    symbols = [f"S{i}" for i in range(1200)]
    market = SmallMarket(state, symbols=symbols)
    for minute in range(8):
        for price, symbol in enumerate(symbols, 10):
            market.trade(f"10:0{minute}:00", price, symbol=symbol)
    return state

def until_full():
    end = time.monotonic() + 60
    while count_blocks()[0] < 4 and time.monotonic() < end:
        time.sleep(0.01)

before = grown()
print(count_blocks())
prepare_memory()
prepare_memory()
until_full()
print(count_blocks())
after = grown()
until_full()
in_stock, taken = count_blocks()
child = os.fork()
if not child:
    # It has neither the thread nor what that has prepared.
    prepare_memory()
    until_full()
    os._exit(0 if grown().hash() == before.hash() and count_blocks()[1] > taken else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(in_stock, taken >= 2, before.hash() == after.hash(), before.list_bytes == after.list_bytes > 1 << 20)
"""


def test_markets_grow_into_prepared_memory() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["(0, 0)", "(4, 0)", "0", "4 True True True"]
    assert not done.stderr
