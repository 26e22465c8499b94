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
