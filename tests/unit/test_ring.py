"""Rings and resuming against a plain list of all messages."""

import random

import pytest

from services.kit.rpc.ring import Position, Ring

EPOCH = 1_790_000_000


def test_an_empty_ring() -> None:
    ring = Ring(EPOCH, 10, 100)
    assert (ring.epoch, ring.newest, ring.oldest, ring.held_bytes) == (EPOCH, 0, 1, 0)
    assert ring.position == Position(EPOCH, 0)
    ring.release(5)
    assert (ring.newest, ring.oldest) == (0, 1)
    assert ring.append(b"a") == 1
    assert (ring.newest, ring.oldest, ring.get(1)) == (1, 1, b"a")
    for absent in (0, 2):
        with pytest.raises(KeyError):
            ring.get(absent)


def test_a_ring_may_begin_later() -> None:
    ring = Ring(EPOCH, 10, 100, newest=41)
    assert (ring.newest, ring.oldest) == (41, 42)
    assert ring.append(b"a") == 42


def test_a_message_above_the_bound_is_not_held() -> None:
    ring = Ring(EPOCH, 10, 5)
    ring.append(b"12345")
    assert ring.oldest == 1
    assert ring.append(b"123456") == 2
    assert (ring.newest, ring.oldest, ring.held_bytes) == (2, 3, 0)


def test_bounds_hold_whatever_comes() -> None:
    rng = random.Random(7)
    ring = Ring(EPOCH, max_count=20, max_bytes=300)
    sent: list[bytes] = []
    released = 0
    for _ in range(3000):
        if rng.random() < 0.1:
            released = max(released, rng.randrange(len(sent) + 3))
            ring.release(released)
            released = min(released, len(sent))
        else:
            sent.append(rng.randbytes(rng.randrange(60)))
            assert ring.append(sent[-1]) == len(sent)
        held = range(ring.oldest, ring.newest + 1)
        assert len(held) <= 20
        assert ring.held_bytes == sum(len(ring.get(sequence)) for sequence in held) <= 300
        assert [ring.get(sequence) for sequence in held] == sent[ring.oldest - 1 :]
        assert ring.oldest > released
        for first in held:
            assert ring.span_bytes(first, ring.newest) == sum(map(len, sent[first - 1 :]))


@pytest.mark.parametrize(
    ("requested", "next_sequence", "why"),
    [
        (Position(EPOCH, 4), 5, None),
        (Position(EPOCH, 6), 7, None),
        (Position(EPOCH, 9), 10, None),
        (Position(EPOCH, 3), 10, "older than the oldest held, 5"),
        (Position(EPOCH, 0), 10, "older than the oldest held, 5"),
        (Position(EPOCH, 10), 10, "ahead of the newest, 9"),
        (Position(EPOCH - 1, 9), 10, "of another epoch"),
        (Position(EPOCH + 1, 9), 10, "of another epoch"),
        (Position(0, 0), 10, "of another epoch"),
    ],
)
def test_resuming_from_what_is_held(requested: Position, next_sequence: int, why: str | None) -> None:
    ring = Ring(EPOCH, max_count=5, max_bytes=100)
    for _ in range(9):
        ring.append(b"x")
    plan = ring.resume(requested)
    assert plan.next_sequence == next_sequence
    assert plan.reset_reason is None if why is None else why in str(plan.reset_reason)


def test_resuming_when_nothing_is_held() -> None:
    assert Ring(EPOCH, 10, 100).resume(Position(EPOCH, 0)) == (1, None)
    ring = Ring(EPOCH, 10, 100, newest=7)
    assert ring.resume(Position(EPOCH, 7)) == (8, None)
    assert ring.resume(Position(EPOCH, 6)).reset_reason is not None


def test_what_a_reader_holds_is_kept_up_to_a_bound() -> None:
    ring = Ring(EPOCH, max_count=10, max_bytes=10_000)
    for _ in range(15):
        ring.append(b"a")
    assert (ring.oldest, ring.newest, ring.has_dropped) == (6, 15, True)
    ring.hold("slow", 12)
    ring.hold("slower", 8)
    for _ in range(20):
        ring.append(b"a")
    assert ring.oldest == 8
    ring.let_go("slower")
    assert (ring.oldest, ring.holders) == (12, 1)
    ring.hold("slow", 30)
    ring.append(b"a")
    assert ring.oldest == 27
    ring.let_go("slow")
    ring.let_go("slow")
    # Four times the bound is the most; then nothing is kept for who has lost some of it.
    ring.hold("stuck", 28)
    ring.hold("fresh", 60)
    while ring.newest < 67:
        ring.append(b"a")
    assert ring.oldest == 28
    ring.append(b"a")
    assert (ring.oldest, ring.holders) == (59, 1)
    ring.let_go("fresh")
    assert (ring.oldest, ring.holders) == (59, 0)


def test_bytes_that_are_held_are_bounded_too() -> None:
    ring = Ring(EPOCH, max_count=1000, max_bytes=100)
    ring.append(b"0123456789")
    ring.hold("reader", 1)
    for _ in range(39):
        ring.append(b"0123456789")
    assert (ring.oldest, ring.held_bytes) == (1, 400)
    ring.append(b"0123456789")
    assert (ring.held_bytes, ring.holders) == (100, 0)


def test_a_place_is_safe_with_half_of_the_ring_behind_it() -> None:
    ring = Ring(EPOCH, max_count=10, max_bytes=40)
    assert ring.is_safe(1)
    for _ in range(8):
        ring.append(b"1234")
    assert [ring.is_safe(sequence) for sequence in (3, 4, 8, 9)] == [False, True, True, True]
    for _ in range(4):
        ring.append(b"12345678")
    # 20 of 40 bytes.
    assert [ring.is_safe(sequence) for sequence in (10, 11, 12)] == [False, True, True]
    assert not ring.is_safe(ring.oldest - 1)
