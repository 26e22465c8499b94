"""A part of enrich_metadata: ticker_metadata's averages from daily_ohlc, in today's shares (2, 12.11)."""

from collections import Counter
from typing import Final

import asyncpg

from services.data_maintenance.work import Job, TaskError
from services.kit.runtime.redaction import reason_of
from services.kit.stores.daily_bars import stored_bars
from services.kit.vendor.client import VendorClient, VendorError
from services.market.daily_bars import (
    AVERAGE_DAYS,
    SHORT_AVERAGE_DAYS,
    DayBars,
    DayTable,
    mean_of_last,
)
from services.market.splits import SplitTable

# Without bars for so long a symbol has no averages any more.
_UPDATE: Final = """
    UPDATE ticker_metadata AS stored SET
        avg_volume_10d = fresh.avg_volume_10d, avg_volume_30d = fresh.avg_volume_30d,
        avg_price_30d = fresh.avg_price_30d, updated_at = now()
    FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[])
        AS fresh (symbol, avg_volume_10d, avg_volume_30d, avg_price_30d)
    WHERE stored.symbol = fresh.symbol
        AND (stored.avg_volume_10d, stored.avg_volume_30d, stored.avg_price_30d)
            IS DISTINCT FROM (fresh.avg_volume_10d, fresh.avg_volume_30d, fresh.avg_price_30d)
"""


class Averages:
    """Over the 30 trading days before the job's day; with a day that daily_ohlc does not hold they stay as they are."""

    def __init__(self, pool: asyncpg.Pool, vendor: VendorClient) -> None:
        self._pool = pool
        self._vendor = vendor

    async def __call__(self, job: Job) -> None:
        standing = job.standing
        standing.step, standing.done, standing.total = "averages", 0, None
        today = job.trading_date
        dates = [day.date for day in job.calendar.days if day.date < today][-AVERAGE_DAYS:]
        stored = {row["date"] for row in await self._pool.fetch(
            "SELECT DISTINCT date FROM daily_ohlc WHERE date = ANY($1::date[])", dates
        )}  # fmt: skip
        if missing := [day for day in dates if day not in stored]:
            standing.counts["averages_missing_days"] = len(missing)
            return
        set_aside: Counter[str] = Counter()
        try:
            splits = SplitTable(await self._vendor.splits(dates[0], today), today, set_aside)
        except VendorError as error:
            raise TaskError(f"the vendor did not tell the splits: {reason_of(error)}") from error
        days: list[DayBars] = [
            await stored_bars(self._pool, day, splits.factors(day), set_aside) for day in dates
        ]  # fmt: skip
        symbols = sorted({symbol for day in days for symbol in day.symbols})
        table = DayTable(symbols, days, [False] * len(days))
        columns = (
            mean_of_last(table.volume, table.hole, SHORT_AVERAGE_DAYS),
            mean_of_last(table.volume, table.hole, AVERAGE_DAYS),
            mean_of_last(table.close, table.hole, AVERAGE_DAYS),
        )
        values = [[None if value != value else value for value in column.tolist()] for column in columns]
        async with self._pool.acquire() as connection, connection.transaction():
            status = await connection.execute(_UPDATE, symbols, *values)
            await job.guard(connection)
        standing.count("averages", int(status.rsplit(" ", 1)[-1]))
        for reason, count in set_aside.items():
            standing.count(f"set_aside_{reason}", count)
