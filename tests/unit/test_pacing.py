"""The times of paced subscribers: shared by a group, and spread over the interval by groups."""

from itertools import pairwise

import pytest

from services.kit.rpc.pacing import AFTER_LATE, GROUP, GROUPS, ON_TIME, Phases, next_tick, van_der_corput


def test_paced_subscribers_share_one_grid_of_times() -> None:
    ticks = {next_tick(now, 0.25, 0.4, ON_TIME) for now in (10.11, 10.12, 10.119)}
    assert [round(tick, 6) for tick in ticks] == [10.35]
    # A wake-up a little late does not shift the grid; one in the middle may not come again too soon.
    assert round(next_tick(10.36, 0.25, 0.4, ON_TIME), 6) == 10.6
    assert round(next_tick(10.42, 0.25, 0.4, ON_TIME), 6) == 10.85
    # Unless it was late.
    assert next_tick(10.42, 0.25, 0.4, AFTER_LATE) == next_tick(10.36, 0.25, 0.4, ON_TIME)
    assert round(next_tick(10.50, 0.25, 0.4, AFTER_LATE), 6) == 10.85


def test_many_paced_subscribers_are_groups_whose_times_are_spread_over_the_interval() -> None:
    phases = Phases("filtered")
    taken = [phases.take() for _ in range(GROUP * GROUPS)]
    groups = [set(taken[first : first + GROUP]) for first in range(0, len(taken), GROUP)]
    assert all(len(group) == 1 for group in groups)
    every = sorted(phase for group in groups for phase in group)
    assert [after - before for before, after in pairwise(every)] == pytest.approx([1 / GROUPS] * (GROUPS - 1))
    # Two groups are half an interval apart.
    assert abs(taken[0] - taken[GROUP]) == pytest.approx(0.5)
    # Then they begin anew.
    assert phases.take() == taken[0]


def test_the_beginnings_of_the_sequence_are_spread_evenly() -> None:
    assert [van_der_corput(number) for number in range(8)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


def test_lists_have_different_times() -> None:
    assert Phases("filtered").take() != Phases("gappers_up").take()
