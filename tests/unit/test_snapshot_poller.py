"""When the vendor's snapshot is asked for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.data_ingest.vendor_snapshot import poller as snapshot_poller
from services.data_ingest.vendor_snapshot.poller import SnapshotPoller
from services.data_ingest.vendor_snapshot.rows import SnapshotPart, SnapshotRules

WAIT_SECONDS = 20


class CountingSource:
    """A market without symbols: only that it was asked matters."""

    def __init__(self) -> None:
        self.set_aside: Counter[str] = Counter()
        self.fetched = 0
        self._changed = asyncio.Event()

    async def fetch(self, rules: SnapshotRules) -> AsyncIterator[SnapshotPart]:
        self.fetched += 1
        self._changed.set()
        for part in list[SnapshotPart]():
            yield part

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self.fetched < count:
                self._changed.clear()
                await self._changed.wait()


class Rig:
    def __init__(self, is_closed: bool) -> None:
        self.source = CountingSource()
        self.is_closed = is_closed
        # Nothing comes, so nothing is sequenced.
        sequencer: Any = self
        self.poller = SnapshotPoller(self.source, sequencer, lambda: SnapshotRules(0, 1, 2), lambda rows: None)

    async def __aenter__(self) -> "Rig":
        self._task = asyncio.create_task(self.poller.run())
        await self.source.until(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_when_the_session_begins() -> None:
    """A feed's clock that starts before 04:00 does not wait for the pause of a closed market to end."""
    async with Rig(is_closed=True) as rig:
        rig.is_closed = False
        await rig.source.until(2)


async def test_at_once_and_again_after_the_line_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_poller, "AGAIN_SECONDS", 0.05)
    async with Rig(is_closed=False) as rig:
        rig.poller.request_after_loss()
        await rig.source.until(3)


async def test_a_line_that_comes_and_goes_is_asked_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_poller, "AGAIN_SECONDS", 0.3)
    async with Rig(is_closed=False) as rig:
        for count in range(2, 5):
            rig.poller.request_after_loss()
            await rig.source.until(count)
        await rig.source.until(5)
        rig.poller.request()
        await rig.source.until(6)
        assert rig.source.fetched == 6
