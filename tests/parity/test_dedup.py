"""Recognition of duplicate trades against a plain pair of sets."""

import random

import pytest

from fastcore.dedup import RecentTrades, trade_key


class PlainRecent:
    """Two generations; the second is forgotten whenever the first is full."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.current: set[tuple[int, int]] = set()
        self.previous: set[tuple[int, int]] = set()

    def add(self, symbol: int, key: int) -> bool:
        if key == 0:
            return True
        trade = (symbol, key)
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
        assert fast.add(symbol, key) == plain.add(symbol, key)
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


def test_a_key_is_the_same_everywhere() -> None:
    """Two sequencers must agree, so it may not depend on the process (as hash() does)."""
    assert trade_key(4, 201, "52983525029461") == trade_key(4, 201, "52983525029461")
    assert 0 < trade_key(4, 201, "52983525029461") < 2**64
