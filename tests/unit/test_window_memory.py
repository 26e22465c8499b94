"""A symbol that trades all the time takes no more than what its windows and its seconds need."""

from fastcore.market_state import MarketState
from tests.support.heap import used_bytes
from tests.support.small_market import SmallMarket

SYMBOLS = [f"S{i}" for i in range(20)]
# Half an hour has 180 buckets of 64 bytes; an hour without a bar as many seconds of 24 bytes.
BUCKETS = 500
MOST = 224 * 64 + BUCKETS * 24 * 3 // 2


def test_a_busy_symbol_has_an_eighth_of_room_beyond_its_windows() -> None:
    state = MarketState()
    market = SmallMarket(state, symbols=SYMBOLS)
    for symbol in SYMBOLS:
        market.trade("09:30:00", 10, symbol=symbol)
    before = used_bytes()
    for bucket in range(1, BUCKETS):
        seconds = 9 * 3600 + 30 * 60 + bucket * 10
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        for symbol in SYMBOLS:
            market.trade(clock, 10, symbol=symbol)
    assert 192 * 64 < (used_bytes() - before) / len(SYMBOLS) < MOST
