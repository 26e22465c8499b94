"""permessage-deflate: what is negotiated, what a compressed message is, and that it is made once."""

import json
import random
import zlib
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from services.websocket_server import client_messages
from services.websocket_server.deflate import ACCEPTED, LEAST_BYTES, accepted_extensions, deflated, inflated
from services.websocket_server.list_feed import ListFeed
from tests.support.scripted_scanner import ScriptedList, ticker_row
from tests.support.ws_client import texts_of

# What Chromium, Firefox, Node and the `websockets` library send.
COMMON = "permessage-deflate; client_max_window_bits"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (COMMON, ACCEPTED),
        ("permessage-deflate", ACCEPTED),
        ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=9", ACCEPTED),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ACCEPTED),
        ('permessage-deflate; server_max_window_bits="15"', f"{ACCEPTED}; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", ACCEPTED),
        ("permessage-deflate; server_max_window_bits=10", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("permessage-deflate; unheard_of", None),
        ("permessage-bzip2", None),
        ("", None),
        (" ; ,,;=", None),
    ],
)
def test_offers_are_accepted_or_declined(offers: str, answer: str | None) -> None:
    assert accepted_extensions(offers) == answer


def inflated_frame(frame: bytes) -> str:
    """The text of a compressed frame, as the `websockets` library reads it."""
    factory = ClientPerMessageDeflateFactory(client_max_window_bits=True)
    extension = factory.process_response_params(
        [("server_no_context_takeover", None), ("client_no_context_takeover", None)], []
    )
    begin = {126: 4, 127: 10}.get(frame[1], 2)
    read = extension.decode(Frame(Opcode.TEXT, frame[begin:], rsv1=bool(frame[0] & client_messages.DEFLATED)))
    return bytes(read.data).decode()


@pytest.mark.parametrize("size", [0, LEAST_BYTES - 3, LEAST_BYTES, 1000, 65_535, 1_000_000])
def test_a_compressed_frame_is_read_back_and_never_longer(size: int) -> None:
    rng = random.Random(size)
    for text in ("x" * size, "".join(chr(rng.randrange(32, 127)) for _ in range(size))):
        frame = client_messages.frame(text.encode())
        compressed = client_messages.deflated_frame(frame)
        assert len(compressed) <= len(frame)
        assert inflated_frame(compressed) == text
        if size < LEAST_BYTES:
            assert compressed is frame


def test_no_more_is_inflated_than_a_message_may_have() -> None:
    bomb = deflated(bytes(10_000_000))
    assert len(bomb) < 100_000
    assert len(inflated(bomb, 4096)) == 4097
    assert inflated(deflated(b"abc"), 4096) == b"abc"
    with pytest.raises(ValueError, match="expected deflated data"):
        inflated(b"\xff\xff\xff", 4096)


@pytest.mark.parametrize("changed_fields_only", [False, True])
def test_each_change_and_snapshot_is_compressed_once(
    changed_fields_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    source = ScriptedList("winners")
    feed = ListFeed("winners", changed_fields_only=changed_fields_only)
    source.change_to([ticker_row(rng, f"S{i}") for i in range(8)])
    feed.load(source.snapshot().SerializeToString())
    made: list[Any] = []
    real = zlib.compressobj

    def counted(*args: Any) -> Any:
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(zlib, "compressobj", counted)
    first = source.sequence
    for _ in range(5):
        source.shuffle(rng)
        held = source.patched[source.sequence].SerializeToString()
        feed.apply(held if changed_fields_only else source.held[source.sequence])
        for _ in range(3):
            feed.changes_after(feed.position.sequence - 1, deflates=True)
            compressed = feed.snapshot(deflates=True)
        assert json.loads(inflated_frame(compressed)) == json.loads(texts_of(feed.snapshot())[0])
    assert len(made) == 10
    plain, compressed = feed.changes_after(first), feed.changes_after(first, deflates=True)
    assert len(made) == 10
    assert len(compressed) < len(plain)
    # Under a name of one's own it is another message.
    renamed = feed.changes_after(feed.position.sequence - 1, b'"mine"', deflates=True)
    assert json.loads(inflated_frame(renamed))["list"] == "mine"


def test_compressed_changes_are_held_no_longer_than_the_changes() -> None:
    rng = random.Random(4)
    source, feed = ScriptedList("winners"), ListFeed("winners", max_held=5)
    feed.load(source.snapshot().SerializeToString())
    for _ in range(30):
        source.shuffle(rng)
        feed.apply(source.held[source.sequence])
        feed.changes_after(max(0, source.sequence - 3), deflates=True)
    assert len(feed._deflated) <= 5
