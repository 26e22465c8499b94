"""The New York Stock Exchange's calendar: holidays and early closes from exchange_calendars."""

import warnings
from datetime import UTC, date
from typing import Final

from services.kit.runtime.clock import NEW_YORK
from services.market.calendar import Calendar, TradingDay, trading_day

# Early closes have been at 13:00 since before then.
FIRST: Final = date(2000, 1, 1)
YEARS_AHEAD: Final = 5


def nyse_calendar(today: date) -> Calendar:
    """From 2000 to the end of the fifth year after `today`; takes about a second, most of it imports."""
    # Loads pandas and every exchange's calendar.
    from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar

    last = date(today.year + YEARS_AHEAD, 12, 31)
    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 means to change in pandas 4.
        warnings.simplefilter("ignore", DeprecationWarning)
        exchange = XNYSExchangeCalendar(start=FIRST.isoformat(), end=last.isoformat())
    closes = exchange.closes
    days: list[TradingDay] = [
        trading_day(session.date(), close.to_pydatetime().astimezone(UTC).astimezone(NEW_YORK).time())
        for session, close in zip(closes.index, closes, strict=True)
    ]
    return Calendar(FIRST, last, days)
