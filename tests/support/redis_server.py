"""A Redis of a test's own, to be killed and started again: with what it had, or empty."""

import asyncio
import dataclasses
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from services.cli.local.embedded import redis_spec, redis_url
from services.cli.local.process import ChildProcess
from services.kit.stores.redis import make_client

START_SECONDS = 60


class RedisServer:
    """`async with RedisServer(tmp_path) as server`: it answers; `server.redis` is a client of it.

    `options` are further ones of the server's command line.
    """

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.url = redis_url(data_dir)
        spec = redis_spec(data_dir)
        self._spec = dataclasses.replace(spec, command=(*spec.command, *options))
        self._process: ChildProcess | None = None
        # Its types say bytes or text, and it is text.
        self.redis: Any = make_client(self.url)

    async def start(self) -> None:
        self._process = await ChildProcess.start(self._spec, lambda _, __: None)
        async with asyncio.timeout(START_SECONDS):
            while not await self._spec.ready():
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """As a crash does: nothing is saved but what was before."""
        assert self._process is not None, "start() first"
        self._process.kill()
        await self._process.wait()
        # Its connections are broken.
        await self.redis.connection_pool.disconnect()

    def send(self, how: signal.Signals) -> None:
        """Sends a signal to its process."""
        assert self._process is not None, "start() first"
        os.kill(self._process.pid, how)

    async def restart(self) -> None:
        """It comes back at once, without what it had."""
        await self.kill()
        await self.start()

    async def empty(self) -> None:
        await self.redis.flushall()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.redis.aclose()
        assert self._process is not None, "start() first"
        await self._process.stop()
