"""Words that need a touch are not run over other rows when the windows move. Nothing that they would find is missed."""

from tradeul.v1 import frame_pb2

from fastcore.alert_rules import AlertRule
from fastcore.market import Market
from tests.support.alert_frames import rule
from tests.support.tape import EPOCH, Tape, a_list

SPECS = [a_list()]
WINDOWS_MOVE = 10.0


class Alerts:
    """A market whose windows have moved twice, so that every word has looked at every row."""

    def __init__(self, *rules: AlertRule, clock: str = "10:00:00") -> None:
        self.tape = Tape(["A", "B", "C"], clock=clock)
        self.market = Market(SPECS, EPOCH)
        self.apply(*self.tape.opening(), self.tape.alert_rules(*rules), self.tape.trades({"A": 101.0, "B": 102.0}))
        for _ in range(2):
            self.after(WINDOWS_MOVE)

    def apply(self, *frames: bytes) -> list[tuple[str, str]]:
        """The rules and symbols of the last frame's alerts. A market that was read from bytes has the same."""
        for frame in frames:
            copy = Market.from_bytes(SPECS, self.market.to_bytes())
            is_watermark = [market.take(frame) for market in (copy, self.market)]
            if all(is_watermark):
                copy.refresh()
                self.market.refresh()
                assert [str(event) for event in copy.alert_events] == [str(event) for event in self.market.alert_events]
            assert copy.hash() == self.market.hash()
        return [(event.rule, event.symbol) for event in self.market.alert_events]

    def after(self, seconds: float) -> list[tuple[str, str]]:
        return self.apply(self.tape.watermark(seconds))

    def prev_close(self, symbol: str, value: float) -> bytes:
        column = frame_pb2.NumberColumn(field=frame_pb2.PREV_CLOSE, values=[value])
        return self.tape.frame(
            reference=frame_pb2.ReferenceColumns(symbol_id=[self.tape.symbols.index(symbol)], numbers=[column])
        )


def test_a_reference_value_that_changes_touches_its_row() -> None:
    alerts = Alerts(rule("below", "crosses_below(price, prev_close)"), rule("fell", "falls(price > prev_close)"))
    alerts.apply(alerts.prev_close("B", 105.0))
    assert alerts.after(1) + alerts.after(WINDOWS_MOVE) == [("below", "B"), ("fell", "B")]
    assert alerts.after(WINDOWS_MOVE) == []


def test_a_rule_that_comes_later_looks_at_every_row_once() -> None:
    alerts = Alerts(rule("grows", "grows(price)"))
    later = rule("rises", "rises(price > 101.5)")
    alerts.apply(alerts.tape.alert_rules(rule("grows", "grows(price)"), later))
    alerts.after(WINDOWS_MOVE)
    # It has seen that A was below, and that B was above already.
    alerts.apply(alerts.tape.trades({"A": 103.0, "B": 104.0}))
    assert alerts.after(0) == [("grows", "A"), ("grows", "B"), ("rises", "A")]


def test_what_time_moves_is_looked_at_without_a_touch() -> None:
    alerts = Alerts(
        rule("quiet", "rises(age_seconds > 60)"),
        rule("held", "held(price > 101.5, 5m)"),
        rule("after", "after(grows(price), rises(age_seconds > 60), 5m)"),
        rule("steps", "steps(age_seconds, 25, 25)"),
    )
    found = [alert for _ in range(30) for alert in alerts.after(WINDOWS_MOVE)]
    assert found.count(("quiet", "A")) == found.count(("quiet", "B")) == 1
    assert found.count(("held", "B")) == 1
    assert ("held", "A") not in found
    assert found.count(("after", "A")) == 0
    assert found.count(("steps", "A")) == found.count(("steps", "B")) == 12


def test_what_the_close_changes_in_all_rows_is_looked_at() -> None:
    alerts = Alerts(rule("closed", "rises(has(postmarket_change_percent))"), clock="15:59:35")
    found = [alert for _ in range(3) for alert in alerts.after(WINDOWS_MOVE)]
    assert found == [("closed", "A"), ("closed", "B")]


def test_rows_that_wait_are_rearmed_without_a_touch() -> None:
    alerts = Alerts(rule("grows", "grows(price)", rearm="age_seconds > 15", cooldown_seconds=0))
    trade = alerts.tape.trades
    assert alerts.apply(trade({"A": 103.0}), alerts.tape.watermark(1)) == [("grows", "A")]
    assert alerts.apply(trade({"A": 104.0}), alerts.tape.watermark(1)) == []
    alerts.after(WINDOWS_MOVE)
    alerts.after(WINDOWS_MOVE)
    assert alerts.apply(trade({"A": 105.0}), alerts.tape.watermark(1)) == [("grows", "A")]


def test_rows_that_move_in_a_list_change_for_other_words_too() -> None:
    alerts = Alerts(rule("enters", 'leaves("risers", 100)'), rule("below", "crosses_below(price, prev_close)"))
    # B leaves the list as its previous close comes.
    found = alerts.apply(alerts.prev_close("B", 105.0), alerts.tape.watermark(0.001))
    found += alerts.after(WINDOWS_MOVE)
    assert sorted(found) == [("below", "B"), ("enters", "B")]


def test_a_new_day_begins_anew() -> None:
    alerts = Alerts(rule("above", "crosses_above(price, prev_close)"), rule("grows", "grows(price)"))
    alerts.apply(alerts.tape.next_day(), alerts.prev_close("A", 100.0), alerts.tape.trades({"A": 99.0}))
    assert alerts.after(0) + alerts.after(WINDOWS_MOVE) == []
    assert alerts.apply(alerts.tape.trades({"A": 101.0}), alerts.tape.watermark(1)) == [("above", "A"), ("grows", "A")]
