"""Records on disk that memory should not hold: a queue in a file of SQLite, which survives the process.

Records wait there while the database is away. Two scanners on one machine have a file each; a file that a scanner
left, because it was killed or because there were two, goes to the next one that starts.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

# Of one file: several hours of all lists of a day's most active time.
MAX_BYTES: Final = 1 << 30
# How many files there can be: one for each scanner of a machine.
MOST_FILES: Final = 16
# Errors of the disk: full, read-only, damaged, away.
SPOOL_ERRORS: Final = (sqlite3.Error, OSError)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records
    (number INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, minute INTEGER, data BLOB NOT NULL)
"""
_PUT: Final = "INSERT INTO records (session, data, minute) VALUES (?, ?, ?)"


class Record(NamedTuple):
    """An encoded ListDelta with entries; or, with `minute`, a RankedList as of that minute since 1970 UTC."""

    session: int
    data: bytes | memoryview
    minute: int | None = None


class Oldest(NamedTuple):
    """The oldest records, and the number of the last of them."""

    records: list[Record]
    last: int


class RecordSpool:
    """The records of one scanner, oldest first. Methods wait for the disk, and are called one at a time, by any thread.

    `max_bytes`: of the file. Methods raise SPOOL_ERRORS.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._database: sqlite3.Connection | None = None
        # As of the last call, for those that may not wait.
        self.count = 0

    def open_left(self) -> None:
        """Takes over what was left by scanners that are gone, if anything was; makes no file."""
        for path in sorted(self._directory.glob("*.records")):
            database = _locked(path)
            if database is None:
                continue
            if self._database is None:
                self._database = database
                continue
            rows = database.execute("SELECT session, data, minute FROM records ORDER BY number")
            with self._database:
                self._database.executemany(_PUT, rows)
            database.close()
            path.unlink()
        if self._database is not None and not self._count():
            self._discard()

    def put(self, records: Sequence[Record]) -> int:
        """Adds records, all or none; returns how many of the oldest it dropped to keep the file below its limit."""
        database = self._database = self._database or self._opened()
        with database:
            database.executemany(_PUT, records)
        dropped = 0
        while self._size(database) > self._max_bytes and self._count():
            # A tenth, so that it is not for each record.
            with database:
                most = max(1, self.count // 10)
                query = "DELETE FROM records WHERE number IN (SELECT number FROM records ORDER BY number LIMIT ?)"
                dropped += database.execute(query, (most,)).rowcount
        self._count()
        return dropped

    def oldest(self, most: int) -> Oldest:
        """Returns the oldest records, which stay until they are removed."""
        if self._database is None:
            return Oldest([], 0)
        query = "SELECT number, session, data, minute FROM records ORDER BY number LIMIT ?"
        rows = self._database.execute(query, (most,)).fetchall()
        return Oldest([Record(*row[1:]) for row in rows], rows[-1][0] if rows else 0)

    def remove(self, last: int) -> None:
        """Removes the records up to that number, and the file when it is empty."""
        assert self._database is not None, "it was read"
        with self._database:
            self._database.execute("DELETE FROM records WHERE number <= ?", (last,))
        if not self._count():
            self._discard()

    def _discard(self) -> None:
        assert self._database is not None, "open"
        ((_, _, path),) = self._database.execute("PRAGMA database_list").fetchall()
        self.close()
        Path(path).unlink(missing_ok=True)

    def close(self) -> None:
        """Lets another scanner have the file."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _opened(self) -> sqlite3.Connection:
        self._directory.mkdir(parents=True, exist_ok=True)
        for number in range(MOST_FILES):
            if (database := _locked(self._directory / f"{number}.records")) is not None:
                return database
        raise sqlite3.OperationalError(f"{self._directory} has {MOST_FILES} files, all in use")

    def _count(self) -> int:
        assert self._database is not None, "open"
        ((self.count,),) = self._database.execute("SELECT count(*) FROM records").fetchall()
        return self.count

    @staticmethod
    def _size(database: sqlite3.Connection) -> int:
        """Bytes that are in use; the file itself does not shrink before it is removed."""
        pages = "SELECT (page_count - freelist_count) * page_size"
        tables = "pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
        ((size,),) = database.execute(f"{pages} FROM {tables}").fetchall()
        return int(size)


def _locked(path: Path) -> sqlite3.Connection | None:
    """Returns the file's connection, which holds it for this process alone; None when another process holds it.

    A file that is damaged is set aside. Raises SPOOL_ERRORS.
    """
    database = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        path.chmod(0o600)
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        # A crash of the process loses nothing; one of the machine may lose the last records, as the journal's.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN EXCLUSIVE")
        database.execute(_SCHEMA)
        database.commit()
    except sqlite3.DatabaseError as error:
        database.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return None
        if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            aside = path.rename(path.with_suffix(".damaged"))
            log.error("scan results on disk cannot be read", error=reason_of(error), set_aside=str(aside))
            return _locked(path)
        raise
    return database
