"""The bars of a gap by a child, against a real server."""

import asyncio
import os
import signal
from typing import Any

import pytest
from tradeul.v1 import market_data_pb2

from services.data_ingest.feed.gap_bars import BATCH_SYMBOLS, GapBarsProcess
from services.kit.runtime.priority import WORKER_NICENESS
from services.kit.runtime.settings import Settings
from tests.support.vendor_server import VendorServer

SYMBOLS = [f"S{i}" for i in range(3 * BATCH_SYMBOLS)]
MINUTE = 29_552_520


def source_for(vendor: VendorServer) -> GapBarsProcess:
    return GapBarsProcess(Settings.load(vendor.environment), retry_seconds=0.01)


def bars_of(path: str) -> Any:
    """A bar of the minute; its high tells the symbol."""
    symbol, high = path.split("/")[4], 100.0 + SYMBOLS.index(path.split("/")[4])
    bar = {"t": MINUTE * 60_000, "o": 10.0, "h": high, "l": 9.0, "c": 10.0, "v": 100.0, "vw": 10.0, "n": 4}
    return {"status": "OK", "ticker": symbol, "results": [bar]}


async def fetched(source: GapBarsProcess) -> tuple[dict[str, float], dict[str, str]]:
    """The high of each symbol that came, and why the others did not."""
    highs: dict[str, float] = {}
    failed: dict[str, str] = {}
    async for bars in source.fetch(SYMBOLS, MINUTE, MINUTE + 1):
        columns = market_data_pb2.BarBatch.FromString(bars.columns)
        came = {bars.symbols[i]: high for i, high in zip(columns.symbol_id, columns.high, strict=True)}
        assert not came.keys() & highs.keys()
        highs |= came
        failed |= bars.failed
    return highs, failed


ALL = {symbol: 100.0 + i for i, symbol in enumerate(SYMBOLS)}


async def test_bars_come_from_a_process_with_a_lower_priority_that_ends_with_the_gap() -> None:
    priorities: set[int] = set()

    def answer(path: str, query: dict[str, str]) -> Any:
        assert source.pid is not None
        priorities.add(os.getpriority(os.PRIO_PROCESS, source.pid))
        return bars_of(path)

    async with VendorServer(answer) as vendor:
        source = source_for(vendor)
        assert await fetched(source) == (ALL, {})
        assert source.pid is None
    assert priorities == {min(os.getpriority(os.PRIO_PROCESS, 0) + WORKER_NICENESS, 19)}


async def test_a_process_that_is_killed_is_started_again_for_what_is_left() -> None:
    requests: list[str] = []

    def answer(path: str, query: dict[str, str]) -> Any:
        requests.append(path.split("/")[4])
        if len(requests) == 2 * BATCH_SYMBOLS:
            assert source.pid is not None
            os.kill(source.pid, signal.SIGKILL)
        return bars_of(path)

    async with VendorServer(answer) as vendor:
        source = source_for(vendor)
        assert await fetched(source) == (ALL, {})
    assert len(SYMBOLS) < len(requests) < 2 * len(SYMBOLS)


async def test_the_symbols_of_a_process_that_always_dies_failed() -> None:
    def answer(path: str, query: dict[str, str]) -> Any:
        assert source.pid is not None
        os.kill(source.pid, signal.SIGKILL)
        return bars_of(path)

    async with VendorServer(answer) as vendor:
        source = source_for(vendor)
        highs, failed = await fetched(source)
    assert (highs, failed.keys()) == ({}, ALL.keys())
    assert {reason.partition(":")[0] for reason in failed.values()} == {"the process that fetches them failed"}


async def test_a_fetch_that_is_given_up_leaves_no_child() -> None:
    asked = asyncio.Event()

    def answer(path: str, query: dict[str, str]) -> Any:
        asked.set()
        return bars_of(path)

    async with VendorServer(answer) as vendor:
        source = source_for(vendor)
        task = asyncio.create_task(fetched(source))
        await asyncio.wait_for(asked.wait(), 60)
        pid = source.pid
        assert pid is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
