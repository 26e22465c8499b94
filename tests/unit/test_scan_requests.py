"""Requests for custom scans: compiled by a process, one at a time on the event loop, bounded in number."""

import asyncio
import functools
import itertools
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from fastcore import filter_parser
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_ORDER, SCAN_TOO_COSTLY, ServiceError
from services.kit.runtime.priority import WORKER_NICENESS
from services.scanner import compiled_scan, scan_requests
from services.scanner.compiled_scan import CompiledScan, compile_scan
from services.scanner.custom_scans import CustomScans, Scan, ScanKey
from services.scanner.list_stream import ListStream
from services.scanner.scan_requests import ScanRequests
from services.scanner.turns import Turns
from tests.support.tape import Tape, Watched, a_list

# A process takes some tenths of a second to start; a loaded machine is given more.
PATIENCE_SECONDS = 20.0


@pytest_asyncio.fixture
async def requests() -> AsyncIterator[ScanRequests]:
    requests = ScanRequests(Turns(), max_waiting=4, max_waiting_of_key=2)
    compiling = asyncio.create_task(requests.compiler.run())
    yield requests
    assert requests.waiting == 0
    compiling.cancel()
    await asyncio.gather(compiling, return_exceptions=True)
    assert requests.compiler.pid is None


def compiled_count() -> float:
    """How many texts were compiled so far, by the process."""
    return REGISTRY.get_sample_value("tradeul_scan_compile_seconds_count") or 0.0


async def started(requests: ScanRequests, *others: int) -> int:
    """The process's id, when there is one that is none of the others."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (pid := requests.compiler.pid) is None or pid in others:
            await asyncio.sleep(0.01)
    return pid


async def test_a_text_is_compiled_once_and_by_another_process(
    requests: ScanRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compiled here would hold up the event loop, by the interpreter's lock even from a thread."""
    monkeypatch.setattr(compiled_scan, "compile_scan", None)
    monkeypatch.setattr(filter_parser, "tokens", None)
    before = compiled_count()
    scan = await requests.compile("price > 1", "price desc")
    assert await requests.compile("price > 1", "price desc") is scan
    assert (scan.filter.text, scan.order.text, scan.steps) == ("price > 1", "price desc", 2)
    # What cannot be compiled is not kept.
    for _ in range(2):
        with pytest.raises(ServiceError, match="unknown field 'prise'") as caught:
            await requests.compile("", "prise desc")
        assert caught.value.reason is INVALID_ORDER
        assert caught.value.metadata == {"position": "0", "text": "prise desc", "suggestion": "price"}
    with pytest.raises(ServiceError, match="limit reached: 200 steps for each row, this scan takes 201") as caught:
        await requests.compile(" OR ".join(["low>0"] * 200), "price")
    assert caught.value.reason is SCAN_TOO_COSTLY
    assert compiled_count() - before == 4
    # It gives way to the services.
    assert os.getpriority(os.PRIO_PROCESS, await started(requests)) >= min(
        os.getpriority(os.PRIO_PROCESS, 0) + WORKER_NICENESS, 19
    )


async def test_a_compiled_scan_that_was_sent_selects_the_same_rows(requests: ScanRequests) -> None:
    tape = Tape(["A", "B", "C"])
    market = Watched(tape, a_list()).market
    market.apply(tape.trades({"A": 101.0, "B": 102.0, "C": 103.0}))
    for texts in (("price > 101", "price desc"), ('symbol IN ("C", "A")', "symbol desc"), ("", "price + 1, symbol")):
        here, sent = compile_scan(*texts), await requests.compile(*texts)
        assert market.query(*here, 5) == market.query(*sent, 5)
        assert (sent.filter.tree, sent.order.tree) == (here.filter.tree, here.order.tree)


async def test_the_oldest_texts_are_forgotten(requests: ScanRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_requests, "MAX_COMPILED", 2)
    before = compiled_count()
    for text in ("price > 1", "price > 2", "price > 1", "price > 3", "price > 1", "price > 2"):
        await requests.compile(text, "")
    assert compiled_count() - before == 4


async def test_a_process_that_ends_is_replaced(requests: ScanRequests) -> None:
    """One that is busy then fails its request, which may come again; one that is idle fails none."""
    first = await started(requests)
    os.kill(first, signal.SIGKILL)
    second = await started(requests, first)
    assert (await requests.compile("price > 1", "")).steps == 1
    os.kill(second, signal.SIGSTOP)
    request = asyncio.create_task(requests.compile("price > 2", ""))
    await asyncio.sleep(0.05)
    os.kill(second, signal.SIGKILL)
    with pytest.raises(ServiceError, match="the scan cannot be compiled now") as caught:
        await request
    assert (caught.value.reason.code, caught.value.reason.retryable) == ("UNAVAILABLE", True)
    assert (await requests.compile("price > 2", "")).steps == 1


async def test_waiting_requests_are_bounded(requests: ScanRequests) -> None:
    """Of one key, and of all."""
    process = await started(requests)
    os.kill(process, signal.SIGSTOP)

    texts = (f"price > {number}" for number in itertools.count())

    def request(key: str) -> "asyncio.Task[CompiledScan]":
        return asyncio.create_task(requests.compile(next(texts), "", key))

    waiting = [request("web"), request("web")]
    await asyncio.sleep(0)
    with pytest.raises(ServiceError, match=r"limit reached: 2 requests .* of the key 'web'") as caught:
        await request("web")
    assert (caught.value.reason.name, caught.value.metadata) == ("TOO_MANY_SCANS", {"maximum": "2", "key": "web"})
    waiting += [request(""), request("ops")]
    await asyncio.sleep(0)
    with pytest.raises(ServiceError, match=r"limit reached: 4 requests for custom scans at once$"):
        await requests.take_turn(lambda: 1, "other")
    # A client that has gone makes room.
    waiting.pop().cancel()
    await asyncio.sleep(0)
    waiting.append(request("ops"))
    await asyncio.sleep(0)
    os.kill(process, signal.SIGCONT)
    assert [scan.steps for scan in await asyncio.gather(*waiting)] == [1] * 4
    assert await requests.take_turn(lambda: 2, "web") == 2


async def test_any_number_may_request_the_same(requests: ScanRequests) -> None:
    """It is compiled once, also when who came first has gone, and opened in one turn."""
    process = await started(requests)
    os.kill(process, signal.SIGSTOP)
    before = compiled_count()
    waiting = [asyncio.create_task(requests.compile("price > 1", "", "web")) for _ in range(10)]
    await asyncio.sleep(0)
    assert requests.waiting == 1
    waiting.pop(0).cancel()
    await asyncio.sleep(0)
    os.kill(process, signal.SIGCONT)
    (scan, *others) = await asyncio.gather(*waiting)
    assert (others, compiled_count() - before) == ([scan] * 8, 1)

    watchers = 0

    def watch() -> int:
        nonlocal watchers
        watchers += 1
        return watchers

    def is_watched() -> bool:
        return watchers > 0

    turns = REGISTRY.get_sample_value("tradeul_scan_request_seconds_count") or 0.0
    key = ScanKey.of(scan, 5)
    opened = [asyncio.create_task(requests.open(key, is_watched, watch, "web")) for _ in range(10)]
    await asyncio.sleep(0)
    assert requests.waiting == 1
    assert await asyncio.gather(*opened) == list(range(1, 11))
    assert REGISTRY.get_sample_value("tradeul_scan_request_seconds_count") == turns + 1


async def test_scans_are_refreshed_in_slices_each_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice that is over at once refreshes one; those that are still due come before those that are due again."""
    monkeypatch.setattr("services.scanner.custom_scans.SLICE_SECONDS", 0.0)
    tape = Tape(["A", "B", "C"])
    market = Watched(tape, a_list()).market

    def stream(scan: Scan) -> ListStream:
        take_snapshot = functools.partial(market.scan_snapshot, scan.handle)
        return ListStream("scan", Position(1, scan.handle.sequence), take_snapshot, lambda _: None)

    scans = CustomScans(stream)
    opened = [scans.open(market, compile_scan(f"price > {n}", ""), 5) for n in range(3)]
    assert not scans.is_due
    market.apply(tape.trades({"A": 101.0}))
    scans.begin_refresh()
    assert (scans.refresh(market), sequences(opened)) == (1, [1, 0, 0])
    market.apply(tape.trades({"B": 102.0}))
    scans.begin_refresh()
    assert (scans.refresh(market), sequences(opened)) == (1, [1, 1, 0])
    assert (scans.refresh(market), sequences(opened)) == (1, [1, 1, 1])
    assert (scans.refresh(market), sequences(opened)) == (1, [2, 1, 1])
    assert not scans.is_due
    # One that nobody watches any more is not refreshed.
    scans.begin_refresh()
    scans.release(market, opened[0])
    assert [scans.refresh(market), scans.refresh(market), scans.is_due] == [0, 0, False]
    for scan in opened[1:]:
        scans.release(market, scan)


def sequences(scans: list[Scan]) -> list[int]:
    return [scan.stream.position.sequence for scan in scans]
