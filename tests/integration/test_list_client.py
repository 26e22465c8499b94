"""The list client: a copy that is exact at every position, whatever becomes of the connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tradeul.v1 import scanner_pb2, stream_pb2

from services.kit.lists.kept_rows import ListHole
from services.kit.lists.list_client import ListCopy, follow_list, open_message
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host, add_servicer
from services.kit.runtime.settings import Settings
from services.scanner.service import ScannerService
from tests.support.list_messages import EPOCH, ListModel, rows_of
from tests.support.mesh import free_ports
from tests.support.running_scanner import RunningScanner
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import Tape

Response = scanner_pb2.WatchListResponse
Watch = scanner_pb2.WatchListRequest
SYMBOLS = [f"S{i:02}" for i in range(30)]


class ScriptedLists:
    """A ScannerService of which SubscribeList plays one script a connection, then waits or ends."""

    def __init__(self, *scripts: list[Response]) -> None:
        self.scripts = list(scripts)
        self.openings: list[Watch] = []

    def __getattr__(self, name: str) -> Any:
        """All other methods."""
        return lambda request, context: None

    async def SubscribeList(self, requests: AsyncIterator[Any], _: Any) -> AsyncIterator[Response]:
        first = await anext(aiter(requests))
        self.openings.append(first.open)
        for response in self.scripts.pop(0):
            yield response
        if not self.scripts:
            await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def serving(lists: ScriptedLists) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add_servicer(server, scanner_pb2.DESCRIPTOR.services_by_name["ScannerService"], lists)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def opened() -> Response:
    return Response(opened=scanner_pb2.ListOpened(list="winners"))


def snapshot(model: ListModel) -> Response:
    return Response(snapshot=scanner_pb2.RankedList.FromString(model.snapshot()))


def delta(encoded: bytes) -> Response:
    return Response(delta=scanner_pb2.ListDelta.FromString(encoded))


def current() -> Response:
    return Response(current=stream_pb2.StreamCurrent())


async def until(copies: AsyncIterator[ListCopy], sequence: int) -> ListCopy:
    async for copy in copies:
        if copy.is_current and copy.sequence == sequence:
            return copy
    raise AssertionError("the follower ended")


async def test_a_hole_is_answered_by_opening_again_with_the_position() -> None:
    model = ListModel()
    model.change_to([("A", 1.0)])
    first = snapshot(model)
    missed = model.change_to([("A", 2.0)])
    after = model.change_to([("B", 3.0), ("A", 2.0)])
    lists = ScriptedLists(
        [opened(), first, current(), delta(after)], [opened(), delta(missed), delta(after), current()]
    )
    async with serving(lists) as address, contextlib.aclosing(follow_list(address, Watch(list="winners"))) as copies:
        copy = await until(copies, 3)
    assert rows_of(copy) == model.rows
    assert [(one.epoch, one.sequence) for one in lists.openings] == [(0, 0), (EPOCH, 1)]
    assert copy.snapshots == 1


def test_a_delta_that_contradicts_the_rows_is_a_hole_and_changes_nothing() -> None:
    model = ListModel()
    model.change_to([("A", 1.0)])
    change = scanner_pb2.ListChange
    wrong = [
        change(action=change.REMOVE, symbol="B"),
        change(action=change.RERANK, symbol="B", old_rank=2, new_rank=1),
        change(action=change.UPDATE, symbol="B", rank=2),
        change(action=change.ADD, symbol="A", rank=1),
    ]
    for one in wrong:
        copy = ListCopy()
        copy.apply(snapshot(model))
        first = change(action=change.REMOVE, symbol="A") if one.symbol == "B" else change(action=change.ADD, symbol="C")
        both = scanner_pb2.ListDelta(list="winners", epoch=EPOCH, previous_sequence=1, sequence=2, deltas=[first, one])
        with pytest.raises(ListHole, match=f"has {change.Action.Name(one.action)} of '{one.symbol}'"):
            copy.apply(Response(delta=both))
        assert (rows_of(copy), copy.sequence) == (model.rows, 1)


async def test_after_a_delta_that_contradicts_the_rows_a_snapshot_is_asked_for() -> None:
    """From the same position the same delta would come, again and again."""
    model = ListModel()
    model.change_to([("A", 1.0)])
    first = snapshot(model)
    wrong = scanner_pb2.ListDelta(list="winners", epoch=EPOCH, previous_sequence=1, sequence=2)
    wrong.deltas.add(action=scanner_pb2.ListChange.REMOVE, symbol="B")
    model.change_to([("C", 3.0)])
    lists = ScriptedLists([opened(), first, current(), Response(delta=wrong)], [opened(), snapshot(model), current()])
    async with serving(lists) as address, contextlib.aclosing(follow_list(address, Watch(list="winners"))) as copies:
        copy = await until(copies, 2)
    assert rows_of(copy) == model.rows
    assert [(one.epoch, one.sequence) for one in lists.openings] == [(0, 0), (0, 0)]


async def test_going_away_and_a_stream_that_ends_are_followed_by_coming_back() -> None:
    model = ListModel()
    model.change_to([("A", 1.0)])
    away = Response(going_away=stream_pb2.StreamGoingAway(reason="stopping"))
    lists = ScriptedLists([opened(), snapshot(model), current(), away], [opened(), current()], [opened(), current()])
    problems = []
    async with serving(lists) as address, contextlib.aclosing(follow_list(address, Watch(list="winners"))) as copies:
        async for copy in copies:
            problems.append(copy.unhealthy_reason)
            if len(lists.openings) == 3 and copy.is_current:
                break
    assert "the scanner is restarting" in problems
    assert "ended by the server: no details" in problems
    assert problems[-1] == ""
    assert [one.sequence for one in lists.openings] == [0, 1, 1]


def test_what_is_sent_first_and_last() -> None:
    copy = ListCopy()
    assert open_message(Watch(list="winners"), copy).open == Watch(list="winners")
    model = ListModel(sequence=4)
    model.change_to([("A", 1.0)])
    copy.apply(snapshot(model))
    request = Watch(list="winners", min_interval_ms=7)
    assert open_message(request, copy).open == Watch(list="winners", min_interval_ms=7, epoch=EPOCH, sequence=5)
    scan = scanner_pb2.WatchScanRequest(filter="price > 1")
    assert open_message(scan, copy).open_scan == scan


class RestartableScanner:
    """A scanner on a port of its own that can be stopped and started."""

    def __init__(self, sequencer: ScriptedSequencer) -> None:
        (self.port,) = free_ports(1)
        self._settings = Settings.load(
            {
                "TRADEUL_SCANNER_ADDRESS": f"127.0.0.1:{self.port}",
                "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}",
                "TRADEUL_METRICS_PORT_OFFSET": "0",
            }
        )
        self.host: Host | None = None

    async def start(self) -> RunningScanner:
        service = ScannerService(self._settings)
        self.host = Host(service)
        await self.host.start()
        self.channel = open_channel(f"127.0.0.1:{self.port}")
        return RunningScanner(service, self.port, self.channel)

    async def stop(self) -> None:
        assert self.host is not None
        await self.channel.close(None)
        await self.host.stop()


async def test_a_copy_equals_the_list_across_restarts_of_the_scanner() -> None:
    """The list's numbers outlast the scanner: a client that missed nothing is not even reset."""
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening())
        restartable = RestartableScanner(sequencer)
        scanner = await restartable.start()
        request = Watch(list="filtered")
        async with contextlib.aclosing(follow_list(scanner.address, request)) as copies:
            for step in range(1, 10):
                sequencer.trade({SYMBOLS[step * 7 % 30]: 100.0 + step, SYMBOLS[step * 3 % 30]: 100.0 - step})
                copy = await until(copies, step)
                answer = await scanner.get("filtered")
                assert (answer.sequence, list(answer.rows)) == (step, copy.rows())
                if step in (3, 6):
                    await restartable.stop()
                if step == 6:
                    # Missed while it was away, so that a snapshot has to come.
                    sequencer.trade({"S29": 77.0})
                    step += 1
                if step in (3, 7):
                    scanner = await restartable.start()
                    copy = await until(copies, step)
                    assert copy.resets == (step == 7)
                if step == 7:
                    break
            assert copy.snapshots == 2
            assert copy.rows() == list((await scanner.get("filtered")).rows)
        await restartable.stop()


async def test_refusals_for_good_are_raised() -> None:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening())
        restartable = RestartableScanner(sequencer)
        scanner = await restartable.start()
        for request, code in (
            (Watch(list="gaper_up"), grpc.StatusCode.NOT_FOUND),
            (scanner_pb2.WatchScanRequest(filter="prize > 1"), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in follow_list(scanner.address, request):
                    pass
            assert caught.value.code() is code
        own = scanner_pb2.WatchScanRequest(filter="price > 100", order_by="price desc")
        async with contextlib.aclosing(follow_list(scanner.address, own)) as copies:
            await until(copies, 0)
            sequencer.trade({"S01": 101.0, "S02": 102.0})
            copy = await until(copies, 1)
            assert [row.symbol for row in copy.rows()] == ["S02", "S01"]
        await restartable.stop()


async def test_a_scanner_that_is_not_there_is_waited_for() -> None:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening())
        restartable = RestartableScanner(sequencer)
        address = f"127.0.0.1:{restartable.port}"
        async with contextlib.aclosing(follow_list(address, Watch(list="filtered"))) as copies:
            copy = await anext(copies)
            assert copy.unhealthy_reason.startswith("UNAVAILABLE")
            await restartable.start()
            copy = await until(copies, 0)
            assert copy.unhealthy_reason == ""
        await restartable.stop()
