"""When the market's sessions began, from the days of the calendar. Pure."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import NamedTuple

from services.kit.runtime.clock import utc_time
from services.market.days import Day


class SessionStart(NamedTuple):
    """A row of session_log: from `began_at` on it was `session`; the trading date is that of the day it belongs to."""

    began_at: datetime
    session: str
    trading_date: date
    is_early_close: bool


def session_starts(days: Iterable[Day], since: datetime, until: datetime) -> list[SessionStart]:
    """The changes of session in (since, until], in order."""
    starts = []
    for day in days:
        for session, ns in (
            ("PRE_MARKET", day.pre_market_start_ns),
            ("MARKET_OPEN", day.market_open_ns),
            ("POST_MARKET", day.market_close_ns),
            ("CLOSED", day.post_market_end_ns),
        ):
            began_at = utc_time(ns)
            if since < began_at <= until:
                starts.append(SessionStart(began_at, session, day.date, day.is_early_close))
    return sorted(starts)
