"""The line to a PostgreSQL on a unix socket, which a test can cut: what is sent then is answered by nothing."""

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.first_to_end import first_to_end

SOCKET = ".s.PGSQL.5432"


class StoreLine:
    """`url` is that of the database over the line. `cut` it, and `mend` it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = re.sub(r"host=.*", f"host={folder}", url)
        self._mended = asyncio.Event()
        self._mended.set()

    def cut(self) -> None:
        self._mended.clear()

    def mend(self) -> None:
        self._mended.set()

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._mended.wait()
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def store_line(url: str) -> AsyncIterator[StoreLine]:
    """A line to the database at `url`."""
    found = re.search(r"host=([^&]+)", url)
    assert found is not None, url
    target = Path(found[1]) / SOCKET
    tasks: set[asyncio.Task[None]] = set()
    # A socket's path has about 100 characters.
    with tempfile.TemporaryDirectory(prefix="line") as folder:
        line = StoreLine(url, Path(folder))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with contextlib.suppress(OSError), contextlib.closing(writer):
                store_reader, store_writer = await asyncio.open_unix_connection(str(target))
                with contextlib.closing(store_writer):
                    await first_to_end(line.copy(reader, store_writer), line.copy(store_reader, writer))
            tasks.discard(task)

        server = await asyncio.start_unix_server(serve, str(Path(folder) / SOCKET))
        try:
            yield line
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
