"""The messages that all streams have in common: what is put together by hand is what protobuf reads."""

import pytest
from google.protobuf.message import Message
from tradeul.v1 import (
    analytics_pb2,
    bars_pb2,
    data_ingest_pb2,
    data_maintenance_pb2,
    frame_pb2,
    historical_pb2,
    market_session_pb2,
    polygon_ws_pb2,
    scanner_pb2,
    stream_pb2,
)

from fastcore.wire import wrap
from services.kit.rpc.envelope import FRAMES, LIST, MARKET, Envelope
from services.kit.rpc.ring import Position

POSITION = Position(1_763_900_000, 41)
RESPONSES = (
    data_ingest_pb2.SubscribeFramesResponse,
    polygon_ws_pb2.SubscribeMarketResponse,
    scanner_pb2.WatchListResponse,
    bars_pb2.WatchBarsResponse,
    analytics_pb2.WatchMetricsResponse,
    market_session_pb2.WatchSessionResponse,
    historical_pb2.WatchLoadResponse,
    data_maintenance_pb2.WatchTaskResponse,
)
COMMON = [
    (response, kind, position)
    for response in RESPONSES
    for kind in ("opened", "current", "heartbeat", "reset", "going_away")
    if kind in response.DESCRIPTOR.fields_by_name
    for position in (POSITION, Position(0, 0), None)
    if position is not None or kind != "reset"
]


@pytest.mark.parametrize(("response", "kind", "position"), COMMON)
def test_common_messages(response: type[Message], kind: str, position: Position | None) -> None:
    reason = ["position 41 is gone"] if kind in ("reset", "going_away") else []
    encoded = getattr(Envelope(response), kind)(position, *reason)

    message = response.FromString(encoded)
    expected = response()
    content = getattr(expected, kind)
    content.SetInParent()
    if position is not None:
        content.position.CopyFrom(stream_pb2.StreamPosition(epoch=position.epoch, sequence=position.sequence))
    if reason:
        content.reason = reason[0]
    assert message == expected
    assert encoded == expected.SerializeToString()


def test_opened_with_more_than_a_position() -> None:
    opened = scanner_pb2.WatchListResponse.FromString(LIST.opened(POSITION, list="gappers_up")).opened
    assert (opened.list, Position.of(opened.position)) == ("gappers_up", POSITION)
    symbols = polygon_ws_pb2.SubscribeMarketResponse.FromString(MARKET.opened(POSITION, symbols=["A", "B"])).opened
    assert list(symbols.symbols) == ["A", "B"]


def test_a_positioned_message_and_its_response() -> None:
    content = frame_pb2.Watermark(event_time_ns=1_700_000_000_000_000_000).SerializeToString()
    number = frame_pb2.Frame.DESCRIPTOR.fields_by_name["watermark"].number
    response, frame = FRAMES.positioned("frame", POSITION, wrap(number, content))
    expected = frame_pb2.Frame(position=POSITION.message(), watermark=frame_pb2.Watermark.FromString(content))
    assert frame_pb2.Frame.FromString(bytes(frame)) == expected
    assert data_ingest_pb2.SubscribeFramesResponse.FromString(response).frame == expected


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 1 << 20])
def test_payloads_of_any_size_in_pieces_and_back(size: int) -> None:
    payload = scanner_pb2.ListDelta(list="x" * size).SerializeToString()
    response = LIST.wrap("delta", payload[: size // 2], memoryview(payload)[size // 2 :])
    assert response == scanner_pb2.WatchListResponse(delta=scanner_pb2.ListDelta(list="x" * size)).SerializeToString()
    kind, content = LIST.read(response)
    assert (kind, bytes(content)) == ("delta", payload)


@pytest.mark.parametrize(
    "message",
    [b"", b"\x08\x01", wrap(99, b"x"), wrap(2, b"x") + wrap(3, b"y"), wrap(2, b"abc")[:-1]],
    ids=["empty", "a number", "an unknown field", "two fields", "cut off"],
)
def test_what_is_no_response_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        LIST.read(message)
