"""Brings a flat file into the order in which its events are fed, once: see day_file.

The vendor's files are sorted by ticker: theirs are sorted by time, on disk where
memory does not suffice (DuckDB). A recorded file is in order of arrival already,
late prints included, and stays so.
"""

import datetime
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb
import msgspec

from fastcore.columns import condition_mask
from services.kit.runtime.clock import NEW_YORK, ns_of
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.column_chunks import column_chunks
from services.market.flat_files import date_in_name
from services.replay import flat_file, queries
from services.replay.day_file import COLUMNS, MANIFEST, VERSION, DayFile, Manifest, read_manifest
from services.replay.flat_file import TRADES, BadRow, Header

log = get_logger(__name__)

MEMORY: Final = "600MB"
# Of the rows set aside so many are shown.
EXAMPLES: Final = 20
# A file is in order of arrival when hardly a row is so much older than one before it.
LATE_SHARE: Final = 0.01
LATE_NS: Final = 60 * 10**9
PRE_MARKET_START: Final = datetime.time(4)
MARKET_OPEN: Final = datetime.time(9, 30)


def prepare(source: Path, cache: Path, on_step: Callable[[str], None] = lambda step: None) -> DayFile:
    """The day of a flat file, from `cache` when it was prepared before; takes about a minute for 30 million trades.

    Raises StartError for a file that cannot be used at all; single rows that cannot
    be read are set aside, logged and counted in the manifest.
    """
    directory = cache / _key(source)
    try:
        read_manifest(directory)
    except StartError:
        _make(source, directory, on_step)
    return DayFile(directory)


def prepared(source: Path, cache: Path) -> DayFile | None:
    """The day of a flat file, if it was prepared before; else None. Raises StartError when there is no file."""
    directory = cache / _key(source)
    try:
        return DayFile(directory)
    except StartError:
        return None


def _key(source: Path) -> str:
    """Differs when the file does."""
    try:
        state = source.stat()
    except OSError as error:
        raise StartError(f"{source}: {error.strerror or error}") from error
    return f"{_place(source)}-{_digest(f'{VERSION} {state.st_size} {state.st_mtime_ns}')}"


def _place(source: Path) -> str:
    """The same for whatever stands at that path."""
    return f"{source.name.split('.')[0]}-{_digest(str(source.resolve()))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _make(source: Path, directory: Path, on_step: Callable[[str], None]) -> None:
    """By one rename, so that the directory is whole or not there."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", suffix=".new", dir=directory.parent))
    try:
        with duckdb.connect(str(fresh / "work.db")) as database:
            database.execute(f"SET memory_limit = '{MEMORY}'")
            database.execute(f"SET temp_directory = '{_quoted(fresh / 'spill')}'")
            manifest = _Preparation(database, source, fresh, on_step).run()
        for path in (fresh / "work.db", fresh / "work.db.wal", fresh / "salvaged.csv"):
            path.unlink(missing_ok=True)
        shutil.rmtree(fresh / "spill", ignore_errors=True)
        (fresh / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        for outdated in directory.parent.glob(f"{_place(source)}-*[!w]"):
            shutil.rmtree(outdated, ignore_errors=True)
        os.replace(fresh, directory)
    except duckdb.Error as error:
        raise StartError(f"{source}: {reason_of(error)}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


class _Preparation:
    def __init__(
        self, database: duckdb.DuckDBPyConnection, source: Path, directory: Path, on_step: Callable[[str], None]
    ) -> None:
        self._database = database
        self._source = source
        self._directory = directory
        self._on_step = on_step
        self._set_aside: Counter[str] = Counter()
        self._bad: list[BadRow] = []
        self._refused_lines: list[int] = []

    def run(self) -> Manifest:
        header = flat_file.read_header(self._source)
        self._on_step("reading")
        self._read(header)
        date = date_in_name(self._source.name) or self._most_frequent_date(header)
        self._take_conditions(header)
        self._set_rows_aside(header, date)
        self._execute(queries.SYMBOLS)
        symbols = [str(row[0]) for row in self._execute("SELECT ticker FROM symbols ORDER BY id").fetchall()]
        arrived = header.kind == TRADES and self._is_in_order_of_arrival()
        self._on_step("bringing into order")
        rows = self._write(header, date, arrived)
        self._log_bad_rows()
        return Manifest(
            version=VERSION,
            source=self._source.name,
            kind=header.kind,
            date=date,
            rows=rows,
            in_order_of_arrival=arrived,
            symbols=symbols,
            set_aside=dict(self._set_aside),
            examples=[f"{self._source.name}:{bad.line}: {bad.detail}" for bad in self._bad[:EXAMPLES]],
        )

    def _execute(self, query: str, values: object = None) -> duckdb.DuckDBPyConnection:
        return self._database.execute(query, values)

    # --- reading

    def _read(self, header: Header) -> None:
        try:
            self._read_from(self._source, header)
        except duckdb.Error as error:
            # A file that breaks off is good up to there.
            if not flat_file.is_gzip(self._source):
                raise
            salvaged = self._directory / "salvaged.csv"
            why = flat_file.salvage(self._source, salvaged)
            if salvaged.stat().st_size == 0:
                raise StartError(f"{self._source}: {reason_of(error)}") from error
            self._read_from(salvaged, header)
            (rows,) = self._execute("SELECT count(*) FROM raw").fetchall()[0]
            line = rows + 2 + len(self._refused_lines)
            self._bad.append(BadRow(line, "broken_file", f"the file breaks off: {why}"))
            self._set_aside["broken_file"] += 1

    def _read_from(self, path: Path, header: Header) -> None:
        for table in ("raw", "reject_errors", "reject_scans"):
            self._execute(f"DROP TABLE IF EXISTS {table}")
        self._execute(queries.read(path, flat_file.select(header)), [flat_file.types(header)])
        refused = self._execute(queries.REFUSED).fetchall()
        self._refused_lines = [line for line, _, _ in refused]
        for line, column, message in refused:
            self._set_aside["unreadable"] += 1
            if len(self._bad) < EXAMPLES:
                self._bad.append(BadRow(line, "unreadable", f"{column}: {message}"))

    def _most_frequent_date(self, header: Header) -> datetime.date:
        time = "sip_timestamp" if header.kind == TRADES else "window_start"
        (days,) = self._execute(queries.most_frequent_day(time)).fetchall()[0]
        if days is None:
            raise StartError(f"{self._source}: expected rows with a {time}, had none")
        return datetime.date(1970, 1, 1) + datetime.timedelta(days=int(days))

    def _take_conditions(self, header: Header) -> None:
        """The mask of every list of conditions there is, NULL for what is none."""
        if header.kind != TRADES:
            return
        texts = [row[0] for row in self._execute("SELECT DISTINCT conditions FROM raw").fetchall()]
        self._execute("CREATE TABLE masks (conditions VARCHAR, mask UBIGINT)")
        self._database.executemany("INSERT INTO masks VALUES (?, ?)", [(text, conditions_of(text)) for text in texts])

    def _set_rows_aside(self, header: Header, date: datetime.date) -> None:
        query = queries.judge(header.kind, queries.day_number(date))
        counts = self._execute(f"SELECT reason, count(*) FROM ({query}) WHERE reason IS NOT NULL GROUP BY 1").fetchall()
        self._set_aside.update({reason: count for reason, count in counts})
        shown = f"SELECT row, reason FROM ({query}) WHERE reason IS NOT NULL AND reason <> 'correction'"
        found = self._execute(f"{shown} ORDER BY row LIMIT {EXAMPLES}").fetchall()
        lines = flat_file.lines_of([row for row, _ in found], self._refused_lines)
        for line, (_, reason) in zip(lines, found, strict=True):
            self._bad.append(BadRow(line, reason, queries.REASONS[reason]))
        self._bad.sort()
        self._execute(f"CREATE TABLE kept AS SELECT row FROM ({query}) WHERE reason IS NULL")

    # --- order

    def _is_in_order_of_arrival(self) -> bool:
        rows, late = self._execute(queries.LATE, [LATE_NS]).fetchall()[0]
        return bool(rows) and late <= LATE_SHARE * rows

    def _write(self, header: Header, date: datetime.date, arrived: bool) -> int:
        names = COLUMNS[header.kind]
        query, parameters = queries.trades(arrived), list[int]()
        if header.kind != TRADES:
            query, parameters = queries.BARS, [_ns(date, MARKET_OPEN), _ns(date, PRE_MARKET_START)]
        files = {name: (self._directory / f"{name}.bin").open("wb") for name in names}
        rows = 0
        try:
            for chunk in column_chunks(self._database, query, parameters):
                for name, kind in names.items():
                    chunk[name].astype(kind, copy=False).tofile(files[name])
                rows += len(chunk["symbol_id"])
                self._on_step(f"bringing into order: {rows:,} events")
        finally:
            for file in files.values():
                file.close()
        return rows

    def _log_bad_rows(self) -> None:
        for bad in self._bad[:EXAMPLES]:
            log.warning("row set aside", file=str(self._source), line=bad.line, reason=bad.reason, detail=bad.detail)
        if self._set_aside:
            log.warning("rows set aside", file=str(self._source), **self._set_aside)


def conditions_of(text: str | None) -> int | None:
    """The bits of a flat file's conditions, "12,37"; None when they are no numbers."""
    if text is None:
        return 0
    parts = text.strip("[]{} ").replace(",", " ").split()
    if not all(part.isdecimal() for part in parts):
        return None
    return condition_mask([int(part) for part in parts])


def _ns(date: datetime.date, time: datetime.time) -> int:
    return ns_of(datetime.datetime.combine(date, time, NEW_YORK))


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
