"""The scanner's alerts over snapshots: what came before one, or while the scanner was away, is the sequencer's."""

from collections.abc import Iterable

import pytest
import structlog

from fastcore.alert_rules import AlertRule
from fastcore.market import Market
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frames import next_frame
from services.kit.rpc.ring import Position
from services.scanner.alert_log import AlertLog
from tests.support.settled_core import SettledCore
from tests.support.tape import EPOCH, Tape

SYMBOLS = ["AA", "BB"]
UP = AlertRule("up", "Up", "grows(price)", quality="price", text="up to {price}")


class Source:
    """A sequencer with one alert at each step()."""

    def __init__(self) -> None:
        self.recent = RecentAlerts()
        self.price = 100.0
        self.tape = Tape(SYMBOLS)
        self.begin(EPOCH)
        self.frames = [*self.tape.opening(), self.tape.alert_rules(UP)]
        self.frames += [self.tape.trades({"AA": self.price}), self.tape.watermark()]
        for frame in self.frames:
            self.market.apply(frame)

    def begin(self, epoch: int) -> None:
        """A new numbering of the same rows."""
        before, self.tape = self.tape, Tape(SYMBOLS, epoch=epoch)
        self.tape.now_ns = max(before.now_ns, self.tape.now_ns)
        definitions = load_lists()
        if epoch == EPOCH:
            self.market = Market(definitions, epoch, encode_deltas=False)
        else:
            self.market = Market.of_state(definitions, epoch, self.market.state, encode_deltas=False)

    def step(self, times: int = 1) -> list[bytes]:
        """Some more alerts; returns their frames."""
        frames = []
        for _ in range(times):
            self.price += 1.0
            frames += [self.tape.trades({"AA": self.price}), self.tape.watermark(1)]
            for frame in frames[-2:]:
                self.market.apply(frame)
            self.recent.take(self.market)
        return frames

    @property
    def position(self) -> Position:
        return Position(self.market.epoch, self.market.sequence)


class Scanner:
    """A scanner's log, with what it stored and where it began."""

    def __init__(self) -> None:
        self.core = SettledCore(load_lists())
        self.log = AlertLog(self.core)
        self.stored: list[bytes] = []
        self.began: list[Position] = []
        self.log.store = self.stored.append
        self.log.began = self.began.append

    def load(self, source: Source, alerts: Iterable[bytes] | None = None) -> None:
        self.log.take_recent(list(source.recent.all() if alerts is None else alerts))
        self.core.load(source.market.to_bytes(), source.position)
        self.log.market_replaced()

    def apply(self, frames: list[bytes]) -> None:
        for encoded in frames:
            frame = next_frame(memoryview(encoded), self.core.position)
            updates = self.core.apply(frame)
            self.log.frame_applied(frame, updates)

    @property
    def held(self) -> list[bytes]:
        return [alert.encoded for alert in self.log.newest_first()][::-1]


def test_the_sequencers_alerts_are_those_of_its_scanners_byte_for_byte() -> None:
    source, scanner = Source(), Scanner()
    scanner.load(source)
    scanner.apply(source.step(5))
    assert scanner.stored == scanner.held == list(source.recent.all())
    assert scanner.log.position == Position(EPOCH, 5)


def test_a_scanner_that_comes_later_begins_with_what_came_before() -> None:
    source, before, scanner = Source(), Scanner(), Scanner()
    before.load(source)
    before.apply(source.step(4))
    scanner.load(source)
    assert scanner.held == scanner.stored == before.held
    scanner.apply(source.step(2))
    assert (scanner.log.oldest, scanner.log.position) == (1, Position(EPOCH, 6))
    assert scanner.stored == list(source.recent.all())
    assert scanner.log.since_ns == before.log.get(1).time_ns + 1


def test_a_scanner_that_stood_still_goes_on_without_a_hole() -> None:
    source, scanner = Source(), Scanner()
    scanner.load(source)
    scanner.apply(source.step(2))
    since_ns = scanner.log.since_ns
    source.step(3)
    scanner.load(source)
    scanner.apply(source.step())
    assert scanner.held == scanner.stored == list(source.recent.all())
    assert (scanner.log.since_ns, scanner.log.oldest) == (since_ns, 1)
    assert scanner.began == [Position(EPOCH, 1)]


def test_where_alerts_are_gone_it_begins_anew_and_says_where() -> None:
    source, scanner = Source(), Scanner()
    scanner.load(source)
    scanner.apply(source.step(2))
    source.step(5)
    newest = source.recent.all()[-3:]
    scanner.load(source, newest)
    assert (scanner.held, scanner.log.oldest) == (list(newest), 5)
    assert scanner.stored[2:] == list(newest)
    assert scanner.began[1:] == [Position(EPOCH, 5)]
    fresh = Scanner()
    fresh.load(source, [])
    assert (fresh.held, fresh.began, fresh.log.position) == ([], [Position(EPOCH, 8)], Position(EPOCH, 7))


def test_the_end_of_the_epoch_before_is_stored_too() -> None:
    source, scanner = Source(), Scanner()
    scanner.load(source)
    scanner.apply(source.step(2))
    source.step(2)
    source.begin(EPOCH + 1)
    source.step(3)
    scanner.load(source)
    assert scanner.stored == list(source.recent.all())
    assert scanner.log.position == Position(EPOCH + 1, 3)
    assert scanner.held == scanner.stored[4:]
    assert list(scanner.log.earlier) == [Position(EPOCH, sequence) for sequence in (1, 2, 3, 4)]
    assert scanner.log.at(Position(EPOCH, 4)).encoded == scanner.stored[3]
    assert scanner.log.at(Position(EPOCH + 1, 1)).encoded == scanner.stored[4]


def test_alerts_that_do_not_lead_to_the_market_are_left_out() -> None:
    source, scanner = Source(), Scanner()
    source.step(4)
    for wrong in (source.recent.all()[:-1], [*source.recent.all()[:1], *source.recent.all()[2:]]):
        with structlog.testing.capture_logs() as logs:
            scanner.load(source, wrong)
        assert [each["log_level"] for each in logs] == ["error"]
        assert (scanner.held, scanner.log.position) == ([], Position(EPOCH, 4))
        scanner = Scanner()


@pytest.mark.parametrize("held", [1, 3])
def test_the_sequencer_holds_the_newest_ones_that_fit(held: int) -> None:
    source = Source()
    source.step(6)
    whole = source.recent.all()
    newest = RecentAlerts(whole, max_bytes=sum(map(len, whole[-held:])))
    assert newest.all() == whole[-held:]
