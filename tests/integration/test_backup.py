"""The component backup's scripts, as its Pods run them, on a real PostgreSQL (and TimescaleDB, where there is one)."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from services.cli.local.embedded import postgres_programs
from services.kit.stores.database import DATABASE_AWAY
from services.kit.stores.migrate import migrate
from tests.support.manifests import K8S
from tests.support.stores import Stores, database_server, fresh_database, module_stores

SCRIPTS = K8S / "components" / "backup"
Contents = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture(params=["plain", "timescale"])
async def url(request: pytest.FixtureRequest, stores: Stores) -> AsyncIterator[str]:
    async with fresh_database(database_server(request.param, stores), ("_restored", "_before_restore")) as fresh:
        yield fresh


class Backups:
    """A folder of dumps, and the scripts run on it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder / "backup"
        self.folder.mkdir()
        url_file = folder / "url"
        url_file.write_text(url)
        self._environment = {
            "PATH": f"{postgres_programs()}:{os.environ['PATH']}",
            "TRADEUL_DATABASE_URL_FILE": str(url_file),
            "BACKUP_DIRECTORY": str(self.folder),
            "BACKUP_KEEP": "2",
        }

    async def run(self, script: str, **environment: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            "sh", str(SCRIPTS / script), env={**self._environment, **environment},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    def dumps(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def backups(url: str, tmp_path: Path) -> Backups:
    return Backups(url, tmp_path)


async def write_rows(url: str, symbol: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO ticker_metadata (symbol, sector) VALUES ($1, 'Technology')", symbol)
        await connection.execute("UPDATE scanner_filters SET enabled = NOT enabled")
        await connection.execute(
            "INSERT INTO aggregates_1min (symbol, time, open, high, low, close, volume, vwap, trades)"
            " SELECT $1, TIMESTAMPTZ '2026-03-02 14:30Z' + i * interval '1 day', 1, 2, 1, i,"
            " 100, 1.5, 3 FROM generate_series(1, 20) i",
            symbol,
        )
    finally:
        await connection.close()


async def contents(url: str) -> Contents:
    """Every row of every table of ours."""
    connection = await asyncpg.connect(url)
    try:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        names = sorted(row[0] for row in await connection.fetch(query))
        return {
            name: [tuple(row) for row in await connection.fetch(f'SELECT * FROM "{name}" t ORDER BY t')]
            for name in names
        }
    finally:
        await connection.close()


async def test_a_restored_dump_has_every_row_and_keeps_what_it_replaces(url: str, backups: Backups) -> None:
    await write_rows(url, "AAPL")
    as_saved = await contents(url)
    assert (await backups.run("backup.sh"))[0] == 0
    (file,) = backups.dumps()
    await write_rows(url, "LATER")
    as_replaced = await contents(url)
    assert as_replaced != as_saved
    # A service that is connected meanwhile is cut off, and finds the restored one when it connects again.
    service = await asyncpg.connect(url)
    status, output, errors = await backups.run("restore.sh")
    assert status == 0, errors
    assert file in output
    with pytest.raises(DATABASE_AWAY):
        await service.fetchval("SELECT 1")
    assert await contents(url) == as_saved
    # The next version's migrations find what they expect, and tables take rows in partitions as before.
    assert await migrate(url) == []
    await write_rows(url, "MSFT")
    before = urlunsplit(urlsplit(url)._replace(path=urlsplit(url).path + "_before_restore"))
    connection = await asyncpg.connect(url)
    await connection.execute(f"ALTER DATABASE {urlsplit(before).path[1:]} ALLOW_CONNECTIONS true")
    await connection.close()
    assert await contents(before) == as_replaced


async def test_a_dump_that_is_cut_off_changes_nothing(url: str, backups: Backups) -> None:
    await write_rows(url, "AAPL")
    assert (await backups.run("backup.sh"))[0] == 0
    (file,) = backups.dumps()
    whole = (backups.folder / file).read_bytes()
    (backups.folder / file).write_bytes(whole[: len(whole) * 3 // 4])
    await write_rows(url, "LATER")
    now = await contents(url)
    status, _, errors = await backups.run("restore.sh", BACKUP_FILE=file)
    assert status != 0 and "pg_restore" in errors
    assert await contents(url) == now


async def test_without_a_dump_the_restore_says_what_is_missing(url: str, backups: Backups) -> None:
    status, _, errors = await backups.run("restore.sh")
    assert status == 1
    assert errors == f"expected a dump in {backups.folder}, was none\n"
    status, _, errors = await backups.run("restore.sh", BACKUP_FILE="tradeul-2020.dump")
    assert status == 1 and "was tradeul-2020.dump" in errors


async def test_the_newest_dumps_are_kept_once_a_new_one_is_whole(url: str, backups: Backups) -> None:
    for day in ("01", "02", "03"):
        (backups.folder / f"tradeul-202603{day}T082000Z.dump").write_bytes(b"earlier")
    broken = url.replace("postgresql://", "postgresql://nobody-of-that-name:x@", 1).replace("x@tradeul@", "x@", 1)
    (backups.folder.parent / "url").write_text(broken)
    assert (await backups.run("backup.sh"))[0] != 0
    assert len([name for name in backups.dumps() if not name.startswith(".")]) == 3
    (backups.folder.parent / "url").write_text(url)
    status, output, errors = await backups.run("backup.sh")
    assert status == 0, errors
    kept = backups.dumps()
    assert len(kept) == 2 and kept[0] == "tradeul-20260303T082000Z.dump" and kept[1] in output
