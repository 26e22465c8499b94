"""A feed of which nothing is admitted is told from one that is quiet, or wrong in part."""

from services.data_ingest.feed.feed_health import FeedHealth, SetAsideWatch
from tests.unit.test_sequencer import HOUR, Feed, Rig


def test_events_of_which_none_is_admitted_are_told_after_a_while() -> None:
    watch = SetAsideWatch(min_events=100, min_seconds=60)
    assert watch.look(0.0, 5000, {"price": 70, "time_out_of_session": 0}) is None
    for second in range(1, 60):
        assert watch.look(second, 5000, {"price": 70, "time_out_of_session": 10 * second}) is None
    text = watch.look(60.0, 5000, {"price": 75, "time_out_of_session": 600})
    assert text == "every event of the last 60 s was set aside: 605, 600 of them as time_out_of_session"
    # One that is admitted ends it.
    assert watch.look(61.0, 5001, {"price": 75, "time_out_of_session": 610}) is None
    assert watch.look(110.0, 5001, {"price": 75, "time_out_of_session": 900}) is None


def test_a_few_wrong_events_while_it_is_quiet_are_not() -> None:
    watch = SetAsideWatch(min_events=100, min_seconds=60)
    for second in range(0, 4000, 40):
        assert watch.look(second, 5000, {"price": second // 400}) is None


def test_it_is_over_when_nothing_comes_any_more() -> None:
    watch = SetAsideWatch(min_events=100, min_seconds=60)
    watch.look(0.0, 1, {})
    assert watch.look(50.0, 1, {"price": 500}) is None
    assert watch.look(70.0, 1, {"price": 600}) is not None
    assert watch.look(100.0, 1, {"price": 600}) is not None
    assert watch.look(131.0, 1, {"price": 600}) is None
    assert watch.look(200.0, 1, {"price": 601}) is None


def test_duplicates_say_nothing() -> None:
    watch = SetAsideWatch(min_events=100, min_seconds=60)
    for second in range(100):
        assert watch.look(second, 1, {"duplicate": 1000 * second}) is None


def test_the_lines_reason_comes_before_that_of_events_set_aside() -> None:
    rig, feed, reasons = Rig(), Feed(), list[str | None]()
    health = FeedHealth(rig.feed, rig.sequencer, reasons.append, SetAsideWatch(min_events=2, min_seconds=0.0))
    rig.feed.sequence(feed.batch(("AAPL", HOUR, 10.0)), 0)
    health.check()
    assert (reasons[-1], health.warnings) == (None, [])
    rig.feed.sequence(feed.batch(("AAPL", HOUR, -1.0), ("AAPL", HOUR, -2.0)), 0)
    health.check()
    reason = reasons[-1]
    assert reason is not None and reason.endswith("2 of them as price; the trading day in force is 2026-03-10")
    assert health.warnings == [reason]
    health.set_line("polygon_ws is away")
    assert reasons[-1] == "polygon_ws is away"
    health.set_line(None)
    assert reasons[-1] == reason
    rig.feed.sequence(feed.batch(("AAPL", HOUR, 11.0)), 0)
    health.check()
    assert (reasons[-1], health.warnings) == (None, [])
