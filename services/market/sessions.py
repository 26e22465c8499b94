"""When the market's sessions began, from the days of the calendar. Pure."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from services.kit.runtime.clock import NS_PER_SECOND
from services.market.days import Day

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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
            began_at = _EPOCH + timedelta(seconds=ns // NS_PER_SECOND)
            if since < began_at <= until:
                starts.append(SessionStart(began_at, session, day.date, day.is_early_close))
    return sorted(starts)
