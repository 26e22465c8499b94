"""Reads a flat file of bars: gzip is checked and unpacked, DuckDB parses, unusable rows are reported by line.

Columns are found by the header's names. A file that is broken, that lacks a column or that ends
long before the day did is set aside as a whole: no part of it is returned.
"""

import csv
import datetime
import gzip
import math
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import duckdb

from fastcore.feed_elements import SYMBOL
from services.historical.core import Problem
from services.historical.slots import DayGrid, SymbolSlots
from services.kit.runtime.clock import NS_PER_MINUTE, new_york_date, ns_of
from services.kit.runtime.redaction import reason_of
from services.kit.stores.column_chunks import column_chunks
from services.market.calendar import TradingDay
from services.market.daily_bars import PRICE_LIMIT, VOLUME_LIMIT
from services.market.dates import day_bounds
from services.market.flat_files import BAR_COLUMNS
from services.market.slot_days import UNKNOWN_TRADES

CHUNK_BYTES: Final = 1024 * 1024
THREADS: Final = 2
MEMORY: Final = "400MB"
# So many problems of a file are reported by line; all are counted.
MAX_PROBLEMS: Final = 100
# A file of so many symbols has bars up to the close, or it was written before.
MARKET_SYMBOLS: Final = 1000
QUIET_MINUTES: Final = 10

_GOOD: Final = f"""
    regexp_full_match(ticker, '{SYMBOL.pattern}')
    AND low > 0 AND low <= open AND low <= close AND open <= high AND close <= high AND high < {PRICE_LIMIT}
    AND volume >= 0 AND volume < {VOLUME_LIMIT}
    AND (transactions IS NULL OR transactions BETWEEN 0 AND {UNKNOWN_TRADES - 1})
"""


# True if a bar that starts then (ns since 1970 UTC) is of the day.
InDay = Callable[[int], bool]


class BrokenFile(Exception):
    """The file cannot be used. `line` is where it is broken, 0 for the file as a whole."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Result(NamedTuple):
    """The outcome of a file: counts of rows used and set aside, and the first problems."""

    rows: int
    set_aside: int
    problems: list[Problem]


class DailyBar(NamedTuple):
    """A row of daily_ohlc but its vwap, which these files do not have."""

    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int | None


NO_BARS: Final = "expected bars of a trading day, were none"


def read_minutes(path: Path, place: str, day: TradingDay) -> tuple[list[SymbolSlots], Result]:
    """The slots of a day of minute bars; raises BrokenFile, OSError."""
    end = (day.post_market_end_ns - day.pre_market_start_ns) // NS_PER_MINUTE
    minute = f"(window_start - {day.pre_market_start_ns}) // {NS_PER_MINUTE}"
    in_day = f"window_start >= {day.pre_market_start_ns} AND {minute} < {end}"
    with _parsed(path) as (database, plain):
        database.execute(f"CREATE TEMP VIEW good AS SELECT * FROM bars WHERE {_GOOD} AND {in_day}")
        _check_day(database, day.date)
        symbols, newest = _symbols(database)
        close = (day.market_close_ns - day.pre_market_start_ns) // NS_PER_MINUTE
        if len(symbols) >= MARKET_SYMBOLS and newest is not None:
            last = (newest - day.pre_market_start_ns) // NS_PER_MINUTE
            if last < close - QUIET_MINUTES:
                raise BrokenFile(0, f"expected bars up to the close, minute {close}, the last is of minute {last}")
        # Codes in place of names: a string for each row would be millions of objects.
        database.execute(
            "CREATE TEMP TABLE codes AS SELECT ticker, row_number() OVER (ORDER BY ticker) - 1 AS code"
            " FROM (SELECT DISTINCT ticker FROM good)"
        )
        grid, rows = DayGrid(len(symbols)), 0
        query = (
            f"SELECT code, {minute} AS minute, volume, coalesce(transactions, {UNKNOWN_TRADES})::UINTEGER AS trades"
            " FROM (SELECT *, rowid AS place FROM bars) JOIN codes USING (ticker)"
            f" WHERE {_GOOD} AND {in_day} ORDER BY place"
        )
        for columns in column_chunks(database, query):
            grid.add(columns["code"], columns["minute"], columns["volume"], columns["trades"])
            rows += len(columns["code"])
        if not rows:
            raise BrokenFile(0, NO_BARS)
        return grid.slots(symbols), _result(database, plain, place, rows, _in_day(day, int(end)))


def read_days(path: Path, place: str, date: datetime.date) -> tuple[list[DailyBar], Result]:
    """A day's bars, one a symbol: of a repeated one the last; raises BrokenFile, OSError."""
    first, end = map(ns_of, day_bounds(date))
    with _parsed(path) as (database, plain):
        _check_day(database, date)
        rows = database.execute(
            f"SELECT ticker, open, high, low, close, volume, transactions FROM bars"
            f" WHERE {_GOOD} AND window_start >= {first} AND window_start < {end} ORDER BY rowid"
        ).fetchall()
        if not rows:
            raise BrokenFile(0, NO_BARS)
        bars = {row[0]: DailyBar(*row) for row in rows}
        return list(bars.values()), _result(database, plain, place, len(rows), lambda start: first <= start < end)


def _check_day(database: duckdb.DuckDBPyConnection, date: datetime.date) -> None:
    """A file whose rows are another day's was given this day's name; single ones are set aside."""
    first, end = map(ns_of, day_bounds(date))
    found = database.execute(
        f"SELECT count(*), count(*) FILTER (window_start < {first} OR window_start >= {end}), median(window_start)"
        " FROM bars WHERE window_start IS NOT NULL"
    ).fetchone()
    assert found is not None
    rows, others, middle = found
    if 2 * others > rows:
        found_date = new_york_date(round(middle))
        raise BrokenFile(0, f"expected bars of {date}, {others} of {rows} are of another day ({found_date})")


def _symbols(database: duckdb.DuckDBPyConnection) -> tuple[list[str], int | None]:
    names = database.execute("SELECT DISTINCT ticker FROM good ORDER BY ticker").fetchall()
    newest = database.execute("SELECT max(window_start) FROM good").fetchone()
    return [name for (name,) in names], None if newest is None else newest[0]


@contextmanager
def _parsed(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A database with the file's well-formed rows in `bars`, and the file unpacked."""
    with tempfile.TemporaryDirectory(prefix="tradeul-") as directory:
        plain = path
        if path.suffix == ".gz":
            plain = Path(directory) / "bars.csv"
            # DuckDB would not look at the checksum.
            with plain.open("wb") as unpacked:
                _unpack(path, unpacked)
        _check_quotes(plain)
        header = _header(plain)
        if missing := [name for name in BAR_COLUMNS if name not in header]:
            raise BrokenFile(1, f"expected a header with {', '.join(BAR_COLUMNS)}, has no {', '.join(missing)}")
        kinds = {name: BAR_COLUMNS.get(name, "VARCHAR") for name in header}
        config: dict[str, Any] = {"threads": str(THREADS), "memory_limit": MEMORY, "temp_directory": directory}
        with duckdb.connect(config=config) as database:
            try:
                database.execute(
                    f"CREATE TEMP TABLE bars AS SELECT {', '.join(BAR_COLUMNS)} FROM read_csv(?, columns = {kinds!r},"
                    " header = true, auto_detect = false, delim = ',', quote = '\"', store_rejects = true)",
                    [str(plain)],
                )
            except duckdb.Error as error:
                raise BrokenFile(0, f"expected CSV, {reason_of(error)}") from error
            try:
                yield database, plain
            except (duckdb.Error, csv.Error, ValueError) as error:
                # An unforeseen error is this file's alone: the others are read.
                raise BrokenFile(0, f"cannot be read: {reason_of(error)}") from error


def _check_quotes(plain: Path) -> None:
    """A quote that its line does not close would take in all that follows: no field goes over several lines."""
    with plain.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if b'"' in chunk:
                break
        else:
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.count(b'"') % 2:
                raise BrokenFile(number, "expected a closing quote on the line, was none")


def _unpack(path: Path, unpacked: IO[bytes]) -> None:
    lines = 0
    try:
        with gzip.open(path, "rb") as packed:
            while chunk := packed.read(CHUNK_BYTES):
                lines += chunk.count(b"\n")
                unpacked.write(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenFile(lines + 1, f"broken gzip: {reason_of(error)}") from error


def _header(plain: Path) -> list[str]:
    with plain.open("rb") as file:
        line = file.readline(CHUNK_BYTES)
    try:
        return next(csv.reader([line.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BrokenFile(1, f"expected a header, {reason_of(error)}") from error


def _result(database: duckdb.DuckDBPyConnection, plain: Path, place: str, rows: int, in_day: InDay) -> Result:
    """The problems: malformed rows as DuckDB found them, unusable ones by reading the file again."""
    rejected = database.execute(
        "SELECT line, any_value(error_type || coalesce(' ' || column_name, ''))"
        " FROM reject_errors GROUP BY 1 ORDER BY 1"
    ).fetchall()
    counted = database.execute("SELECT count(*) FROM bars").fetchone()
    assert counted is not None
    unusable = int(counted[0]) - rows
    problems = [Problem(place, int(line), f"malformed: {reason.lower()}") for line, reason in rejected[:MAX_PROBLEMS]]
    if unusable:
        problems += _unusable(plain, place, in_day, {int(line) for line, _ in rejected})
        problems.sort(key=lambda problem: problem.line)
    return Result(rows, len(rejected) + unusable, problems[:MAX_PROBLEMS])


def _in_day(day: TradingDay, end: int) -> InDay:
    return lambda start: bool(0 <= (start - day.pre_market_start_ns) // NS_PER_MINUTE < end)


def _unusable(plain: Path, place: str, in_day: InDay, rejected: Collection[int]) -> list[Problem]:
    """The first rows that are well-formed and still no bars; `rejected` are the lines of the others."""
    found: list[Problem] = []
    with plain.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        columns = [header.index(name) for name in BAR_COLUMNS]
        for row in reader:
            if len(row) != len(header) or reader.line_num in rejected:
                continue
            if (reason := _why_not([row[column] for column in columns], in_day)) is not None:
                found.append(Problem(place, reader.line_num, reason))
                if len(found) >= MAX_PROBLEMS:
                    break
    return found


def _why_not(row: list[str], in_day: InDay) -> str | None:
    ticker, *numbers, start, trades = row
    try:
        volume, open_, close, high, low = (float(number or "nan") for number in numbers)
        is_inside, count = bool(start) and in_day(int(start)), int(trades or 0)
    except ValueError as error:
        return f"malformed: {reason_of(error)}"
    if SYMBOL.fullmatch(ticker) is None:
        return f"symbol: {ticker[:20]!r}"
    if any(math.isnan(number) for number in (open_, close, high, low)):
        return f"prices: expected numbers, were {open_}, {high}, {low}, {close}"
    if not (0 < low <= min(open_, close) <= max(open_, close) <= high < PRICE_LIMIT):
        return f"prices: expected 0 < low <= open, close <= high, were {open_}, {high}, {low}, {close}"
    if not 0 <= volume < VOLUME_LIMIT or math.isnan(volume):
        return f"volume: {volume}"
    if not is_inside:
        return f"time outside of the day: {start}"
    return f"transactions: {count}" if not 0 <= count < UNKNOWN_TRADES else None
