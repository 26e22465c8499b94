"""Market breadth against a count over complete rows, and an example worked out by hand."""

import pytest
from tradeul.v1 import frame_pb2

from fastcore.breadth import Breadth, breadth
from fastcore.market_state import MarketState
from fastcore.reference import breadth_twin
from tests.support.market_stream import MarketStream
from tests.support.tape import Tape

TYPES = {"UP": "CS", "DOWN": "ADRC", "SAME": "CS", "FUND": "ETF", "PLAIN": "", "QUIET": "CS"}
SECTORS = {"UP": "Energy", "DOWN": "Energy", "SAME": "Technology", "FUND": "Energy", "PLAIN": "", "QUIET": "Energy"}


def test_an_example() -> None:
    tape = Tape(TYPES)
    state = MarketState()
    for frame in tape.opening():
        state.apply(frame)
    texts = [
        frame_pb2.TextColumn(field=frame_pb2.SECURITY_TYPE, values=list(TYPES.values())),
        frame_pb2.TextColumn(field=frame_pb2.SECTOR, values=list(SECTORS.values())),
    ]
    state.apply(tape.frame(reference=frame_pb2.ReferenceColumns(symbol_id=range(len(TYPES)), texts=texts)))
    # UP ends at its high; DOWN between its high and its low; one price of SAME is no range.
    for prices in ({"UP": 101.0, "DOWN": 90.0}, {"UP": 102.0, "DOWN": 80.0}, {"DOWN": 85.0, "SAME": 100.0}):
        state.apply(tape.trades(prices))
    state.apply(tape.trades({"PLAIN": 103.0, "FUND": 120.0}, size=50.0))
    found = {each.sector: each for each in breadth(state)}
    assert found[""] == Breadth("", 4, 2, 1, 1, 1, 0, 250.0, 300.0, 650.0)
    assert found["Energy"] == Breadth("Energy", 2, 1, 1, 0, 1, 0, 200.0, 300.0, 500.0)
    assert found["Technology"] == Breadth("Technology", 1, 0, 0, 1, 0, 0, 0.0, 0.0, 100.0)
    assert found["Utilities"] == Breadth("Utilities", 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0)
    assert len(found) == 12


@pytest.mark.parametrize("seed", range(4))
def test_of_a_random_market(seed: int) -> None:
    state = MarketState()
    assert [each.stocks for each in breadth(state)] == [0] * 12
    sizes = set()
    for number, frame in enumerate(MarketStream(seed, symbols=120, length=2500).frames(20)):
        state.apply(frame)
        if number % 40 == 0:
            found = breadth(state)
            assert found == breadth_twin.breadth(state.row(symbol) for symbol in state.symbols)
            sizes.add(found[0])
    assert len(sizes) > 10
    assert max(each.advancers for each in sizes) > 0 < max(each.new_lows for each in sizes)
