"""Pauses between attempts."""

import random

import pytest

from services.kit.runtime.backoff import Backoff


def test_pauses_double_up_to_the_longest_with_jitter() -> None:
    for seed in range(50):
        backoff = Backoff(0.5, 4.0, random.Random(seed))
        for bound in (0.5, 1.0, 2.0, 4.0, 4.0, 4.0):
            assert bound / 2 <= backoff.next() <= bound


def test_pauses_differ_between_clients() -> None:
    assert len({Backoff(1.0, 8.0).next() for _ in range(50)}) > 10


def test_after_a_reset_the_pause_is_the_first_again() -> None:
    backoff = Backoff(0.5, 64.0, random.Random(1))
    for _ in range(8):
        backoff.next()
    assert backoff.next() >= 32.0
    backoff.reset()
    assert backoff.next() <= 0.5
    assert backoff.next() <= 1.0


def test_a_least_bound_holds_for_one_pause() -> None:
    backoff = Backoff(0.1, 2.0, random.Random(1))
    backoff.at_least(10.0)
    backoff.reset()
    assert 5.0 <= backoff.next() <= 10.0
    assert backoff.next() <= 0.2


@pytest.mark.parametrize("first", [0.001, 30.0])
def test_the_longest_is_never_exceeded_after_many_failures(first: float) -> None:
    backoff = Backoff(first, 30.0)
    assert max(backoff.next() for _ in range(2000)) <= 30.0
