"""The lease as its holder sees it, what readers make of several sequencers, and a standby's copy of the market."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tradeul.v1 import standby_pb2

from fastcore.alert_rules import AlertRule
from fastcore.market import Market
from services.cli.local import mesh
from services.cli.local.standby import name_standby
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.standby import candidate, journal_feed, journal_follower
from services.data_ingest.standby.journal_feed import ENVELOPE, GONE_SECONDS, JournalFeed
from services.data_ingest.standby.journal_follower import PAUSE_SECONDS, WARM_SECONDS, JournalFollower
from services.data_ingest.standby.lease import (
    ANSWER_SECONDS,
    AWAY_SECONDS,
    LEASE_SECONDS,
    WITNESS_SECONDS,
    Claimed,
    Leadership,
)
from services.data_ingest.standby.market_copy import StandbyCopy, frames_of
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import load_lists
from services.kit.rpc import sequencers
from services.kit.rpc.ring import Position
from services.kit.rpc.sequencers import Sequencers
from services.kit.runtime.errors import ServiceError, StartError
from services.kit.runtime.settings import Address, Settings
from services.market.calendar import TradingDay
from tests.support.mesh import free_ports
from tests.unit.test_sequencer import CALENDAR, HOUR, SECOND, TODAY, Feed

EPOCH = 1_780_000_000
HALF_HOUR = 1_800_000_000_000
FOUR_OCLOCK = 1_773_129_600_000_000_000  # 2026-03-10T04:00:00-04:00
TIMES = (FOUR_OCLOCK, FOUR_OCLOCK + 11 * HALF_HOUR, FOUR_OCLOCK + 24 * HALF_HOUR, FOUR_OCLOCK + 32 * HALF_HOUR)
DAY = TradingDay(datetime.date(2026, 3, 10), *TIMES, is_early_close=False, next_date=datetime.date(2026, 3, 11))
FEED = 1_780_000_500


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Answers renewals as it is told; each takes `seconds` of the clock."""

    def __init__(self, clock: Clock) -> None:
        self.answer: bool | Exception = True
        self.seconds = 0.0
        self.holder = "us"
        self._clock = clock

    async def renew(self, fencing_number: int, epoch: int) -> bool:
        self._clock.now += self.seconds
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock)


@pytest.fixture
async def leadership(clock: Clock, store: Store) -> Leadership:
    return Leadership(store, Claimed(7, clock.now, 0, False), lambda: EPOCH, clock)  # type: ignore[arg-type]


async def renew_once(leadership: Leadership) -> None:
    running = asyncio.create_task(leadership.run())
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_lease_that_was_not_renewed_in_time_is_doubtful_until_it_is(
    leadership: Leadership, clock: Clock
) -> None:
    assert leadership.is_sure()
    clock.now += LEASE_SECONDS
    # As after a standstill: nobody has tried to renew it.
    leadership.served()
    assert not leadership.is_sure()
    await renew_once(leadership)
    assert leadership.is_sure() and not leadership.lost.done()


async def test_a_lease_counts_from_before_its_renewal_was_sent(
    leadership: Leadership, clock: Clock, store: Store
) -> None:
    store.seconds = 1.0
    await renew_once(leadership)
    clock.now += LEASE_SECONDS - 1.0
    assert not leadership.is_sure()


async def test_without_the_store_polygon_ws_is_the_witness(leadership: Leadership, clock: Clock, store: Store) -> None:
    store.answer, store.seconds = OSError("away"), ANSWER_SECONDS
    leadership.served()
    await renew_once(leadership)
    clock.now += LEASE_SECONDS
    assert leadership.is_sure()
    clock.now += AWAY_SECONDS + 0.5
    assert not leadership.is_sure(), "the store has not been asked for too long"
    await renew_once(leadership)
    assert clock.now - 100 > WITNESS_SECONDS and not leadership.is_sure(), "polygon_ws has said nothing for too long"
    leadership.served()
    assert leadership.is_sure()
    leadership.superseded("polygon_ws serves another one")
    assert not leadership.is_sure() and leadership.lost.result() == "polygon_ws serves another one"


async def test_a_timeout_after_a_standstill_says_nothing_about_the_store(
    leadership: Leadership, clock: Clock, store: Store
) -> None:
    store.answer, store.seconds = TimeoutError(), 10.0
    await renew_once(leadership)
    leadership.served()
    assert not leadership.is_sure()


async def test_a_lease_that_another_one_has_is_lost(leadership: Leadership, store: Store) -> None:
    store.answer = False
    await renew_once(leadership)
    assert leadership.lost.result() == "another sequencer has taken the lease" and not leadership.is_sure()


class AwayStore:
    """Fails `failures` times, then answers that the lease can be had, and by when it was asked."""

    def __init__(self, clock: Clock, failures: int) -> None:
        self.holder = "b"
        self.claims: list[float] = []
        self._clock = clock
        self._failures = failures

    async def ping(self) -> None:
        self._clock.now += 0.2
        if self._failures:
            self._failures -= 1
            raise OSError("away")

    async def claim(self, patience_seconds: float, session: str | None, **known: Any) -> Claimed:
        if self._failures:
            self._failures -= 1
            raise OSError("away")
        self.claims.append(self._clock.now)
        return Claimed(8, self._clock.now, EPOCH, was_ours=False)


async def test_after_an_outage_of_the_store_the_leader_may_renew_first(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(candidate, "LOOK_SECONDS", 0)
    monkeypatch.setattr(candidate, "monotonic", clock)
    environment = {
        "TRADEUL_SEQUENCERS": "127.0.0.1:9002,127.0.0.1:9102",
        "TRADEUL_DATA_INGEST_ADDRESS": "127.0.0.1:9102",
    }
    anything: Any = None
    store: Any = AwayStore(clock, failures=5)
    standby = candidate.Candidate(Settings.load(environment), store, anything, anything, lambda reason: None)
    began = clock.now
    claiming = asyncio.create_task(standby._until_claimed([]))
    while not claiming.done():
        clock.now += 0.01
        await asyncio.sleep(0)
    back = began + 5 * 0.2
    assert store.claims[0] >= back + candidate.GRACE_SECONDS
    assert (await claiming).fencing_number == 8


def test_readers_ask_the_next_sequencer_and_leave_a_silent_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sequencers, "monotonic", clock)
    three = Sequencers([Address("h", port) for port in (1, 2, 3)])
    assert str(three.address) == "h:1"
    three.next(was_silent=True)
    asked = []
    for _ in range(4):
        asked.append(str(three.address))
        three.next()
    assert asked == ["h:2", "h:3", "h:2", "h:3"]
    clock.now += sequencers.SILENT_SECONDS + 0.1
    three.next()
    three.next()
    assert str(three.address) == "h:1"


def test_a_reader_refuses_who_led_earlier() -> None:
    readers = Sequencers("h:1")
    for number in (0, 5, 5, 6):
        readers.check(number)
    with pytest.raises(ServiceError, match="expected a fencing number of at least 6, was 5: it led earlier"):
        readers.check(5)


# --- the journal's way to a standby


class Standby:
    """A client of FollowJournal whose requests a test sends."""

    def __init__(self, feed: JournalFeed) -> None:
        self.copy: StandbyCopy | None = None
        self.going_away = False
        self._pieces: list[bytes] = []
        self._earlier: list[bytes] = []
        self._requests: asyncio.Queue[standby_pb2.FollowJournalRequest] = asyncio.Queue()
        self._requests.put_nowait(standby_pb2.FollowJournalRequest(open=standby_pb2.FollowJournalOpen(standby="b")))
        self.serving = asyncio.create_task(feed.FollowJournal(self._send(), self))  # type: ignore[arg-type]

    async def _send(self) -> AsyncIterator[standby_pb2.FollowJournalRequest]:
        while True:
            yield await self._requests.get()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    async def write(self, message: bytes) -> None:
        response = standby_pb2.FollowJournalResponse.FromString(message)
        kind = response.WhichOneof("response")
        if kind == "state":
            self._pieces.append(response.state.data)
            if response.state.is_last:
                self.copy = StandbyCopy(b"".join(self._pieces), self._earlier)
        elif kind == "earlier":
            self._earlier += frames_of(ENVELOPE.read(message)[1])
        elif kind == "entry":
            assert self.copy is not None
            self.copy.add(ENVELOPE.read(message)[1])
        elif kind == "going_away":
            self.going_away = True

    async def ack(self) -> None:
        assert self.copy is not None
        ack = standby_pb2.FollowJournalAck(position=self.copy.position.message())
        if self.copy.feed is not None:
            ack.feed.CopyFrom(self.copy.feed.message())
        self._requests.put_nowait(standby_pb2.FollowJournalRequest(ack=ack))
        await asyncio.sleep(0.01)

    async def end(self) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)


class Leader:
    """A sequencer with a feed of batches, each of one watermark."""

    def __init__(self) -> None:
        self.alerts = RecentAlerts()
        self.sequencer = Sequencer(EPOCH, Market(load_lists(), EPOCH, encode_deltas=False), alerts=self.alerts)
        self.batch: Position | None = None
        self.feed = JournalFeed(self.sequencer, 7, lambda: self.batch, lambda: b"{}")
        self.sequencer.begin_day(DAY)

    def take(self, sequence: int, identities: bytes = b"") -> None:
        with self.sequencer.journal_entry() as notes:
            self.batch = notes.feed = Position(FEED, sequence)
            notes.trade_identities = identities
            self.sequencer.add_symbols([f"S{sequence}"])
            self.sequencer.add_watermark(DAY.market_open_ns + sequence)


async def joined(leader: Leader) -> Standby:
    standby = Standby(leader.feed)
    async with asyncio.timeout(5):
        while standby.copy is None:
            await asyncio.sleep(0)
    return standby


async def test_the_copy_of_a_standby_is_the_leaders_market() -> None:
    leader = Leader()
    leader.take(1, b"before..")
    standby = await joined(leader)
    leader.take(2, b"since...")
    await asyncio.sleep(0.01)
    copy = standby.copy
    assert copy is not None
    copy.check(*leader.sequencer.hash())
    found = copy.recovered()
    assert found is not None
    assert (found.position, found.feed) == (leader.sequencer.position, Position(FEED, 2))
    assert found.trade_identities == b"before..since..." and found.day.date == DAY.date
    ring = leader.sequencer.ring
    assert found.messages == [ring.get(sequence) for sequence in range(1, 6)], "those before it joined, too"
    position, number = leader.sequencer.hash()
    with pytest.raises(ValueError, match="expected the hash"):
        copy.check(position, number ^ 1)
    await standby.end()


async def test_a_standby_has_the_newest_alerts_of_before_it_came_and_since() -> None:
    leader = Leader()
    trades = Feed()
    feed = FeedInput(leader.sequencer, "feed", splits=lambda day: None)
    feed.days.begin(CALENDAR, TODAY)
    leader.sequencer.set_alert_rules([AlertRule("up", "Up", "grows(price)", text="{price}")])

    def rise(price: float) -> None:
        feed.sequence(trades.batch(("AAPL", 6 * HOUR + int(price) * SECOND, price)), 0)
        leader.take(int(price))

    for price in (10.0, 11.0, 12.0):
        rise(price)
    assert len(leader.alerts.all()) == 2
    standby = await joined(leader)
    rise(13.0)
    await asyncio.sleep(0.01)
    assert standby.copy is not None
    found = standby.copy.recovered()
    assert found is not None
    assert found.alerts == leader.alerts.all()
    assert len(found.alerts) == 3


async def test_polygon_ws_keeps_what_a_standby_does_not_have(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(journal_feed, "monotonic", clock)
    leader = Leader()
    assert leader.feed.acknowledgeable() is None
    leader.take(1)
    assert leader.feed.acknowledgeable() == Position(FEED, 1), "nobody stands by"
    standby = await joined(leader)
    assert leader.feed.acknowledgeable() is None
    await standby.ack()
    leader.take(2)
    assert leader.feed.acknowledgeable() == Position(FEED, 1)
    await asyncio.sleep(0.01)
    await standby.ack()
    assert leader.feed.acknowledgeable() == Position(FEED, 2)
    leader.take(3)
    await standby.end()
    assert leader.feed.acknowledgeable() == Position(FEED, 2), "it has gone, perhaps to take over"
    clock.now += WARM_SECONDS + PAUSE_SECONDS
    assert leader.feed.acknowledgeable() == Position(FEED, 2), "it may, with what it has"
    clock.now += GONE_SECONDS - WARM_SECONDS - PAUSE_SECONDS
    assert leader.feed.acknowledgeable() == Position(FEED, 3), "it may not any more"


async def test_a_standby_that_acknowledges_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_feed, "PATIENCE_SECONDS", 0.2)
    leader = Leader()
    standby = await joined(leader)
    await standby.ack()
    leader.take(1)
    running = asyncio.create_task(leader.feed.run())
    with pytest.raises(ServiceError, match="expected acknowledgements"):
        async with asyncio.timeout(5):
            await standby.serving
    monkeypatch.setattr(journal_feed, "GONE_SECONDS", 0.0)
    assert leader.feed.acknowledgeable() == Position(FEED, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_waited_while_a_standby_stood_still_does_not_make_it_warm(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The leader may have cut it off long ago, and died since."""
    monkeypatch.setattr(journal_follower, "monotonic", clock)
    leader = Leader()
    follower = JournalFollower([Address("127.0.0.1", 1)], "b", lambda reason: None)
    follower._take(ENVELOPE.message("state", data=leader.feed._state(), is_last=True))
    clock.now += WARM_SECONDS + 1
    for _ in range(3):
        follower._take(ENVELOPE.message("gaps", json=b"{}"))
        assert not follower.is_warm
    for _ in range(3):
        clock.now += 0.5
        follower._take(ENVELOPE.message("gaps", json=b"{}"))
    assert follower.is_warm, "it follows still"


async def test_a_copy_of_an_earlier_connection_is_not_warm(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """While it is made anew, it lacks batches that polygon_ws has forgotten."""
    monkeypatch.setattr(journal_follower, "monotonic", clock)
    leader = Leader()
    (port,) = free_ports(1)
    follower = JournalFollower([Address("127.0.0.1", port)], "b", lambda reason: None)
    market = leader.feed._state()
    half = len(market) // 2
    assert follower._take(ENVELOPE.message("state", data=market[:half])) is None
    assert not follower.is_warm
    follower._take(ENVELOPE.message("state", data=market[half:], is_last=True))
    assert follower.is_warm
    for _ in range(8):
        clock.now += 1
        follower._take(ENVELOPE.message("gaps", json=b"{}"))
    clock.now += WARM_SECONDS - 1
    # The leader has just gone: it may have died.
    async with follower._sequencers:
        await follower._follow()
    assert follower.is_warm
    # It is there again, and sends its market.
    clock.now += 2
    follower._take(ENVELOPE.message("gaps", json=b"{}"))
    follower._take(ENVELOPE.message("state", data=market[:half]))
    assert follower.copy is not None and not follower.is_warm
    follower._take(ENVELOPE.message("state", data=market[half:], is_last=True))
    assert follower.is_warm


async def test_a_new_epoch_begins_with_another_copy() -> None:
    leader = Leader()
    standby = await joined(leader)
    leader.sequencer.begin_epoch(EPOCH + 1, lambda epoch: Market(load_lists(), epoch, encode_deltas=False))
    leader.sequencer.begin_day(DAY)
    async with asyncio.timeout(5):
        await standby.serving
    assert standby.going_away
    again = await joined(leader)
    assert again.copy is not None and again.copy.position == Position(EPOCH + 1, 1)
    await again.end()


# --- `tradeul up --standby`


def test_a_mesh_on_one_machine_can_have_two_sequencers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRADEUL_SEQUENCERS", "")
    monkeypatch.setenv("TRADEUL_DATA_DIR", str(tmp_path))
    settings = name_standby(Settings.load())
    assert [str(each) for each in settings.sequencers] == ["127.0.0.1:9002", "127.0.0.1:9012"]
    specs = {spec.name: spec for spec in mesh.specs_of(settings, has_standby=True)}
    first, second = specs["data_ingest"], specs["standby"]
    assert "data_ingest" in second.needs and second.command == first.command
    own = {name: value for name, value in second.environment.items() if first.environment.get(name) != value}
    assert own == {"TRADEUL_DATA_INGEST_ADDRESS": "127.0.0.1:9012", "TRADEUL_DATA_DIR": str(tmp_path / "standby")}
    assert second.environment["TRADEUL_SEQUENCERS"] == "127.0.0.1:9002,127.0.0.1:9012"
    ports = mesh.ports_of(settings, has_standby=True)
    assert [ports[name].port for name in ("standby", "standby's metrics")] == [9012, 19012]
    with pytest.raises(StartError, match="expected TRADEUL_SEQUENCERS to be unset, was 127"):
        name_standby(settings)


def test_a_replay_has_no_standby() -> None:
    with pytest.raises(StartError, match="expected a live market, was a replay"):
        name_standby(Settings.load({"TRADEUL_REPLAY_DATE": "2026-03-10", "TRADEUL_REPLAY_FILE": "day.trades"}))
