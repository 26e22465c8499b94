"""The NYSE's holidays and early closes since 2000, from nyse.toml, which tools/nysedays.py writes."""

import datetime
import functools
import tomllib
from collections.abc import Mapping
from typing import NamedTuple

from services.kit.runtime.packaged import NYSE
from services.market.dates import ONE_DAY, SATURDAY


class ExchangeDays(NamedTuple):
    """Weekdays that differ from others, from `first` to `last`, both included."""

    first: datetime.date
    last: datetime.date
    closed: Mapping[datetime.date, str]
    """Without trading; "" for a closure that is no regular holiday."""
    early: Mapping[datetime.date, datetime.time]
    """With an early close, in New York."""

    def trading_dates(self, first: datetime.date, last: datetime.date) -> list[datetime.date]:
        """The dates with trading, ascending; raises ValueError for a bound that is not known."""
        if not self.first <= first <= last <= self.last:
            raise ValueError(f"expected dates from {self.first} to {self.last}, was {first} to {last}")
        dates = (first + ONE_DAY * offset for offset in range((last - first).days + 1))
        return [on for on in dates if on.weekday() < SATURDAY and on not in self.closed]


@functools.cache
def exchange_days() -> ExchangeDays:
    """Reads the file; raises StartError when it is missing."""
    table = tomllib.loads(NYSE.path().read_text(encoding="utf-8"))
    closed = {datetime.date.fromisoformat(on): name for on, name in table["closed"].items()}
    early = {datetime.date.fromisoformat(on): close for on, close in table["early"].items()}
    return ExchangeDays(table["first"], table["last"], closed, early)
