"""The vendor's snapshot by a child of each fetch, against a real server."""

import asyncio
import os
from http import HTTPStatus
from typing import Any

import pytest

from services.data_ingest.vendor_snapshot.rows import SnapshotRules
from services.data_ingest.vendor_snapshot.source import WORKER, SnapshotError, SnapshotProcess
from services.kit.runtime.settings import Settings
from tests.support.mesh import command_words, processes_below
from tests.support.vendor_server import VendorServer

ROW = {"ticker": "A", "updated": 1_773_151_200_000_000_000, "prevDay": {"c": 9.5}, "day": {"c": 10.0}}
RULES = SnapshotRules(0, 0, 1)


def children() -> list[int]:
    """The processes of this one that fetch snapshots."""
    found = []
    for pid in processes_below(os.getpid()):
        try:
            if WORKER.encode() in command_words(pid):
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def source_for(vendor: VendorServer) -> SnapshotProcess:
    return SnapshotProcess(Settings.load(vendor.environment))


async def test_no_child_waits_for_the_next_fetch() -> None:
    """It would hold the memory of the whole market's snapshot."""

    def answer(path: str, query: dict[str, str]) -> Any:
        return {"status": "OK", "tickers": [ROW]} if "/snapshot/" in path else None

    async with VendorServer(answer) as vendor:
        source = source_for(vendor)
        for _ in range(2):
            parts: list[str] = []
            async for part in source.fetch(RULES):
                assert len(children()) == 1
                parts += part.symbols
            assert parts == ["A"]
            assert not children()


async def test_a_fetch_that_fails_or_is_given_up_leaves_no_child() -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    def refuse(path: str, query: dict[str, str]) -> Any:
        asked.set()
        return HTTPStatus.FORBIDDEN

    async with VendorServer(refuse) as vendor:
        source = source_for(vendor)
        with pytest.raises(SnapshotError, match="403"):
            async for _ in source.fetch(RULES):
                answered.set()
        assert not children()
        asked.clear()

        async def fetch() -> None:
            async for _ in source.fetch(RULES):
                answered.set()

        fetching = asyncio.create_task(fetch())
        await asyncio.wait_for(asked.wait(), 20)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        assert not children()
    assert not answered.is_set()
