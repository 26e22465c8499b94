"""Redis and PostgreSQL for tests: the embedded ones, as the mesh starts them, with its tables.

    async with running_stores(tmp_path) as stores:
        settings = Settings.load(stores.environment())

In a test module of several tests have them once. Their PostgreSQL is one for all such modules, each of which has a
database of its own; Redis, which starts at once, is the module's:

    @pytest.fixture(scope="module")
    def stores(tmp_path_factory):
        with module_stores(tmp_path_factory.mktemp("stores")) as stores:
            yield stores
"""

import asyncio
import atexit
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from services.cli.local.embedded import DATABASE, postgres_spec, postgres_url, redis_spec, redis_url
from services.cli.local.process import ProcessSpec
from services.cli.local.supervisor import Supervisor
from services.kit.stores.migrate import migrate

START_SECONDS = 60.0
# Names a server with TimescaleDB preloaded, and a role that may create databases: postgresql://user@host:port/postgres.
TIMESCALE_URL = "TRADEUL_TEST_TIMESCALE_URL"


@dataclass(frozen=True)
class Stores:
    """Where the running stores are."""

    redis_url: str
    database_url: str

    def environment(self) -> dict[str, str]:
        """As settings: TRADEUL_REDIS_URL and TRADEUL_DATABASE_URL."""
        return {"TRADEUL_REDIS_URL": self.redis_url, "TRADEUL_DATABASE_URL": self.database_url}

    def other_database(self, name: str) -> str:
        """The URL of another database of the same PostgreSQL."""
        return re.sub(r"/\w+\?", f"/{name}?", self.database_url)


@asynccontextmanager
async def running_stores(data_dir: Path) -> AsyncIterator[Stores]:
    """Both stores, their data below `data_dir`, migrated; stopped at the end."""
    supervisor = Supervisor([redis_spec(data_dir), postgres_spec(data_dir)], lambda name, line: None)
    try:
        await supervisor.start()
        stores = Stores(redis_url(data_dir), postgres_url(data_dir))
        await migrate(stores.database_url)
        yield stores
    finally:
        await supervisor.stop()


class SharedPostgres:
    """A PostgreSQL that lives until this process ends. Its databases are copies of one that was migrated once."""

    def __init__(self, data_dir: Path) -> None:
        spec = postgres_spec(data_dir)
        self._url = postgres_url(data_dir)
        self._databases = 0
        if spec.prepare is not None:
            spec.prepare()
        self._log = (data_dir / "postgres.log").open("wb")
        self._process = subprocess.Popen(
            spec.argv(), env=spec.environ(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        atexit.register(self._end, data_dir, spec.stop_signal)
        asyncio.run(self._begin(spec))

    async def new_database(self) -> str:
        """The URL of a database with the tables in it, and nothing else."""
        self._databases += 1
        name = f"module_{self._databases}"
        connection = await asyncpg.connect(self._url.replace(f"/{DATABASE}?", "/postgres?"))
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE}")
        finally:
            await connection.close()
        return self._url.replace(f"/{DATABASE}?", f"/{name}?")

    async def _begin(self, spec: ProcessSpec) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not await spec.ready():
                if self._process.poll() is not None:
                    raise RuntimeError(f"PostgreSQL ended with {self._process.returncode}, see {self._log.name}")
                await asyncio.sleep(0.05)
        await migrate(self._url)

    def _end(self, data_dir: Path, stop_signal: int) -> None:
        self._process.send_signal(stop_signal)
        self._process.wait()
        self._log.close()
        shutil.rmtree(data_dir, ignore_errors=True)


@functools.cache
def shared_postgres() -> SharedPostgres:
    return SharedPostgres(Path(tempfile.mkdtemp(prefix="tradeul-tests-")))


@contextmanager
def module_stores(data_dir: Path) -> Iterator[Stores]:
    """For a fixture that outlives a test's event loop: an empty Redis, and a new database with the tables."""
    postgres = shared_postgres()
    with asyncio.Runner() as runner:
        supervisor = Supervisor([redis_spec(data_dir)], lambda name, line: None)
        try:
            runner.run(supervisor.start())
            yield Stores(redis_url(data_dir), runner.run(postgres.new_database()))
        finally:
            runner.run(supervisor.stop())


def database_server(kind: str, stores: Stores) -> str:
    """The URL of the server of a kind, plain or timescale; leaves the test out where there is no TimescaleDB."""
    server = stores.database_url if kind == "plain" else os.environ.get(TIMESCALE_URL, "")
    if not server:
        pytest.skip(f"{TIMESCALE_URL} is not set: TimescaleDB is not tested")
    return server


@asynccontextmanager
async def fresh_database(server: str, also_dropped: Sequence[str] = ()) -> AsyncIterator[str]:
    """The URL of a database of its own on a server, with the tables; dropped at the end.

    `also_dropped`: suffixes of the databases that a test makes beside it.
    """
    name = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        fresh = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        await migrate(fresh)
        yield fresh
    finally:
        for suffix in ("", *also_dropped):
            await connection.execute(f"DROP DATABASE IF EXISTS {name}{suffix} WITH (FORCE)")
        await connection.close()
