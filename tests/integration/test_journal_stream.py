"""The stream's tail in a real Redis: no frame twice, none missing, bounded; Redis may go and come back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tradeul.v1 import journal_pb2

from fastcore.wire import wrap
from services.data_ingest.store_health import StoreState
from services.data_ingest.stream import redis_stream as journal_stream
from services.data_ingest.stream.redis_stream import KEY, JournalStream
from services.kit.rpc.ring import Ring
from services.kit.stores.redis import make_client
from tests.support.redis_server import RedisServer

EPOCH = 1_790_000_000
WAIT_SECONDS = 60
FRAMES = journal_pb2.JournalEntry.DESCRIPTOR.fields_by_name["frames"].number


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as running:
        yield running


class Running:
    """A ring of frames that are all of one size, handed over to Redis."""

    def __init__(self, server: RedisServer, epoch: int = EPOCH, size: int = 0, after: int = 0) -> None:
        self.ring = Ring(epoch, 10_000, 100_000_000, after)
        self.size = size
        self._client: Any = make_client(server.url, decode_responses=False)
        self.state = StoreState("Redis")
        stream = JournalStream(self._client, lambda: self.ring, state=self.state)
        self._task = asyncio.create_task(stream.run())

    async def __aenter__(self) -> "Running":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        (ended,) = await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()
        assert isinstance(ended, asyncio.CancelledError)

    def frame(self) -> None:
        sequence = self.ring.newest + 1
        frame = journal_pb2.JournalEntry().frames.add(position={"epoch": self.ring.epoch, "sequence": sequence})
        frame.symbols.symbols.append("X" * self.size)
        self.ring.append(wrap(FRAMES, frame.SerializeToString()))

    async def entries(self, newest: int) -> list[tuple[str, dict[str, str], journal_pb2.JournalEntry]]:
        """All that Redis has once it has the frame `newest`."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                found = await self._client.xrange(KEY)
                if found and found[-1][0].decode() == f"{self.ring.epoch}-{newest}":
                    break
                await asyncio.sleep(0.02)
        entries = []
        for entry, fields in found:
            payload = journal_pb2.JournalEntry.FromString(fields.pop(b"payload"))
            entries.append((entry.decode(), {name.decode(): value.decode() for name, value in fields.items()}, payload))
        return entries


def sequences(entries: list[tuple[str, dict[str, str], journal_pb2.JournalEntry]]) -> list[int]:
    """Of all frames; that what an entry says of itself is true."""
    found = []
    for entry, fields, payload in entries:
        assert fields.keys() == {"type", "epoch", "first", "sequence"} and fields["type"] == "frames"
        assert entry == f"{fields['epoch']}-{fields['sequence']}"
        inside = [frame.position.sequence for frame in payload.frames]
        assert inside == list(range(int(fields["first"]), int(fields["sequence"]) + 1))
        found += inside
    return found


async def test_every_frame_once(server: RedisServer) -> None:
    async with Running(server) as running:
        for _ in range(60):
            for _ in range(5):
                running.frame()
            await asyncio.sleep(0.005)
        entries = await running.entries(300)
    assert sequences(entries) == list(range(1, 301))
    # Handed over now and then, not one by one.
    assert len(entries) <= 61


async def test_a_process_that_goes_on_goes_on_here_too(server: RedisServer) -> None:
    async with Running(server) as running:
        for _ in range(10):
            running.frame()
        await running.entries(10)
    # It still knows the frames since 6.
    async with Running(server, after=5) as running:
        for _ in range(12):
            running.frame()
        assert sequences(await running.entries(17)) == list(range(1, 18))
    async with Running(server, epoch=EPOCH + 5) as running:
        running.frame()
        entries = await running.entries(1)
        assert [fields["epoch"] for _, fields, _ in entries][-2:] == [str(EPOCH), str(EPOCH + 5)]


async def test_what_is_kept_is_bounded(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_stream, "KEPT_BYTES", 200_000)
    monkeypatch.setattr(journal_stream, "ENTRY_BYTES", 20_000)
    async with Running(server, size=5000) as running:
        for count in range(1, 301):
            running.frame()
            if count % 30 == 0:
                await running.entries(count)
        entries = await running.entries(300)
    assert 100_000 < sum(payload.ByteSize() for _, _, payload in entries) <= 200_000
    assert all(payload.ByteSize() <= 20_000 for _, _, payload in entries)
    assert sequences(entries)[-1] == 300


async def test_redis_away_for_a_while(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_stream, "AWAY_SECONDS", 0.05)
    async with Running(server) as running:
        for _ in range(20):
            running.frame()
        await running.entries(20)
        await server.kill()
        for _ in range(20):
            running.frame()
            await asyncio.sleep(0.02)
        await server.start()
        running.frame()
        # It has come back without its data; none of what it was not told is missing.
        found = sequences(await running.entries(41))
        assert found == list(range(found[0], 42)) and found[0] <= 21


async def test_a_stream_that_is_ahead_is_begun_anew(server: RedisServer) -> None:
    await server.redis.xadd(KEY, {"type": "frames"}, id=f"{EPOCH + 100}-1")
    async with Running(server) as running:
        running.frame()
        assert sequences(await running.entries(1)) == [1]


async def until_warned(stream: Running, text: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while text not in (stream.state.warning or ""):
            stream.frame()
            await asyncio.sleep(0.1)


async def until_back(stream: Running) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while stream.state.warning is not None:
            await asyncio.sleep(0.1)


async def test_a_redis_that_hangs_is_noticed_within_seconds(server: RedisServer) -> None:
    async with Running(server) as stream:
        stream.frame()
        await stream.entries(1)
        server.send(signal.SIGSTOP)
        try:
            await until_warned(stream, "Redis takes nothing since")
        finally:
            server.send(signal.SIGCONT)
        await until_back(stream)
        await stream.entries(stream.ring.newest)


async def test_a_redis_that_is_full_is_noticed_and_gets_what_it_lacks(server: RedisServer) -> None:
    async with Running(server) as stream:
        stream.frame()
        await stream.entries(1)
        await server.redis.config_set("maxmemory", 1)
        await until_warned(stream, "used memory > 'maxmemory'")
        await server.redis.config_set("maxmemory", 0)
        await until_back(stream)
        await stream.entries(stream.ring.newest)
