"""Brings the tables up to date: the files of migrations/, each applied once, in the order of their names.

Ours, where a migration library needs a second driver (psycopg) and leaves its lock behind when it is killed. What was
applied is noted in the table of yoyo-migrations, which applied them in earlier versions.
"""

import asyncio
import hashlib
import importlib.util
from pathlib import Path
from typing import Final

import asyncpg

from services.kit.runtime.errors import StartError
from services.kit.runtime.packaged import MIGRATIONS
from services.kit.runtime.redaction import reason_of, without_passwords
from services.kit.stores.database import DATABASE_ERRORS

# Any number that nobody else locks in this database.
LOCK: Final = 7_208_115_306
CREATE_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS _yoyo_migration (
        migration_hash VARCHAR(64) PRIMARY KEY, migration_id VARCHAR(255), applied_at_utc TIMESTAMP
    )
"""
NOTE_APPLIED: Final = "INSERT INTO _yoyo_migration VALUES ($1, $2, now() AT TIME ZONE 'UTC')"


async def migrate(url: str, up_to: str | None = None) -> list[str]:
    """Applies what is not applied yet, up to the migration `up_to` where it is given; returns the names.

    Several processes may do so at once. Each migration is one transaction. Raises StartError when the migrations are
    not installed, nothing answers at the URL, or one of them fails.
    """
    if not url:
        raise StartError("expected TRADEUL_DATABASE_URL to be set, was empty")
    folder = MIGRATIONS.path()
    files = sorted([*folder.glob("*.sql"), *folder.glob("*.py")], key=lambda file: file.stem)
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await _apply_pending(connection, [file for file in files if up_to is None or file.stem <= up_to])
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise StartError(f"database at {without_passwords(url)}: {reason_of(error)}") from error


async def _apply_pending(connection: asyncpg.Connection, files: list[Path]) -> list[str]:
    # Until the connection ends.
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    await connection.execute(CREATE_TABLE)
    applied = {row[0] for row in await connection.fetch("SELECT migration_id FROM _yoyo_migration")}
    pending = [file for file in files if file.stem not in applied]
    for file in pending:
        try:
            async with connection.transaction():
                await _apply(connection, file)
                name_hash = hashlib.sha256(file.stem.encode()).hexdigest()
                await connection.execute(NOTE_APPLIED, name_hash, file.stem)
        except DATABASE_ERRORS as error:
            raise StartError(f"migration {file.stem}: {reason_of(error)}") from error
    return [file.stem for file in pending]


async def _apply(connection: asyncpg.Connection, file: Path) -> None:
    """Runs a file of SQL, or a Python file's `async def apply(connection)`."""
    if file.suffix == ".sql":
        await connection.execute(await asyncio.to_thread(file.read_text, encoding="utf-8"))
        return
    spec = importlib.util.spec_from_file_location(f"migration_{file.stem}", file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    await module.apply(connection)
