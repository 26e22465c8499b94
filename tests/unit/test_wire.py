"""The pieces of protobuf's wire format in services/kit/rpc/wire.py."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.kit.rpc.wire import read_varint, varint


@given(st.integers(0, 2**64 - 1))
@example(2**64 - 1)
@example(2**63)
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    encoded = varint(value)
    assert read_varint(b"x" + encoded, 1) == (value, 1 + len(encoded))


@given(st.integers(2**64, 2**70 - 1))
@example(2**64)
@example(2**70 - 1)
def test_more_than_64_bits_are_none(value: int) -> None:
    """Ten bytes have room for 70 bits."""
    with pytest.raises(ValueError, match="at most 64 bits"):
        read_varint(varint(value), 0)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9])
def test_one_that_is_cut_off(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected a whole varint"):
        read_varint(data, 0)


def test_one_of_eleven_bytes() -> None:
    with pytest.raises(ValueError, match="at most 64 bits"):
        read_varint(b"\x80" * 10 + b"\x00", 0)
