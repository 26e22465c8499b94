"""The trading days before a day, when the caller gives no calendar of its own."""

import datetime
from typing import Final

from services.data_ingest.reference.source import TradingDays
from services.market.daily_bars import ATR_HISTORY_DAYS

# 250 trading days are less than that.
SPAN: Final = datetime.timedelta(days=400)
ONE_DAY: Final = datetime.timedelta(days=1)


def new_york_days(day: datetime.date) -> TradingDays:
    """The 250 NYSE trading days before `day`; raises ServiceError for a day that the calendar does not reach."""
    # Only here: it brings pandas along, some fifty megabytes that the sequencer does not want.
    from services.market.calendar import nyse_calendar

    days = nyse_calendar(day).between(day - SPAN, day - ONE_DAY)[-ATR_HISTORY_DAYS:]
    return TradingDays(tuple(each.date for each in days), frozenset(each.date for each in days if each.is_early_close))
