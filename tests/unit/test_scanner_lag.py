import pytest
from tradeul.v1 import market_data_pb2

from services.kit.runtime.clock import NS_PER_SECOND as NS
from services.scanner.metrics import LagMeter, last_trade_ns


@pytest.mark.parametrize("times", [[5], [7, 3, 1_773_000_000 * NS], []])
def test_the_last_trade_of_an_encoded_batch(times: list[int]) -> None:
    batch = market_data_pb2.TradeBatch(
        symbol_id=range(len(times)), time_ns=times, price=[1.0] * len(times), size=[1.0] * len(times)
    )
    assert last_trade_ns(memoryview(batch.SerializeToString())) == (times[-1] if times else None)


def test_lag_is_told_at_the_refresh_that_shows_the_trade() -> None:
    meter = LagMeter()
    assert meter.median_ms() is None
    assert meter.refreshed(NS) == []
    meter.add_trade(2 * NS)
    meter.add_trade(2 * NS + 6_000_000)
    assert meter.refreshed(2 * NS + 10_000_000) == [0.01, 0.004]
    assert meter.refreshed(2 * NS + 20_000_000) == []
    assert meter.median_ms() == 7.0


def test_the_median_is_of_the_last_second_with_trades() -> None:
    meter = LagMeter()
    for second in range(5):
        meter.add_trade(second * NS)
        meter.refreshed(second * NS + (second + 1) * 1_000_000)
    assert meter.median_ms() == 5.0
    # A quiet time does not make it forget.
    meter.refreshed(60 * NS)
    assert meter.median_ms() == 5.0
