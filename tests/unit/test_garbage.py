"""The collector of cyclic garbage does not hold up messages, and still collects."""

import subprocess
import sys

BURSTS = """
import gc
from services.kit.runtime.garbage import collect_rarely

collect_rarely()
collections = []
gc.callbacks.append(lambda phase, info: collections.append(info["generation"]) if phase == "start" else None)
for _ in range(200):
    rows = [("symbol", rank, []) for rank in range(1_000)]
    del rows
assert not collections, collections
"""
CYCLES = """
import gc
import weakref
from services.kit.runtime.garbage import YOUNGEST, collect_rarely

class Node:
    def __init__(self):
        self.itself = self

collect_rarely()
left = weakref.WeakSet()
most = 0
for number in range(30 * YOUNGEST):
    left.add(Node())
    if number % 1_000 == 0:
        most = max(most, len(left))
assert 0 < most < 3 * YOUNGEST, most
"""


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_rows_that_come_and_go_start_no_collection() -> None:
    run(BURSTS)


def test_what_nobody_can_reach_is_collected_all_the_same() -> None:
    run(CYCLES)
