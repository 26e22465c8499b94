"""Recognition of duplicate trades against a plain pair of sets."""

import os
import random
import subprocess
import sys

import pytest

from fastcore.dedup import RecentTrades, trade_key


class PlainRecent:
    """Two generations; the second is forgotten whenever the first is full."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.current: set[tuple[int, int, int]] = set()
        self.previous: set[tuple[int, int, int]] = set()

    def add(self, symbol: int, key: int, day: int) -> bool:
        if key == 0:
            return True
        trade = (day, symbol, key)
        if trade in self.current or trade in self.previous:
            return False
        self.current.add(trade)
        if len(self.current) == self.most:
            self.previous, self.current = self.current, set()
        return True


@pytest.mark.parametrize("most", [1, 2, 50, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_same_answers_as_sets(most: int, seed: int) -> None:
    rng = random.Random(seed)
    fast, plain = RecentTrades(most), PlainRecent(most)
    for _ in range(20_000):
        symbol = rng.randrange(3)
        key = rng.choice((0, rng.randrange(1, most + 2), rng.randrange(1, 4 * most), rng.randrange(1, 2**64)))
        day = rng.choice((0, 1, 1_773_129_600 * 10**9, 1_773_216_000 * 10**9))
        assert fast.add(symbol, key, day) == plain.add(symbol, key, day)
    assert len(fast) == len(plain.current) + len(plain.previous)


def test_growing_keeps_every_identity() -> None:
    fast = RecentTrades(2**22)
    assert all(fast.add(i & 7, trade_key(4, 201, str(i))) for i in range(200_000))
    assert not any(fast.add(i & 7, trade_key(4, 201, str(i))) for i in range(200_000))
    assert len(fast) == 200_000
    assert fast.nbytes < 200_000 * 32


@pytest.mark.parametrize("most", [0, -1, 2**31 + 1])
def test_bounds_of_what_is_remembered(most: int) -> None:
    with pytest.raises(ValueError, match="max_remembered"):
        RecentTrades(most)


def test_keys_tell_trades_apart() -> None:
    keys = {
        trade_key(exchange, trf, text)
        for exchange in (1, 4, 10, 21)
        for trf in (0, 201, 202)
        for text in ("1", "11", "111", "52983525029461", "é", "a" * 60, "a" * 61)
    }
    assert len(keys) == 4 * 3 * 7
    assert 0 not in keys
    assert trade_key(4, 201, "") == trade_key(4, 201, None) == 0


MASK = 2**64 - 1
KEY = 0xB2D39AB2FE11A485


def mixed(x: int) -> int:
    """The finaliser of splitmix64."""
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def plain_key(exchange: int, trf: int, text: str) -> int:
    value = mixed(mixed(exchange + 0x9E3779B97F4A7C15 & MASK) + trf & MASK)
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return mixed(value)


def test_a_key_is_the_same_everywhere() -> None:
    """Two sequencers must agree, so it may not depend on the process (as hash() does), the machine or the build."""
    rng = random.Random(3)
    assert trade_key(4, 201, "52983525029461") == plain_key(4, 201, "52983525029461") == KEY
    for _ in range(1000):
        exchange, trf, text = rng.randrange(2**31), rng.choice((0, 201, 2**31 - 1)), str(rng.randrange(10**15))
        assert trade_key(exchange, trf, text) == plain_key(exchange, trf, text)


def test_no_day_knows_the_trades_of_another() -> None:
    """Ids begin again each morning: whatever was seen before, a day's first trade with an id is new."""
    rng = random.Random(4)
    trades = [(rng.randrange(20_000), rng.randrange(1, 2**64)) for _ in range(50_000)]
    fast = RecentTrades(2**22)
    for day in range(5):
        day_ns = (1_773_129_600 + 86_400 * day) * 10**9
        assert all(fast.add(symbol, key, day_ns) for symbol, key in trades)
        assert not any(fast.add(symbol, key, day_ns) for symbol, key in trades)


WITHOUT_MEMORY = """
import ctypes, resource
from fastcore.dedup import RecentTrades

def neighbour(first):
    # A trade whose table the first one has made already.
    for key in range(first + 1, 100_000):
        trial = RecentTrades(3)
        trial.add(0, first)
        size = trial.nbytes
        trial.add(0, key)
        if trial.nbytes == size:
            return key

second = neighbour(1)
fast = RecentTrades(2)
fast.add(0, 1)
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
for size in (1 << 20, 1 << 16, 1 << 12, 1 << 9):
    while malloc(size):
        pass
# The second one makes the first generation full, when there is no memory for anything.
was_new = fast.add(0, second)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(was_new, len(fast), [fast.add(0, key) for key in (1, second)])
"""


@pytest.mark.skipif(
    "ASAN_OPTIONS" in os.environ, reason="the address sanitizer reserves addresses beforehand: no limit of them is met"
)
def test_a_full_generation_makes_room_without_any_memory() -> None:
    """A rotation that failed would never be made up for, and the tables would grow for ever."""
    ran = subprocess.run([sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "True 2 [False, False]\n"), ran.stderr
