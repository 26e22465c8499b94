"""The simulated market's pace: what a jump sends is what an uninterrupted day sends, and a pause sends nothing."""

import datetime

from services.kit.runtime.clock import NS_PER_MS
from services.kit.runtime.setting_groups import SimSettings
from services.market.market_time import TimeChange
from services.simulator.feed import Feed, FeedClient
from services.simulator.market import Market
from services.simulator.pace import MOST_UNSENT_BYTES, Pace
from services.simulator.tape import Event
from tests.support.flat_trades import ns_at

SETTINGS = SimSettings(seed=5, symbols=60, start=datetime.datetime(2025, 11, 24, 9, 29, 30))


class Paced:
    """A market, its pace, and the messages that a client of all channels got."""

    def __init__(self, speed: float = 1.0) -> None:
        self.market = Market(SETTINGS)
        self.feed = Feed(self.market.universe.tickers)
        self.unsent = 0
        self.messages: list[str] = []
        client = FeedClient(self.messages.append, lambda reason: None, lambda: self.unsent)
        self.feed.received(client, '{"action": "auth", "params": "key"}')
        self.feed.received(client, '{"action": "subscribe", "params": "T.*,A.*,AM.*,LULD.*"}')
        self.messages.clear()
        self.pace = Pace(self.market, self.feed, speed)

    def jump(self, to: str) -> None:
        self.pace.change(TimeChange(jump_ns=ns_at(to)))
        while self.pace.time().jump_ns:
            self.pace._play()

    @property
    def events(self) -> str:
        """All events, whatever frames they came in."""
        return ",".join(message[1:-1] for message in self.messages)


def expected_events(until: str) -> str:
    market = Market(SETTINGS)
    events: list[Event] = []
    while market.next_event_ns() <= ns_at(until):
        events += market.step()
    sent = [event for event in events if event.send_ms <= ns_at(until) // NS_PER_MS]
    return ",".join(event.text for event in sorted(sent, key=lambda event: event.send_ms))


def sorted_events(text: str) -> list[str]:
    return sorted(text.replace("},{", "}\n{").splitlines())


def test_a_jump_sends_what_an_uninterrupted_market_sends() -> None:
    paced = Paced()
    paced.pace.change(TimeChange(paused=True))
    paced.jump("09:31:00")
    paced.jump("09:33:00")
    assert paced.market.now_ns == ns_at("09:33:00")
    assert len(sorted_events(paced.events)) > 1000
    assert sorted_events(paced.events) == sorted_events(expected_events("09:33:00"))


def test_a_paused_market_stands_still() -> None:
    paced = Paced(speed=1000.0)
    paced.pace.change(TimeChange(paused=True))
    # What belongs to this very moment is sent.
    paced.pace._play()
    paced.messages.clear()
    before = paced.pace.time()
    for _ in range(50):
        assert paced.pace._play() > 0
    assert paced.pace.time() == before
    assert paced.messages == []
    paced.pace.change(TimeChange(paused=False, speed=100_000.0))
    while not paced.messages:
        paced.pace._play()
    assert paced.market.now_ns > before.now_ns


def test_a_pause_ends_a_jump_where_it_is() -> None:
    paced = Paced()
    paced.pace.change(TimeChange(jump_ns=ns_at("20:00:00")))
    paced.pace._play()
    paced.pace.change(TimeChange(paused=True))
    at = paced.pace.time()
    assert (at.jump_ns, at.paused) == (0, True)
    assert ns_at("09:29:30") <= at.now_ns < ns_at("20:00:00")
    paced.pace._play()
    assert paced.pace.time().now_ns == at.now_ns


def test_a_jump_waits_for_a_client_that_has_much_to_read() -> None:
    paced = Paced()
    paced.unsent = MOST_UNSENT_BYTES + 1
    paced.pace.change(TimeChange(jump_ns=ns_at("09:40:00")))
    assert paced.pace._play() > 0
    assert paced.messages == []
    paced.unsent = 0
    assert paced.pace._play() == 0
    assert paced.messages


def test_a_market_without_a_pace_moves_with_every_turn() -> None:
    paced = Paced()
    paced.pace.change(TimeChange(speed=0.0))
    for _ in range(30):
        assert paced.pace._play() == 0
    assert paced.market.now_ns == ns_at("09:29:59")
