"""The pace of a crowd: within the budget, no slower than it must be, and nobody pays for those who want little."""

from hypothesis import given
from hypothesis import strategies as st

from services.scanner.crowd import ChangeRate, Demand, fair_interval

demands = st.lists(st.builds(Demand, st.floats(0, 200), st.integers(1, 5000)), max_size=20)


def sent(wanted: list[Demand], interval: float) -> float:
    """Messages a second with that interval."""
    return sum(count * (min(rate, 1 / interval) if interval else rate) for rate, count in wanted)


@given(demands, st.floats(100, 10_000))
def test_all_of_the_budget_is_used_and_no_more(wanted: list[Demand], budget: float) -> None:
    interval = fair_interval(wanted, budget)
    if interval:
        assert sent(wanted, 0) > budget
        assert abs(sent(wanted, interval) - budget) <= 1e-6 * budget
    else:
        assert sent(wanted, 0) <= budget * (1 + 1e-9)


@given(demands, st.integers(1, 100_000))
def test_subscribers_of_lists_that_do_not_change_cost_nobody_anything(wanted: list[Demand], idle: int) -> None:
    assert abs(fair_interval([*wanted, Demand(0.0, idle)], 1000) - fair_interval(wanted, 1000)) < 1e-9


def test_a_hundred_readers_of_a_busy_list_slow_nobody_down() -> None:
    assert fair_interval([Demand(20.0, 200), Demand(1.0, 900)], 5000) == 0.0
    # 1,000 of a list with 100 changes a second get 4 to 5 a second; those of a slow one all of its changes.
    interval = fair_interval([Demand(100.0, 1000), Demand(1.0, 500)], 5000)
    assert interval == 1000 / 4500


def test_a_rate_follows_the_changes_and_a_list_that_is_replaced_begins_anew() -> None:
    rate = ChangeRate(1000, now=0.0)
    values = [rate.measure(1000 + 10 * number, now=number / 2) for number in range(1, 12)]
    assert values == sorted(values)
    assert abs(values[-1] - 20) < 0.1
    assert rate.measure(1110, now=5.5) == values[-1]
    assert 0 <= rate.measure(3, now=6.0) < values[-1]
    assert rate.measure(13, now=6.5) > 0
