"""Requests of dry runs: checked, and the days that they are about."""

import asyncio
import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tradeul.v1 import dry_run_pb2

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.errors import INVALID_DATE, INVALID_LIMIT, INVALID_REQUEST, NO_PAST_DAYS
from services.market.dates import ONE_DAY, SATURDAY, parse_date
from services.market.flat_files import MINUTE_BARS_KIND, ROOT, TRADES_KIND, date_in_name
from services.market.symbols import spellings
from services.ticker.store import Queries

MOST_DAYS: Final = 60
MOST_ALERTS: Final = 10_000
DEFAULT_ALERTS: Final = 1000
MOST_SYMBOLS: Final = 500
# The newest days on which any of the most active symbols has a stored minute bar: there is no index by time alone.
STORED_DAYS: Final = """
    WITH RECURSIVE active AS MATERIALIZED (
        SELECT 'SPY' AS symbol
        UNION (SELECT symbol FROM daily_ohlc WHERE date = (SELECT max(date) FROM daily_ohlc)
            ORDER BY volume DESC LIMIT 20)
        UNION (SELECT symbol FROM ticker_metadata ORDER BY avg_volume_30d DESC NULLS LAST, symbol LIMIT 20)
    ), days AS (
        SELECT 'infinity'::timestamptz AS start
        UNION ALL
        SELECT date_trunc('day', (
            SELECT max(newest) FROM active, LATERAL (
                SELECT max(time) AS newest FROM aggregates_1min WHERE symbol = active.symbol AND time < days.start
            ) AS bars
        ) AT TIME ZONE 'America/New_York') AT TIME ZONE 'America/New_York'
        FROM days WHERE start IS NOT NULL
    )
    SELECT start FROM days WHERE start < 'infinity' LIMIT $1
"""


class DryRunRequest(NamedTuple):
    """`days`: the newest so many, 0 where `first` and `last` are given. `symbols`: all if empty."""

    days: int
    first: datetime.date | None
    last: datetime.date | None
    symbols: tuple[str, ...]
    limit: int
    source: str


def checked_request(request: dry_run_pb2.DryRunAlertRuleRequest) -> DryRunRequest:
    """Everything of a request but its rule; raises INVALID_REQUEST, INVALID_DATE, INVALID_LIMIT."""
    limit = request.limit if request.HasField("limit") else DEFAULT_ALERTS
    if limit > MOST_ALERTS:
        raise INVALID_LIMIT.error(f"limit: expected 0 to {MOST_ALERTS}, was {limit}", limit=limit)
    symbols = tuple(text.strip() for text in request.symbols.split(",") if text.strip())
    if len(symbols) > MOST_SYMBOLS:
        raise INVALID_REQUEST.error(f"symbols: expected at most {MOST_SYMBOLS}, was {len(symbols)}", field="symbols")
    # As it is written, and in capitals.
    spelled = tuple(dict.fromkeys(each for symbol in symbols for each in spellings(symbol)))
    if "\0" in request.source or len(request.source) > 4000:
        raise INVALID_REQUEST.error("source: expected a directory, was a text that is none", field="source")
    first, last = (getattr(request, name) for name in ("from", "to"))
    if not first and not last:
        days = request.days if request.HasField("days") else 1
        if not 1 <= days <= MOST_DAYS:
            raise INVALID_LIMIT.error(f"days: expected 1 to {MOST_DAYS}, was {days}", days=days)
        return DryRunRequest(days, None, None, spelled, limit, request.source)
    if request.HasField("days"):
        raise INVALID_REQUEST.error("expected either days or from and to, was both", field="days")
    if not first:
        raise INVALID_REQUEST.error("expected from with to, was to alone", field="from")
    begin = parse_date(first, "from")
    end = parse_date(last, "to") if last else begin
    if not begin <= end:
        raise INVALID_DATE.error(f"expected from at or before to, was {begin} to {end}", start=begin, end=end)
    if (count := len(_weekdays(begin, min(end, begin + 1000 * ONE_DAY)))) > MOST_DAYS:
        raise INVALID_DATE.error(f"expected at most {MOST_DAYS} days, was {begin} to {end}", days=count)
    return DryRunRequest(0, begin, end, spelled, limit, request.source)


async def days_of(request: DryRunRequest, folder: Path, queries: Queries) -> list[datetime.date]:
    """The days to run, ascending: those requested, or the newest that there are data of.

    Raises NO_PAST_DAYS when there are none, STORE_UNAVAILABLE.
    """
    if request.first is not None and request.last is not None:
        days = _weekdays(request.first, request.last)
        if not days:
            raise INVALID_DATE.error(f"expected trading days, was {request.first} to {request.last}: a weekend")
        return days
    stored = await queries.all(STORED_DAYS, request.days)
    found = {row["start"].astimezone(NEW_YORK).date() for row in stored}
    found.update(await asyncio.to_thread(days_with_files, folder))
    if not found:
        raise NO_PAST_DAYS.error(
            f"there are no data of any past day: no recordings and no files of trades or minute bars below {folder},"
            " and no stored minute bars"
        )
    return sorted(found)[-request.days :]


def days_with_files(folder: Path) -> set[datetime.date]:
    """The days of which a folder has a recording, trades or minute bars."""
    kinds = (TRADES_KIND, MINUTE_BARS_KIND)
    names = (path.name for kind in kinds for root in (folder / ROOT, folder) for path in root.glob(f"{kind}/*/*/*"))
    return set(_dates(names))


def _dates(names: Iterable[str]) -> Iterable[datetime.date]:
    for name in names:
        if name.endswith((".csv", ".csv.gz", ".stream.gz")) and (date := date_in_name(name)) is not None:
            yield date


def _weekdays(first: datetime.date, last: datetime.date) -> list[datetime.date]:
    days = (first + number * ONE_DAY for number in range((last - first).days + 1))
    return [day for day in days if day.weekday() < SATURDAY]
