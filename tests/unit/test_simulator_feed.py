"""The vendor's WebSocket protocol without sockets: who is told what."""

import json
from typing import Any

import pytest

from services.simulator import feed as feed_module
from services.simulator.feed import Feed, FeedClient
from services.simulator.messages import Kind
from services.simulator.tape import Event

TICKERS = ["AAA", "BBB", "CCC"]


class Client:
    """A client that keeps what it is sent."""

    def __init__(self, feed: Feed) -> None:
        self.frames: list[str] = []
        self.closed: list[str] = []
        self.waiting = 0
        self.client = FeedClient(self.frames.append, self.closed.append, lambda: self.waiting)
        self.feed = feed
        feed.connected(self.client)

    def say(self, action: Any, params: Any) -> list[dict[str, Any]]:
        return self.say_text(json.dumps({"action": action, "params": params}))

    def say_text(self, text: str | bytes) -> list[dict[str, Any]]:
        """The answer to a message."""
        before = len(self.frames)
        self.feed.received(self.client, text)
        return [message for frame in self.frames[before:] for message in json.loads(frame)]

    def join(self, params: str, key: str = "key") -> None:
        self.say("auth", key)
        self.say("subscribe", params)
        self.frames.clear()


def event(kind: Kind, symbol: int) -> Event:
    return Event(0, kind, symbol, json.dumps({"ev": kind.name, "sym": TICKERS[symbol]}))


@pytest.fixture
def feed() -> Feed:
    return Feed(TICKERS)


def test_channels_that_the_plan_lacks_are_refused() -> None:
    feed = Feed(TICKERS, ("A", "AM"))
    client = Client(feed)
    client.say("auth", "key")
    assert client.say("subscribe", "T.*,A.*") == [
        {"ev": "status", "status": "error", "message": "not authorized to subscribe to T.*"},
        {"ev": "status", "status": "success", "message": "subscribed to: A.*"},
    ]
    client.frames.clear()
    feed.publish([event(Kind.T, 0), event(Kind.A, 1)])
    assert [json.loads(frame) for frame in client.frames] == [[{"ev": "A", "sym": "BBB"}]]


def test_log_in_and_subscribe(feed: Feed) -> None:
    client = Client(feed)
    assert json.loads(client.frames[0]) == [
        {"ev": "status", "status": "connected", "message": "Connected Successfully"}
    ]
    assert client.say("subscribe", "T.*")[0]["status"] == "error"
    assert client.say("auth", "key") == [{"ev": "status", "status": "auth_success", "message": "authenticated"}]
    assert client.say("subscribe", "T.*, AM.AAA,X.*,T.") == [
        {"ev": "status", "status": "success", "message": "subscribed to: T.*"},
        {"ev": "status", "status": "success", "message": "subscribed to: AM.AAA"},
        {"ev": "status", "status": "error", "message": "expected T, A, AM, LULD or Q with a symbol or *, was X.*"},
        {"ev": "status", "status": "error", "message": "expected T, A, AM, LULD or Q with a symbol or *, was T."},
    ]


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "3", '{"action":"auth"}', '{"action":"dance","params":"x"}', '{"action":1,"params":2}', b"\xff"],
)
def test_nonsense_is_answered_and_nothing_else_happens(feed: Feed, text: str | bytes) -> None:
    client = Client(feed)
    client.say("auth", "key")
    assert [message["status"] for message in client.say_text(text)] == ["error"]
    assert not client.closed


def test_an_empty_key_is_refused(feed: Feed) -> None:
    client = Client(feed)
    assert client.say("auth", " ")[0]["status"] == "auth_failed"
    assert client.closed == ["auth_failed"]
    assert not feed.clients


def test_a_newer_connection_evicts_the_older(feed: Feed) -> None:
    older, newer, other = Client(feed), Client(feed), Client(feed)
    older.join("T.*")
    other.join("T.*", key="another")
    newer.join("T.*")
    assert json.loads(older.frames[-1])[0]["status"] == "max_connections"
    assert older.closed == ["max_connections"]
    feed.gone(older.client)
    feed.publish([event(Kind.T, 0)])
    assert len(newer.frames) == len(other.frames) == 1


def test_everybody_gets_what_they_asked_for(feed: Feed) -> None:
    everything, some, bars = Client(feed), Client(feed), Client(feed)
    everything.join("T.*,AM.*", key="1")
    some.join("T.AAA,T.CCC", key="2")
    bars.join("AM", key="3")
    feed.publish([event(Kind.T, 0), event(Kind.T, 1), event(Kind.AM, 1), event(Kind.T, 2)])

    def names(client: Client) -> list[tuple[str, str]]:
        return [(one["ev"], one["sym"]) for frame in client.frames for one in json.loads(frame)]

    assert names(everything) == [("T", "AAA"), ("T", "BBB"), ("T", "CCC"), ("AM", "BBB")]
    assert names(some) == [("T", "AAA"), ("T", "CCC")]
    assert names(bars) == [("AM", "BBB")]
    some.say("unsubscribe", "T.AAA")
    everything.say("unsubscribe", "T.*")
    for client in (everything, some):
        client.frames.clear()
    feed.publish([event(Kind.T, 0)])
    assert not everything.frames
    assert not some.frames


def test_one_encoding_for_all(feed: Feed) -> None:
    first, second = Client(feed), Client(feed)
    first.join("T.*", key="1")
    second.join("T.*", key="2")
    feed.publish([event(Kind.T, number % 3) for number in range(feed_module.FRAME_EVENTS + 1)])
    assert [len(json.loads(frame)) for frame in first.frames] == [feed_module.FRAME_EVENTS, 1]
    assert all(mine is other for mine, other in zip(first.frames, second.frames, strict=True))


def test_a_slow_client_is_disconnected(feed: Feed) -> None:
    slow, quick = Client(feed), Client(feed)
    slow.join("T.*", key="1")
    quick.join("T.*", key="2")
    slow.waiting = feed_module.MAX_UNSENT_BYTES + 1
    feed.publish([event(Kind.T, 0)])
    assert slow.closed == ["slow_consumer"]
    assert len(quick.frames) == 1
    assert feed.slow == 1
    assert list(feed.clients) == ["2"]


def test_quotes_are_made_only_when_somebody_wants_them(feed: Feed) -> None:
    client = Client(feed)
    client.join("T.*")
    assert not feed.wants_quotes
    client.say("subscribe", "Q.AAA")
    assert feed.wants_quotes
    client.say("unsubscribe", "Q.*")
    assert not feed.wants_quotes
