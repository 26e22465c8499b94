"""Days follow each other: what each forgets, which events are whose, and what is missing."""

import datetime
import random

import pytest

from tests.support.pipeline import Pipeline, trade

MONDAY, TUESDAY, WEDNESDAY = (datetime.date(2025, 11, day) for day in (24, 25, 26))
FRIDAY = datetime.date(2025, 11, 28)
DATES = (MONDAY, TUESDAY, WEDNESDAY, FRIDAY, datetime.date(2025, 12, 1))
ID = "52983527388738"


def openers(date: datetime.date, clock: str = "04:00:01", symbols: str = "ABC") -> list[dict[str, object]]:
    """Trades of three symbols, which begin a day."""
    return [trade(symbol * 3, clock, date, 10.0) for symbol in symbols]


# --- a day forgets


def test_a_trade_is_no_duplicate_of_yesterdays() -> None:
    pipeline = Pipeline(DATES)
    pipeline.send(trade("DUP", "04:20:00", MONDAY, 10.0, i=ID))
    pipeline.send(*openers(TUESDAY))
    pipeline.send(trade("DUP", "04:00:05", TUESDAY, 10.2, i=ID))
    row = pipeline.row("DUP")
    assert (row["volume_today"], row["price"], row["trades_today"]) == (100, 10.2, 1)
    # The vendor sends it again: that is one.
    pipeline.send(trade("DUP", "04:00:05", TUESDAY, 10.2, i=ID))
    assert pipeline.row("DUP")["volume_today"] == 100
    assert pipeline.rejected == {"duplicate": 1}


def test_near_the_change_of_day_every_trade_counts_once_on_its_own_day() -> None:
    pipeline = Pipeline(DATES)
    pipeline.send(trade("DUP", "19:59:59", MONDAY, 10.0, i="1"))
    # A batch of both days; Monday's late duplicate is one, and after the change it is of no day.
    late = trade("DUP", "19:59:59", MONDAY, 10.0, i="1")
    pipeline.send(late, trade("DUP", "04:00:00", TUESDAY, 11.0, i="1"), *openers(TUESDAY), late)
    pipeline.send(late, trade("DUP", "04:00:00", TUESDAY, 11.0, i="1"))
    row = pipeline.row("DUP")
    assert (row["volume_today"], row["price"]) == (100, 11.0)
    assert pipeline.rejected == {"duplicate": 3, "time_out_of_session": 1}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_came_before_a_days_first_trade_with_an_id_counts(seed: int) -> None:
    rng = random.Random(seed)
    pipeline = Pipeline(DATES)
    for date in DATES:
        counts: dict[str, int] = {}
        pipeline.send(*openers(date))
        for _ in range(30):
            symbol, number = f"S{rng.randrange(4)}", rng.randrange(1, 6)
            key = f"{symbol} {number}"
            counts.setdefault(key, rng.randrange(1, 500))
            pipeline.send(trade(symbol, "05:00:00", date, 10.0, counts[key], i=str(number)))
        for symbol in {key.split()[0] for key in counts}:
            expected = sum(size for key, size in counts.items() if key.startswith(symbol + " "))
            assert pipeline.row(symbol)["volume_today"] == expected, (date, symbol)


# --- events between two days, days without events


def test_events_between_two_days_do_not_stop_the_new_one() -> None:
    pipeline = Pipeline(DATES)
    pipeline.send(trade("AAA", "19:59:00", MONDAY, 9.0))
    for symbol in ("AAA", "BBB", "CCC"):
        pipeline.send(trade(symbol, "03:59:59", TUESDAY, 10.0))
    assert pipeline.date == MONDAY
    for symbol in ("AAA", "BBB", "CCC"):
        pipeline.send(trade(symbol, "04:00:01", TUESDAY, 11.0))
    assert pipeline.date == TUESDAY
    # What came before the third was seen is not lost.
    assert [pipeline.row(symbol)["volume_today"] for symbol in ("AAA", "BBB", "CCC")] == [100, 100, 100]
    assert pipeline.rejected == {"time_out_of_session": 3}


def test_a_wrong_timestamp_is_no_event_of_the_new_day_either() -> None:
    pipeline = Pipeline(DATES)
    pipeline.send(trade("AAA", "10:00:00", TUESDAY, 99.0, size=5000))
    pipeline.send(trade("AAA", "19:59:59", MONDAY, 10.0))
    pipeline.send(*openers(TUESDAY))
    assert (pipeline.row("AAA")["price"], pipeline.row("AAA")["volume_today"]) == (10.0, 100)
    assert pipeline.rejected == {"time_out_of_session": 1}


def test_any_number_of_symbols_may_come_too_early() -> None:
    """However many names there are, and whatever is wrong with them, none keeps the next day from being seen."""
    pipeline = Pipeline(DATES)
    for first in range(0, 6_000, 1_000):
        names = [f"X{number}" for number in range(first, first + 1_000)]
        pipeline.send(*(trade(name, "03:59:59", TUESDAY, 10.0) for name in names))
        pipeline.send(*(trade(name, "04:00:01", TUESDAY, -1.0, i="") for name in names))
    assert pipeline.date == MONDAY
    pipeline.send(*openers(TUESDAY))
    assert pipeline.date == TUESDAY


def test_events_that_are_wrong_anyway_begin_no_day() -> None:
    pipeline = Pipeline(DATES)
    for symbol in ("AAA", "BBB", "CCC"):
        pipeline.send(trade(symbol, "04:20:00", MONDAY, 10.0))
        pipeline.send(trade(symbol, "04:00:01", TUESDAY, 10.0, size=0))
        pipeline.send(trade(symbol, "04:00:02", TUESDAY, 1e9))
    assert pipeline.date == MONDAY
    assert pipeline.rejected == {"time_out_of_session": 6}


def test_wrong_timestamps_far_from_each_other_begin_no_day() -> None:
    pipeline = Pipeline(DATES)
    for symbol in ("AAA", "BBB", "CCC"):
        pipeline.send(trade(symbol, "10:00:00", TUESDAY, 10.0))
        pipeline.send(*(trade("BUSY", "04:20:00", MONDAY, 10.0, i=f"{symbol}{number}") for number in range(1_001)))
    assert pipeline.date == MONDAY
    assert pipeline.row("BUSY")["volume_today"] == 300_300


def test_a_day_of_which_nothing_came_is_passed_over_and_named() -> None:
    pipeline = Pipeline(DATES)
    pipeline.send(trade("AAA", "15:00:00", MONDAY, 10.0))
    pipeline.send(*openers(FRIDAY))
    assert (pipeline.date, pipeline.feed.days.missing) == (FRIDAY, [TUESDAY, WEDNESDAY])
    assert pipeline.row("AAA")["volume_today"] == 100
    assert pipeline.rejected == {}


def test_one_message_may_cross_several_days() -> None:
    pipeline = Pipeline(DATES)
    events = [event for date in DATES[:3] for event in openers(date)]
    pipeline.send(*events)
    assert (pipeline.date, pipeline.feed.days.missing) == (WEDNESDAY, [])
    assert pipeline.row("BBB")["volume_today"] == 100
    assert pipeline.rejected == {}


@pytest.mark.parametrize("date", [datetime.date(2025, 11, 27), datetime.date(2025, 11, 29)])
def test_on_holidays_and_weekends_nothing_begins(date: datetime.date) -> None:
    pipeline = Pipeline(DATES)
    pipeline.send(*(trade(symbol, clock, date, 10.0) for symbol in "ABCD" for clock in ("04:00:01", "10:00:00")))
    assert pipeline.date == MONDAY
    assert pipeline.rejected == {"time_out_of_session": 8}


# --- names of which nothing is admitted


def test_names_that_were_refused_are_counted_not_kept() -> None:
    """140,000 garbage trades for as many names leave room for every real symbol, in both services."""
    pipeline = Pipeline(DATES)
    for first in range(0, 140_000, 2_000):
        pipeline.send(*(trade(f"G{number}", "04:20:00", MONDAY, -1.0) for number in range(first, first + 2_000)))
    assert pipeline.rejected == {"price": 140_000}
    assert pipeline.buffer.decoder.symbol_count == len(pipeline.sequencer.symbols) == pipeline.market.state.count == 0
    pipeline.send(*openers(MONDAY))
    assert pipeline.sequencer.symbols.texts == ["AAA", "BBB", "CCC"]
    assert pipeline.row("CCC")["volume_today"] == 100


def test_a_symbol_exists_once_an_event_of_it_is_admitted() -> None:
    pipeline = Pipeline(DATES)
    state = pipeline.market.state
    # polygon_ws cannot know which day it is.
    pipeline.send(trade("LATE", "20:00:01", MONDAY, 10.0), trade("GOOD", "04:00:01", MONDAY, 10.0))
    pipeline.send(trade("LATE", "20:00:02", MONDAY, 10.0))
    assert (state.symbols, pipeline.buffer.decoder.symbol_count) == (["GOOD"], 2)
    before = state.hash()
    pipeline.send(trade("LATE", "03:59:59", MONDAY, 10.0), trade("GOOD", "03:59:59", MONDAY, 10.0))
    assert state.hash() == before, "what is set aside changes nothing"
    pipeline.send(trade("LATE", "04:00:02", MONDAY, 11.0), trade("LATE", "04:00:03", MONDAY, 12.0))
    assert state.symbols == ["GOOD", "LATE"]
    assert (pipeline.row("LATE")["volume_today"], pipeline.row("LATE")["trades_today"]) == (200, 2)
    # A duplicate in the very batch that named it.
    twice = trade("TWICE", "04:00:05", MONDAY, 10.0)
    pipeline.send(twice, twice)
    pipeline.send(twice)
    assert pipeline.row("TWICE")["volume_today"] == 100
    assert pipeline.rejected == {"time_out_of_session": 4, "duplicate": 2}


def test_beyond_the_tables_bound_events_are_set_aside() -> None:
    pipeline = Pipeline(DATES, max_symbols=2)
    pipeline.send(*openers(MONDAY))
    pipeline.send(*openers(MONDAY, "04:00:02"))
    assert pipeline.sequencer.symbols.texts == ["AAA", "BBB"]
    assert pipeline.rejected == {"unknown_symbol": 2}
