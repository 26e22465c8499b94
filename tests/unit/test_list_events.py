"""List streams as server-sent events, without gRPC."""

import json
from collections.abc import AsyncGenerator
from typing import cast

import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format

from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position
from services.kit.runtime import errors
from services.scanner.list_events import Context, ListEvents, last_event_position
from services.scanner.list_stream import ListStream, ListSubscription
from tests.support.list_messages import EPOCH, ListModel, response


class Metadata:
    """The context of an RPC with this metadata."""

    def __init__(self, **metadata: str) -> None:
        self._metadata = tuple((key.replace("_", "-"), value) for key, value in metadata.items())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def context(**metadata: str) -> Context:
    return cast(Context, Metadata(**metadata))


def published() -> tuple[ListModel, ListStream]:
    model = ListModel()
    stream = ListStream(model.name, Position(EPOCH, 0), model.snapshot, lambda _: None)
    stream.publish(0, 1, LIST.wrap("delta", model.change_to([("A", 1.0)])))
    return model, stream


def events_of(events: ListEvents, stream: ListStream, *, resumable: bool) -> AsyncGenerator[bytes, None]:
    subscription = ListSubscription(stream)
    position = (lambda: subscription.position) if resumable else None
    return events.messages(stream.name, subscription.messages(), position)


async def read(events: ListEvents, stream: ListStream, count: int, *, resumable: bool = True) -> list[bytes]:
    messages = events_of(events, stream, resumable=resumable)
    found = [await anext(messages) for _ in range(count)]
    await messages.aclose()
    return found


def text(event: bytes) -> str:
    body = httpbody_pb2.HttpBody.FromString(event)
    assert body.content_type == "text/event-stream"
    return str(body.data, "utf-8")


async def test_an_event_is_a_message_and_its_position() -> None:
    model, stream = published()
    messages = events_of(ListEvents(), stream, resumable=True)
    plain = ListSubscription(stream).messages()
    heads = []
    for number in range(5):
        if number >= 3:
            delta = model.change_to([("A", float(number)), ("B", 0.5)])
            stream.publish(number - 2, number - 1, LIST.wrap("delta", delta))
        *head, data, end, last = text(await anext(messages)).split("\n")
        expected = json_format.MessageToDict(
            response(await anext(plain)), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        assert json.loads(data.removeprefix("data: ")) == expected
        assert (end, last) == ("", "")
        heads.append(head)
    await messages.aclose()
    await plain.aclose()
    assert heads == [[], [f"id: {EPOCH}/1"], [], [f"id: {EPOCH}/2"], [f"id: {EPOCH}/3"]]


async def test_changes_are_encoded_once_for_all() -> None:
    _, stream = published()
    events = ListEvents()
    (_, first, _), (_, second, _) = [await read(events, stream, 3) for _ in range(2)]
    assert first is second
    events = ListEvents(max_held_bytes=10)
    (_, first, _), (_, second, _) = [await read(events, stream, 3) for _ in range(2)]
    assert first is not second
    assert first == second


async def test_a_scan_has_no_positions() -> None:
    _, stream = published()
    assert not [event for event in await read(ListEvents(), stream, 3, resumable=False) if "id:" in text(event)]


def test_the_position_of_the_last_event() -> None:
    assert last_event_position(context()) is None
    assert last_event_position(context(last_event_id="")) is None
    assert last_event_position(context(last_event_id="7/0")) == Position(7, 0)
    with pytest.raises(errors.ServiceError, match="epoch/sequence, was '7'"):
        last_event_position(context(last_event_id="7"))
