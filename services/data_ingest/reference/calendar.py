"""The trading days before a day, when the caller has no calendar of its own."""

import datetime
from typing import Final

from services.data_ingest.reference.daily import ATR_HISTORY_DAYS
from services.data_ingest.reference.source import TradingDays

# 250 trading days are less than a year.
SPAN: Final = datetime.timedelta(days=400)


def new_york_days(day: datetime.date) -> TradingDays:
    """The 250 NYSE trading days before `day`; raises ValueError for a day that the calendar does not reach."""
    # Only here: it brings pandas along, a hundred megabytes that the sequencer does not want.
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS", start=day - SPAN, end=day + datetime.timedelta(days=7))
    sessions = [session.date() for session in calendar.sessions if session.date() < day]
    early = {session.date() for session in calendar.early_closes}
    before = tuple(sessions[-ATR_HISTORY_DAYS:])
    return TradingDays(before, frozenset(early.intersection(before)))
