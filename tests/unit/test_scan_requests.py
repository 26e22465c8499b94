"""Requests for custom scans: compiled in a thread, one at a time on the event loop, bounded in number."""

import asyncio
import functools
import itertools
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError
from services.scanner import scan_requests
from services.scanner.custom_scans import CustomScans, Scan
from services.scanner.list_stream import ListStream
from services.scanner.scan_requests import CompiledScan, ScanRequests, compile_scan
from tests.support.tape import Tape, Watched, a_list


@pytest_asyncio.fixture
async def requests() -> AsyncIterator[ScanRequests]:
    requests = ScanRequests(max_waiting=4, max_waiting_of_key=2)
    yield requests
    assert requests.waiting == 0
    requests.close()


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that have compiled something."""
    threads: list[str] = []

    def noted(filter_text: str, order_by: str) -> CompiledScan:
        threads.append(threading.current_thread().name)
        return compile_scan(filter_text, order_by)

    monkeypatch.setattr(scan_requests, "compile_scan", noted)
    return threads


async def test_a_text_is_compiled_once_and_not_on_the_event_loop(requests: ScanRequests, compiling: list[str]) -> None:
    scan = await requests.compile("price > 1", "price desc")
    assert await requests.compile("price > 1", "price desc") is scan
    assert (scan.filter.text, scan.order.text, scan.steps) == ("price > 1", "price desc", 2)
    assert [name.startswith("scan-compiler") for name in compiling] == [True]
    # What cannot be compiled is not kept.
    for _ in range(2):
        with pytest.raises(ServiceError, match="unknown field 'prise'") as caught:
            await requests.compile("", "prise desc")
        assert caught.value.reason.name == "INVALID_ORDER"
    assert len(compiling) == 3


async def test_the_oldest_texts_are_forgotten(
    requests: ScanRequests, compiling: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_requests, "MAX_COMPILED", 2)
    for text in ("price > 1", "price > 2", "price > 1", "price > 3", "price > 1", "price > 2"):
        await requests.compile(text, "")
    assert len(compiling) == 4


async def test_requests_take_turns_with_everything_else(requests: ScanRequests) -> None:
    """However many come at once, the event loop does something else after each of them."""
    order: list[str] = []

    async def others() -> None:
        while order.count("request") < 4:
            order.append("other")
            await asyncio.sleep(0)

    def work() -> None:
        order.append("request")

    await asyncio.gather(*(requests.take_turn(work) for _ in range(4)), others())
    indices = [index for index, name in enumerate(order) if name == "request"]
    assert all(after - before > 1 for before, after in itertools.pairwise(indices)), order


async def test_a_turn_ends_with_what_it_raises(requests: ScanRequests) -> None:
    with pytest.raises(ZeroDivisionError):
        await requests.take_turn(lambda: 1 // 0)
    assert await requests.take_turn(lambda: 3) == 3


async def test_waiting_requests_are_bounded(requests: ScanRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one key, and of all."""
    may_go_on = threading.Event()

    def waits(filter_text: str, order_by: str) -> CompiledScan:
        may_go_on.wait()
        return compile_scan(filter_text, order_by)

    monkeypatch.setattr(scan_requests, "compile_scan", waits)

    def request(key: str) -> "asyncio.Task[CompiledScan]":
        return asyncio.create_task(requests.compile("price > 1", "", key))

    waiting = [request("web"), request("web")]
    await asyncio.sleep(0)
    with pytest.raises(ServiceError, match=r"limit reached: 2 requests .* of the key 'web'") as caught:
        await request("web")
    assert (caught.value.reason.name, caught.value.metadata) == ("TOO_MANY_SCANS", {"maximum": "2", "key": "web"})
    waiting += [request(""), request("ops")]
    await asyncio.sleep(0)
    with pytest.raises(ServiceError, match=r"limit reached: 4 requests for custom scans at once$"):
        await requests.take_turn(lambda: 1, "other")
    may_go_on.set()
    assert [scan.steps for scan in await asyncio.gather(*waiting)] == [1] * 4
    assert await requests.take_turn(lambda: 2, "web") == 2


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
