"""A symbol that trades all the time takes no more than what its windows and its seconds need."""

from fastcore.market_state import MarketState
from tests.support.market_stream import DAYS
from tests.support.small_market import SmallMarket

SYMBOLS = [f"S{i}" for i in range(20)]
# Chunks of a list: the first, others of seconds, others of buckets.
FIRST, OF_SECONDS, OF_BUCKETS = 256, 1024, 2048
# Half an hour and what is kept beyond it have up to 192 buckets of 64 bytes; each trade is a second of 24, too.
BUCKETS = 500
NEEDED = 192 * 64 + BUCKETS * 24


def clock_of(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def trade_all(market: SmallMarket, first: int, last: int) -> None:
    """A trade of each symbol in each 10 seconds from 09:30 on."""
    for bucket in range(first, last):
        for symbol in SYMBOLS:
            market.trade(clock_of(9 * 3600 + 30 * 60 + bucket * 10), 10, symbol=symbol)


def test_a_busy_symbol_has_what_it_needs_and_chunks_that_are_not_full() -> None:
    state = MarketState()
    trade_all(SmallMarket(state, symbols=SYMBOLS), 0, BUCKETS)
    ends = 2 * FIRST + OF_SECONDS + 2 * OF_BUCKETS
    # A chunk of seconds has 16 bytes that no second fills.
    assert NEEDED <= state.list_bytes / len(SYMBOLS) <= NEEDED * OF_SECONDS / (OF_SECONDS - 16) + ends


def test_what_one_symbol_lets_go_of_others_use() -> None:
    """A bar covers seconds of trades, and a window leaves buckets behind."""
    state = MarketState()
    market = SmallMarket(state, symbols=SYMBOLS)
    trade_all(market, 0, 250)
    before = state.list_bytes
    for symbol in SYMBOLS:
        market.bar("10:11:00", 10, av=250 * 100, a=10, symbol=symbol)
    trade_all(market, 252, 500)
    assert state.list_bytes == before


def test_a_new_day_begins_with_nothing() -> None:
    state = MarketState()
    market = SmallMarket(state, symbols=SYMBOLS)
    trade_all(market, 0, 20)
    assert state.list_bytes > 0
    market.new_day(DAYS[1])
    assert state.list_bytes == 0
    trade_all(market, 0, 1)
    assert state.list_bytes == len(SYMBOLS) * 2 * FIRST
