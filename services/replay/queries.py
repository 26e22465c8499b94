"""The SQL of preparing a day, for DuckDB. `row` counts a file's readable rows from 0, in the file's order."""

import datetime
from pathlib import Path
from typing import Final

from services.replay.flat_file import TRADES, Kind

# Erroneous and cancelled trades, and the records that report them (docs/semantics.md, Recordings and replays).
NOT_COUNTED: Final = (7, 8, 10, 11, 12)

REASONS: Final = {
    "missing_value": "a value that is needed is missing",
    "conditions": "expected numbers of conditions",
    "other_day": "of another day",
    "correction": "cancelled or erroneous",
}

REFUSED: Final = """
    SELECT line, first(column_name), first(error_message) FROM reject_errors GROUP BY line ORDER BY line
"""

SYMBOLS: Final = """
    CREATE TABLE symbols AS
    SELECT ticker, (row_number() OVER (ORDER BY ticker) - 1)::UINTEGER AS id
    FROM (SELECT DISTINCT ticker FROM raw JOIN kept USING (row))
"""

# How many rows there are, and how many are older than a row before them by the parameter.
LATE: Final = """
    SELECT count(*), count(*) FILTER (WHERE sip_timestamp < newest - ?) FROM (
        SELECT sip_timestamp, max(sip_timestamp) OVER (ORDER BY row ROWS UNBOUNDED PRECEDING) AS newest
        FROM raw JOIN kept USING (row)
    )
"""

# Parameters: the open of the regular session, 04:00. What the vendor's live bars have beside the files' columns:
# volume and average price since 04:00, the official open. A bar comes at its end. A bar that is there twice
# counts as the last one. Without its own average price a bar's is taken to be the mean of high, low and close.
BARS: Final = """
    WITH last_ones AS (
        SELECT symbols.id, raw.* FROM raw JOIN kept USING (row) JOIN symbols USING (ticker)
        QUALIFY row_number() OVER (PARTITION BY ticker, window_start ORDER BY row DESC) = 1
    ), priced AS (
        SELECT *, coalesce(vwap, (high + low + close) / 3) AS price, window_start >= ?1 AS is_regular,
            CASE WHEN window_start >= ?2 THEN volume ELSE 0 END AS counted
        FROM last_ones
    ), summed AS (
        SELECT *,
            sum(counted) OVER day AS accumulated,
            sum(counted * price) OVER day AS dollars,
            first_value(CASE WHEN is_regular THEN open END IGNORE NULLS) OVER day AS official_open
        FROM priced
        WINDOW day AS (PARTITION BY id ORDER BY window_start ROWS UNBOUNDED PRECEDING)
    )
    SELECT
        window_start + 60000000000 AS arrival_ns, id AS symbol_id, window_start AS start_ns,
        window_start + 60000000000 AS end_ns, open, high, low, close, volume,
        accumulated AS accumulated_volume,
        coalesce(dollars / nullif(accumulated, 0), 'nan'::DOUBLE) AS day_vwap,
        coalesce(official_open, 'nan'::DOUBLE) AS official_open,
        coalesce(vwap, 'nan'::DOUBLE) AS vwap,
        coalesce(volume / nullif(transactions, 0), 'nan'::DOUBLE) AS average_size
    FROM summed ORDER BY arrival_ns, symbol_id
"""


def read(path: Path, columns: str) -> str:
    """The table `raw`, and the rows that could not be read in reject_errors. Parameter: the columns' types."""
    name = str(path).replace("'", "''")
    return f"""
        CREATE TABLE raw AS SELECT (row_number() OVER () - 1)::BIGINT AS row, {columns}
        FROM read_csv('{name}', header = true, auto_detect = false, delim = ',', quote = '"', escape = '"',
            columns = ?, null_padding = true, store_rejects = true, rejects_limit = 0)
    """


def day_number(date: datetime.date) -> int:
    """Days since 1970, as day_of() counts them."""
    return (date - datetime.date(1970, 1, 1)).days


def day_of(time: str) -> str:
    """The New York trading day of a column of ns: 04:00 to 20:00 there are in it, in summer and in winter."""
    return f"(({time} // 1000000000 - 18000) // 86400)"


def most_frequent_day(time: str) -> str:
    return f"SELECT mode({day_of(time)}) FROM raw WHERE {time} IS NOT NULL"


def judge(kind: Kind, day: int) -> str:
    """Each row with the reason to set it aside, NULL for none."""
    if kind == TRADES:
        return f"""
            SELECT raw.row, CASE
                WHEN ticker IS NULL OR price IS NULL OR size IS NULL OR sip_timestamp IS NULL THEN 'missing_value'
                WHEN correction IN {NOT_COUNTED} THEN 'correction'
                WHEN mask IS NULL THEN 'conditions'
                WHEN {day_of("sip_timestamp")} <> {day} THEN 'other_day'
            END AS reason
            FROM raw JOIN masks ON raw.conditions IS NOT DISTINCT FROM masks.conditions
        """
    return f"""
        SELECT row, CASE
            WHEN coalesce(ticker, '') = '' OR volume IS NULL OR open IS NULL OR close IS NULL OR high IS NULL
                OR low IS NULL OR window_start IS NULL THEN 'missing_value'
            WHEN {day_of("window_start")} <> {day} THEN 'other_day'
        END AS reason
        FROM raw
    """


def trades(arrived: bool) -> str:
    """The trades in the order in which they are fed: as they stand when they arrived so, else by time.

    A trade without an id has key 0 and is no one's duplicate.
    """
    arrival, order = ("sip_timestamp", "sip_timestamp, symbols.id, sequence_number, row")
    if arrived:
        arrival, order = ("max(sip_timestamp) OVER (ORDER BY row ROWS UNBOUNDED PRECEDING)", "row")
    return f"""
        SELECT {arrival} AS arrival_ns, symbols.id AS symbol_id, sip_timestamp AS time_ns, price, size,
            masks.mask AS conditions,
            CASE WHEN raw.id IS NULL THEN 0 ELSE greatest(hash(exchange, trf_id, raw.id), 1) END::UBIGINT AS trade_key
        FROM raw JOIN kept USING (row) JOIN symbols USING (ticker)
            JOIN masks ON raw.conditions IS NOT DISTINCT FROM masks.conditions
        ORDER BY {order}
    """
