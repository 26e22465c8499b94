"""Redis and PostgreSQL for tests: the embedded ones, as the mesh starts them, with its tables.

    async with running_stores(tmp_path) as stores:
        settings = Settings.load(stores.environment())

In a test module of several tests start them once:

    @pytest.fixture(scope="module")
    def stores(tmp_path_factory):
        with module_stores(tmp_path_factory.mktemp("stores")) as stores:
            yield stores
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.cli.local.embedded import postgres_spec, postgres_url, redis_spec, redis_url
from services.cli.local.supervisor import Supervisor
from services.kit.stores.migrate import migrate


@dataclass(frozen=True)
class Stores:
    """Where the running stores are."""

    redis_url: str
    database_url: str

    def environment(self) -> dict[str, str]:
        """As settings: TRADEUL_REDIS_URL and TRADEUL_DATABASE_URL."""
        return {"TRADEUL_REDIS_URL": self.redis_url, "TRADEUL_DATABASE_URL": self.database_url}


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


@contextmanager
def module_stores(data_dir: Path) -> Iterator[Stores]:
    """The same for a fixture that outlives a test's event loop."""
    with asyncio.Runner() as runner:
        context = running_stores(data_dir)
        stores = runner.run(context.__aenter__())
        try:
            yield stores
        finally:
            runner.run(context.__aexit__(None, None, None))
