"""Protobuf's wire format in fastcore/wire.pyx: where the fields of a message are, and wrappers around bytes."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tradeul.v1 import frame_pb2, polygon_ws_pb2, scanner_pb2, stream_pb2

from fastcore.wire import field_head, fields, only_field, read_fields, read_varint, wrap, write_fields
from services.kit.rpc.frames import read_frame

WIRE_FIELDS = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 2**29 - 1), st.just(0), st.integers(0, 2**64 - 1)),
        st.tuples(st.integers(1, 2**29 - 1), st.just(1), st.integers(0, 2**64 - 1)),
        st.tuples(st.integers(1, 2**29 - 1), st.just(2), st.binary(max_size=300)),
        st.tuples(st.integers(1, 2**29 - 1), st.just(5), st.integers(0, 2**32 - 1)),
    ),
    max_size=12,
)


def plain_varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the highest bit."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


@given(st.integers(0, 2**64 - 1))
@example(2**64 - 1)
@example(2**63)
def test_a_varint_is_read_with_the_index_after_it(value: int) -> None:
    encoded = plain_varint(value)
    assert read_varint(b"x" + encoded + b"y", 1) == (value, 1 + len(encoded))
    assert read_varint(memoryview(encoded), 0) == (value, len(encoded))


@given(st.integers(2**64, 2**70 - 1))
@example(2**64)
@example(2**70 - 1)
def test_more_than_64_bits_are_none(value: int) -> None:
    """Ten bytes have room for 70 bits."""
    with pytest.raises(ValueError, match="at most 64 bits"):
        read_varint(plain_varint(value), 0)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9])
def test_one_that_is_cut_off(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected a whole varint"):
        read_varint(data, 0)


def test_one_of_eleven_bytes() -> None:
    with pytest.raises(ValueError, match="at most 64 bits"):
        read_varint(b"\x80" * 10 + b"\x00", 0)


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside_of_the_message(index: int) -> None:
    with pytest.raises(ValueError, match="expected an index of 0 to 3"):
        read_varint(b"\x01\x02\x03", index)


@given(WIRE_FIELDS)
def test_fields_are_where_they_were_written(content: list[tuple[int, int, int | bytes]]) -> None:
    message = write_fields(content)
    found = fields(message)
    assert fields(memoryview(message)) == found
    assert [number for number, *_ in found] == [number for number, *_ in content]
    # One after the other, from the first byte to the last.
    assert [first for _, first, _, _ in found] == [0, *(after for *_, after in found)][: len(found)]
    for (number, first, start, end), field in zip(found, content, strict=True):
        assert read_fields(message[first:end]) == [field]
        if isinstance(field[2], bytes):
            assert message[start:end] == field[2]
        elif field[1] == 0:
            assert read_varint(message, start) == (field[2], end)
        else:
            assert int.from_bytes(message[start:end], "little") == field[2]
        assert first < start <= end, number
    assert fields(message, 3) == found[:3]


@given(st.binary(max_size=40))
def test_what_is_no_message_is_none_for_both_readers(data: bytes) -> None:
    try:
        expected = [number for number, *_ in read_fields(data)]
    except ValueError:
        with pytest.raises(ValueError, match="expected"):
            fields(data)
    else:
        assert [number for number, *_ in fields(data)] == expected


def test_the_first_fields_are_read_of_a_message_that_is_cut_off() -> None:
    whole = polygon_ws_pb2.MarketBatch(position=stream_pb2.StreamPosition(epoch=3, sequence=9), new_symbols=["A", "B"])
    cut = whole.SerializeToString()[:-1]
    with pytest.raises(ValueError, match="truncated"):
        fields(cut)
    ((number, _, start, end),) = fields(cut, 1)
    assert number == 1
    assert stream_pb2.StreamPosition.FromString(cut[start:end]) == whole.position


@pytest.mark.parametrize("number", [1, 15, 16, 2047, 2048, 2**29 - 1])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_pieces_are_wrapped_as_one_content(number: int, size: int) -> None:
    content = random.Random(size).randbytes(size)
    expected = write_fields([(number, 2, content)])
    assert wrap(number, content) == expected
    assert wrap(number, content[:7], memoryview(content)[7:]) == expected
    assert field_head(number, size) + content == expected
    assert only_field(expected) == (number, content)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "was an empty message"),
        (b"\x08\x01", "was wire type 0"),
        (b"\x0a\x01x\x0a\x00", "field 1 alone, 2 more bytes follow it"),
        (b"\x0a\x05x", "truncated"),
        (b"\x00\x00", "field number"),
    ],
)
def test_what_is_no_wrapper_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        only_field(data)


def test_a_frame_is_its_position_and_its_body() -> None:
    frame = frame_pb2.Frame(
        position=stream_pb2.StreamPosition(epoch=7, sequence=300), watermark=frame_pb2.Watermark(event_time_ns=5)
    )
    read = read_frame(memoryview(frame.SerializeToString()))
    assert (read.position, read.kind) == ((7, 300), frame_pb2.Frame.WATERMARK_FIELD_NUMBER)
    assert frame_pb2.Watermark.FromString(bytes(read.body)) == frame.watermark
    assert read_frame(memoryview(frame_pb2.Frame(position=frame.position).SerializeToString())).kind == 0
    for data in (b"", frame_pb2.Frame(watermark=frame.watermark).SerializeToString()):
        with pytest.raises(ValueError, match="begin with its position"):
            read_frame(memoryview(data))


def test_a_wrapper_is_bytes_whatever_the_items_of_its_view_are() -> None:
    assert only_field(memoryview(wrap(1, b"abcdef")).cast("H")) == (1, b"abcdef")


def test_buffers_that_are_none_are_refused() -> None:
    for function in (fields, only_field, lambda data: read_varint(data, 0)):
        with pytest.raises(TypeError):
            function("text")  # type: ignore[arg-type]


def test_the_core_wraps_a_delta_as_its_readers_expect_it() -> None:
    delta = scanner_pb2.ListDelta(list="winners", epoch=1, sequence=2, previous_sequence=1)
    message = scanner_pb2.WatchListResponse(delta=delta).SerializeToString()
    assert only_field(message) == (scanner_pb2.WatchListResponse.DELTA_FIELD_NUMBER, delta.SerializeToString())
