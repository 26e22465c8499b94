"""A PostgreSQL of a test's own, to be killed in the middle of something and started again."""

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from services.cli.local.embedded import postgres_spec, postgres_url
from services.cli.local.process import ChildProcess
from services.kit.stores.database import open_pool
from services.kit.stores.migrate import migrate


class PostgresServer:
    """`async with PostgresServer(tmp_path) as server`: it answers at `server.url`, with the tables."""

    def __init__(self, data_dir: Path) -> None:
        self.url = postgres_url(data_dir)
        self._spec = postgres_spec(data_dir)
        self._process: ChildProcess | None = None

    async def start(self) -> None:
        self._process = await ChildProcess.start(self._spec, lambda _, __: None)
        pool = await open_pool(self.url, wait_seconds=60)
        await pool.close()

    def end_at_once(self) -> None:
        """Every connection is cut now; its data are as the last commits left them. Before start() wait for ended()."""
        assert self._process is not None, "start() first"
        # An immediate shutdown: to all that use it a crash.
        os.kill(self._process.pid, signal.SIGQUIT)

    async def ended(self) -> None:
        assert self._process is not None, "start() first"
        await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        await migrate(self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None, "start() first"
        await self._process.stop()
