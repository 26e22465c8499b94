"""The scanner between a scripted sequencer and its clients: every copy exact, whatever happens in between."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from prometheus_client import REGISTRY
from tradeul.v1 import data_ingest_pb2, scanner_pb2, session_pb2, stream_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import FIELDS, SECTORS
from fastcore.filters import compile_filter
from services.kit.lists.definitions import load_lists
from services.kit.lists.list_client import ListCopy
from services.kit.rpc.envelope import FRAMES
from services.kit.runtime.settings import Settings
from services.scanner import custom_scans
from services.scanner.compiled_scan import MAX_STEPS
from services.scanner.core import MarketSource
from services.scanner.service import market_of
from services.scanner.servicer import DEFAULT_SYMBOLS
from services.scanner.turns import MAX_WAITING
from tests.support.refusals import Refusal, refusal
from tests.support.running_scanner import ListReader, RunningScanner, running_scanner
from tests.support.scripted_sequencer import POLL_SECONDS, Response, ScriptedSequencer, frame_response
from tests.support.tape import EPOCH, Tape

SYMBOLS = [f"S{i:02}" for i in range(40)]
Request = scanner_pb2.SubscribeListRequest


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening())
        yield running


@pytest.fixture
async def scanner(sequencer: ScriptedSequencer) -> AsyncIterator[RunningScanner]:
    async with running_scanner(sequencer) as running:
        yield running


async def refused(call: grpc.aio.Call) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return refusal(caught.value)


async def check_equal(scanner: RunningScanner, reader: ListReader, name: str = "filtered") -> None:
    """The client's copy is the list as it is asked for, at the same position."""
    answer = await scanner.get(name)
    assert (answer.epoch, answer.sequence) == (reader.copy.epoch, reader.copy.sequence)
    assert list(answer.rows) == reader.copy.rows()


async def test_lists_answer_and_follow_the_market(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 105.0, "S02": 92.0, "S03": 101.0})
    await scanner.until_at(sequencer)
    answer = await scanner.get("gappers_up")
    assert [(row.rank, row.symbol, row.gap_percent) for row in answer.rows] == [(1, "S01", 5.0)]
    assert (answer.list, answer.epoch, answer.sequence, answer.count) == ("gappers_up", EPOCH, 1, 1)
    assert (answer.position.epoch, answer.position.sequence) == (EPOCH, sequencer.market.sequence)
    assert answer.timestamp.ToNanoseconds() == sequencer.tape.now_ns
    assert [row.symbol for row in (await scanner.get("gappers_down")).rows] == ["S02"]
    assert [row.symbol for row in (await scanner.get("filtered", limit=2)).rows] == ["S01", "S02"]


async def test_gappers_of_both_sides_and_filtered(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({f"S{i:02}": 100.0 + i for i in range(12)} | {f"S{i:02}": 112.0 - i for i in range(13, 24)})
    await scanner.until_at(sequencer)
    gappers = await scanner.stub.GetGappers(scanner_pb2.GetGappersRequest())
    assert [row.gap_percent for row in gappers.gappers_up] == [float(gap) for gap in range(11, 3, -1)]
    assert [row.gap_percent for row in gappers.gappers_down] == [float(-gap) for gap in range(11, 3, -1)]
    assert gappers.count == 16
    assert gappers.position.sequence == sequencer.market.sequence
    assert gappers.timestamp.ToNanoseconds() == sequencer.tape.now_ns
    few = await scanner.stub.GetGappers(scanner_pb2.GetGappersRequest(min_gap=1e-7, limit=3))
    assert [row.symbol for row in few.gappers_up] == ["S11", "S10", "S09"]
    assert [row.rank for row in few.gappers_down] == [1, 2, 3]
    none = await scanner.stub.GetGappers(scanner_pb2.GetGappersRequest(min_gap=1e300))
    assert none.count == 0
    filtered = await scanner.stub.GetFiltered(scanner_pb2.GetFilteredRequest(limit=5))
    assert (filtered.count, len(filtered.tickers)) == (5, 5)
    assert filtered.timestamp == gappers.timestamp


async def test_scanner_filters_of_the_stream_hold(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 105.0, "S02": 107.0})
    sequencer.send(sequencer.tape.filters(("cheap", "price < 106")))
    sequencer.trade({"S03": 104.0})
    await scanner.until_at(sequencer)
    assert [row.symbol for row in (await scanner.get("gappers_up")).rows] == ["S01", "S03"]
    assert (await scanner.stub.GetGappers(scanner_pb2.GetGappersRequest())).count == 2
    own = await scanner.stub.QueryScan(scanner_pb2.QueryScanRequest(filter="gap_percent >= 2"))
    assert own.count == 3


async def test_an_own_list_once(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 105.0, "S02": 92.0, "S03": 101.0})
    await scanner.until_at(sequencer)
    query = scanner_pb2.QueryScanRequest(filter="change_percent > 0", order_by="price", limit=1)
    answer = await scanner.stub.QueryScan(query)
    assert (answer.list, answer.count) == ("scan", 1)
    assert [row.symbol for row in answer.rows] == ["S03"]


@pytest.mark.parametrize(
    ("environment", "market"),
    [
        ({}, scanner_pb2.ScannerStatus.SIMULATOR),
        ({"POLYGON_API_KEY": "key"}, scanner_pb2.ScannerStatus.VENDOR),
        ({"POLYGON_API_KEY": "key", "TRADEUL_REPLAY_DATE": "2026-03-10"}, scanner_pb2.ScannerStatus.REPLAY),
    ],
)
def test_the_source_of_the_events(environment: dict[str, str], market: MarketSource) -> None:
    assert market_of(Settings.load(environment)) == market


async def test_breadth(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 105.0, "S02": 92.0, "S03": 100.0})
    sequencer.trade({"S01": 106.0})
    await scanner.until_at(sequencer)
    answer = await scanner.stub.GetBreadth(scanner_pb2.GetBreadthRequest())
    total = scanner_pb2.Breadth(
        stocks=3, advancers=1, decliners=1, unchanged=1, new_highs=1, up_volume=200, down_volume=100, volume=400
    )
    assert answer.total == total
    assert [each.sector for each in answer.sectors] == list(SECTORS)
    assert answer.session == session_pb2.MARKET_OPEN
    assert answer.timestamp.ToNanoseconds() == sequencer.tape.now_ns
    assert answer.position.sequence == sequencer.market.sequence


async def test_the_log_tells_what_the_stream_of_a_list_does(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    reader = scanner.watch("new_highs")
    await reader.until("snapshot")
    for step in range(12):
        sequencer.trade({f"S{step:02}": 105.0 + step, f"S{step - 3:02}": 99.0} if step > 2 else {f"S{step:02}": 105.0})
    await scanner.until_at(sequencer)
    end = (await scanner.get("new_highs")).sequence
    seen = []
    while reader.copy.sequence != end:
        delta = (await reader.read()).delta
        for change in delta.deltas:
            if change.action in (scanner_pb2.ListChange.ADD, scanner_pb2.ListChange.REMOVE):
                price = change.data.price if change.HasField("data") else 99.0
                seen.append((delta.timestamp, change.symbol, change.rank, price, delta.sequence))
    request = scanner_pb2.GetListLogRequest(list="new_highs")
    page = await scanner.stub.GetListLog(request)
    assert [(each.time, each.symbol, each.rank, each.price, each.sequence) for each in reversed(page.changes)] == seen
    assert (page.count, page.next_page_token, len(seen)) == (21, "", 21)
    of_symbol = await scanner.stub.GetListLog(scanner_pb2.GetListLogRequest(symbol="s01"))
    assert {(each.list, each.action) for each in of_symbol.changes} >= {
        ("new_highs", scanner_pb2.LoggedChange.ENTER), ("new_highs", scanner_pb2.LoggedChange.LEAVE),
    }  # fmt: skip
    assert {each.symbol for each in of_symbol.changes} == {"S01"}
    request.limit = 20
    request.page_token = (await scanner.stub.GetListLog(request)).next_page_token
    assert [each.symbol for each in (await scanner.stub.GetListLog(request)).changes] == ["S00"]
    for wrong, reason in (
        ({"list": "gapers_up"}, "UNKNOWN_LIST"),
        ({"symbol": "NOSUCH"}, "UNKNOWN_SYMBOL"),
        ({"symbol": "$"}, "INVALID_SYMBOL"),
        ({"limit": 1001}, "INVALID_LIMIT"),
        ({"page_token": "x"}, "INVALID_REQUEST"),
    ):
        refusal = await refused(scanner.stub.GetListLog(scanner_pb2.GetListLogRequest(**wrong)))
        assert refusal.reason == reason


async def test_symbols_are_found_by_ticker(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 105.0, "S12": 92.0})
    sequencer.trade({"S12": 93.0})
    await scanner.until_at(sequencer)
    found = await scanner.stub.SearchSymbols(scanner_pb2.SearchSymbolsRequest(query="s1", limit=2))
    assert (found.count, [each.symbol for each in found.symbols]) == (2, ["S12", "S10"])
    first = found.symbols[0]
    assert (first.price, first.change_percent, first.volume_today) == (93.0, -7.0, 200.0)
    assert not first.HasField("company_name")
    all_found = await scanner.stub.SearchSymbols(scanner_pb2.SearchSymbolsRequest(query="S"))
    assert [each.symbol for each in all_found.symbols[:3]] == ["S12", "S01", "S00"]
    assert all_found.count == DEFAULT_SYMBOLS
    for query in ("", "x" * 101):
        refusal = await refused(scanner.stub.SearchSymbols(scanner_pb2.SearchSymbolsRequest(query=query)))
        assert (refusal.reason, refusal.metadata["field"]) == ("INVALID_REQUEST", "query")
    refusal = await refused(scanner.stub.SearchSymbols(scanner_pb2.SearchSymbolsRequest(query="S", limit=101)))
    assert refusal.reason == "INVALID_LIMIT"


async def test_selected_fields(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 105.0, "S02": 92.0})
    await scanner.until_at(sequencer)
    stub, fields = scanner.stub, "gap_percent, price"
    up = TickerRow(rank=1, symbol="S01", price=105, gap_percent=5)
    down = TickerRow(rank=1, symbol="S02", price=92, gap_percent=-8)
    whole = await scanner.get("gappers_up")
    some = await stub.GetList(scanner_pb2.GetListRequest(list="gappers_up", fields=fields))
    assert list(some.rows) == [up]
    assert (some.count, some.sequence, some.position, some.timestamp) == (
        whole.count, whole.sequence, whole.position, whole.timestamp,
    )  # fmt: skip
    gappers = await stub.GetGappers(scanner_pb2.GetGappersRequest(fields=fields))
    assert (list(gappers.gappers_up), list(gappers.gappers_down)) == ([up], [down])
    filtered = await stub.GetFiltered(scanner_pb2.GetFilteredRequest(fields="price", limit=1))
    assert [(row.rank, row.symbol) for row in filtered.tickers] == [(1, filtered.tickers[0].symbol)]
    assert {field.name for field, _ in filtered.tickers[0].ListFields()} == {"rank", "symbol", "price"}
    query = scanner_pb2.QueryScanRequest(filter="price > 100", fields=fields)
    assert list((await stub.QueryScan(query)).rows) == [up]
    row = await stub.GetTickerRow(scanner_pb2.GetTickerRowRequest(symbol="S01", fields="price"))
    assert row == TickerRow(symbol="S01", price=105)


async def test_streams_of_selected_fields(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    stub, whole = scanner.stub, scanner.watch("filtered")
    readers = [
        ListReader(stub.WatchList(scanner_pb2.WatchListRequest(list="filtered", fields="price"))),
        ListReader(stub.WatchScan(scanner_pb2.WatchScanRequest(filter="has(price)", fields="rank,price"))),
    ]
    subscribed = stub.SubscribeList(None)
    await subscribed.write(Request(open=scanner_pb2.WatchListRequest(list="filtered", fields="symbol,price")))
    readers.append(ListReader(subscribed))
    for reader in (*readers, whole):
        await reader.until("current")
    for step in range(1, 6):
        sequencer.trade({SYMBOLS[step]: 100.0 + step, "S01": 90.0 - step})
        for reader in (*readers, whole):
            await reader.until("delta")
    assert whole.copy.sequence == readers[0].copy.sequence == 5
    expected = [(row.rank, row.symbol, row.price) for row in whole.copy.rows()]
    for reader in (readers[0], readers[2]):
        assert reader.copy.rows() == [TickerRow(rank=rank, symbol=name, price=price) for rank, name, price in expected]
    rows = readers[1].copy.rows()
    assert rows
    assert {field.name for row in rows for field, _ in row.ListFields()} == {"rank", "symbol", "price"}


async def test_definitions_and_fields(scanner: RunningScanner) -> None:
    lists = (await scanner.stub.ListLists(scanner_pb2.ListListsRequest())).lists
    assert [(one.list, one.filter, one.limit) for one in lists] == [
        (spec.name, spec.filter, spec.limit) for spec in load_lists()
    ]
    fields = (await scanner.stub.GetFields(scanner_pb2.GetFieldsRequest())).fields
    assert [field.name for field in fields] == [field.name for field in FIELDS]


async def test_after_midnight_the_trading_date_is_the_next_one(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    for hours, expected in ((13.9, "2026-03-10"), (0.2, "2026-03-11"), (6, "2026-03-11")):
        sequencer.send(sequencer.tape.watermark(hours * 3600))
        await scanner.until_at(sequencer)
        assert (await scanner.status()).trading_date == expected


async def test_status(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    before = await scanner.status()
    assert before.market == scanner_pb2.ScannerStatus.SIMULATOR
    assert not before.HasField("event_time")
    assert not before.HasField("last_refresh")
    sequencer.trade({"S01": 105.0, "S02": 92.0})
    await scanner.until_at(sequencer)
    reader = scanner.watch("filtered")
    own = scanner.watch_scan("price > 1")
    await asyncio.gather(reader.until("current"), own.until("current"))
    status = await scanner.status()
    assert status.session == session_pb2.MARKET_OPEN
    assert status.trading_date == "2026-03-10"
    assert (status.symbols, status.active_symbols) == (len(SYMBOLS), 2)
    assert (status.subscribers, status.slow_subscribers, status.scans) == (2, 0, 1)
    assert (status.position.epoch, status.position.sequence) == (EPOCH, sequencer.market.sequence)
    assert status.list_rows["gappers_up"] == 1
    assert status.event_time.ToNanoseconds() == sequencer.tape.now_ns
    assert status.HasField("last_refresh")
    assert status.problem == ""
    # The tape is of another time than the wall's clock.
    assert not status.HasField("lag_ms")
    for price in (105.0, 105.1, 50.0, 50.1, 9.0):
        sequencer.trade({"S01": price})
    await scanner.until_at(sequencer)
    suspects = (await scanner.status()).suspect_prints
    assert (suspects.confirmed_by_trade, suspects.confirmed_by_bar, suspects.unconfirmed) == (1, 0, 1)


async def test_metrics_say_what_happened(sequencer: ScriptedSequencer) -> None:
    def sample(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def now() -> dict[str, float]:
        return {
            "frames": sample("tradeul_frames_total", service="scanner", kind="frame"),
            "states": sample("tradeul_frames_total", service="scanner", kind="snapshot"),
            "updates": sample("tradeul_list_updates_total", list="gappers_up"),
            "own": sample("tradeul_list_updates_total", list="scan"),
            "refreshes": sample("tradeul_refresh_seconds_count"),
            "lags": sample("tradeul_lag_seconds_count", service="scanner", step="list"),
            "connections": sample("tradeul_frame_stream_reconnects_total", reader="scanner"),
        }

    before = now()
    async with running_scanner(sequencer, {"TRADEUL_CLOCK": "wall"}) as scanner:
        readers = [scanner.watch("gappers_up"), scanner.watch_scan("price > 1")]
        for reader in readers:
            await reader.until("current")
        assert sample("tradeul_subscribers", service="scanner", stream="gappers_up") == 1
        assert sample("tradeul_subscribers", service="scanner", stream="scan") == 1
        assert sample("tradeul_open_scans") == 1
        assert sample("tradeul_scanner_current") == 1
        sequencer.trade({"S01": 105.0})
        sequencer.send(sequencer.tape.watermark(1.0))
        for reader in readers:
            await reader.until_sequence(1)
        await scanner.until_at(sequencer)
        assert {name: value - before[name] for name, value in now().items()} == {
            "frames": 3,
            "states": 1,
            "updates": 1,
            "own": 1,
            "refreshes": 2,
            "lags": 1,
            "connections": 1,
        }
        # The tape is of a day long past or to come.
        assert abs((await scanner.status()).lag_ms) > 1000
        await sequencer.die()
        while sample("tradeul_scanner_current"):
            await asyncio.sleep(POLL_SECONDS)


# --- streams


async def test_a_watched_list_is_the_list(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    reader = scanner.watch("filtered")
    await reader.until("current")
    for step in range(30):
        sequencer.trade({SYMBOLS[(step * 7) % 40]: 100.0 + step, SYMBOLS[(step * 3) % 40]: 100.0 - step})
        await reader.until_sequence(step + 1)
        await check_equal(scanner, reader)
    assert reader.kinds == ["opened", "snapshot", "current"] + ["delta"] * 30


async def test_many_subscribers_get_the_same_bytes(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    readers = [scanner.watch("filtered") for _ in range(30)]
    await asyncio.gather(*(reader.until("current") for reader in readers))
    assert (await scanner.status()).subscribers == 30
    for step in range(1, 6):
        sequencer.trade({"S01": 100.0 + step})
        deltas = [await reader.read() for reader in readers]
        assert all(delta == deltas[0] for delta in deltas)
        assert deltas[0].delta.sequence == step


async def test_coming_back_with_a_position(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    first = scanner.watch("filtered")
    await first.until("current")
    sequencer.trade({"S01": 101.0})
    await first.until("delta")
    first.call.cancel()
    for price in (102.0, 103.0, 104.0):
        sequencer.trade({"S01": price})
    await scanner.until_at(sequencer)
    again = scanner.watch("filtered", first.copy)
    await again.until("current")
    assert again.kinds == ["opened", "delta", "delta", "delta", "current"]
    await check_equal(scanner, again)
    # Nothing was missed: nothing comes.
    third = scanner.watch("filtered", again.copy)
    await third.until("current")
    assert third.kinds == ["opened", "current"]


@pytest.mark.parametrize(
    ("epoch", "sequence", "why"), [(EPOCH - 5, 2, "of another epoch"), (EPOCH, 1, "older than the oldest held")]
)
async def test_a_position_that_is_gone(sequencer: ScriptedSequencer, epoch: int, sequence: int, why: str) -> None:
    async with running_scanner(sequencer, max_held=2) as scanner:
        for price in range(101, 108):
            sequencer.trade({"S01": float(price)})
        await scanner.until_at(sequencer)
        reader = scanner.watch("filtered", epoch=epoch, sequence=sequence)
        reset = await reader.until("reset")
        assert why in reset.reset.reason
        await reader.until("current")
        assert reader.kinds == ["opened", "reset", "snapshot", "current"]
        await check_equal(scanner, reader)


async def test_a_least_interval_merges(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    reader = scanner.watch("filtered", min_interval_ms=300)
    await reader.until("current")
    for step in range(1, 41):
        sequencer.trade({SYMBOLS[step % 5]: 100.0 + step})
    await reader.until_sequence(40)
    # More than one only when the machine stalled in between.
    assert reader.copy.deltas < 10
    await check_equal(scanner, reader)


async def test_a_crowd_gets_changes_merged_and_the_mesh_gets_each(sequencer: ScriptedSequencer) -> None:
    async with running_scanner(sequencer, messages_per_second=150) as scanner:
        internal = scanner.watch("filtered")
        idle = [scanner.watch("post_market", is_outside=True) for _ in range(20)]
        alone = scanner.watch("filtered", is_outside=True)
        for reader in (internal, alone, *idle):
            await reader.until("current")
        # One reader of a list that changes 20 times a second fits the budget, however many wait beside it.
        step = 0
        for step in range(1, 41):
            sequencer.trade({"S01": 100.0 + step})
            await asyncio.sleep(0.05)
        await alone.until_sequence(step)
        assert alone.copy.deltas == step
        crowd = [scanner.watch("filtered", is_outside=True) for _ in range(20)]
        for reader in crowd:
            await reader.until("current")
        while not REGISTRY.get_sample_value("tradeul_least_interval_seconds"):
            step += 1
            sequencer.trade({"S01": 100.0 + step})
            await asyncio.sleep(0.02)
        first = step
        for step in range(first + 1, first + 41):
            sequencer.trade({"S01": 100.0 + step})
        before = [reader.copy.deltas for reader in crowd]
        await internal.until_sequence(step)
        assert internal.copy.deltas == step
        for reader, deltas in zip(crowd, before, strict=True):
            await reader.until_sequence(step)
            assert reader.copy.deltas - deltas < 20
            await check_equal(scanner, reader)


async def test_an_own_list_live(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    readers = [scanner.watch_scan("change_percent > 0", "change_percent desc", limit=2) for _ in range(2)]
    other = scanner.watch_scan("change_percent < 0", "change_percent")
    for reader in (*readers, other):
        await reader.until("current")
    # Equal ones are one list.
    assert (await scanner.status()).scans == 2
    sequencer.trade({"S01": 105.0, "S02": 103.0, "S03": 104.0, "S04": 98.0})
    for reader in readers:
        await reader.until("delta")
        assert [row.symbol for row in reader.copy.rows()] == ["S01", "S03"]
    await other.until("delta")
    assert [row.symbol for row in other.copy.rows()] == ["S04"]
    readers[0].call.cancel()
    other.call.cancel()
    await scanner.until_subscribers(1)
    assert len(scanner.hub.scans) == 1


async def test_many_open_the_same_scan_at_once(scanner: RunningScanner) -> None:
    """More than may wait, as when the clients of a gateway come back together."""
    requests = scanner.service.requests
    async with asyncio.timeout(60):
        while (compiler := requests.compiler.pid) is None:
            await asyncio.sleep(0.01)
        os.kill(compiler, signal.SIGSTOP)
        try:
            readers = [scanner.watch_scan("change_percent > 0") for _ in range(2 * MAX_WAITING)]
            labels = {"method": "/tradeul.v1.ScannerService/WatchScan"}
            while (REGISTRY.get_sample_value("tradeul_rpc_open", labels) or 0) < len(readers):
                await asyncio.sleep(0.01)
            assert requests.waiting == 1
        finally:
            os.kill(compiler, signal.SIGCONT)
    for reader in readers:
        await reader.until("current")
    assert (await scanner.status()).scans == 1
    for reader in readers:
        reader.call.cancel()
    await scanner.until_subscribers(0)


async def test_ack_and_cancel(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    call = scanner.stub.SubscribeList(None)
    await call.write(Request(open=scanner_pb2.WatchListRequest(list="filtered")))
    reader = ListReader(call)
    await reader.until("current")
    sequencer.trade({"S01": 101.0})
    await reader.until("delta")
    await call.write(Request(ack=stream_pb2.StreamAck(position=stream_pb2.StreamPosition(epoch=EPOCH, sequence=1))))
    sequencer.trade({"S01": 102.0})
    await reader.until("delta")
    await call.write(Request(cancel=stream_pb2.StreamCancel()))
    with pytest.raises(EOFError):
        await reader.read()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_may_close_its_side_and_read_on(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    call = scanner.stub.SubscribeList(None)
    await call.write(Request(open_scan=scanner_pb2.WatchScanRequest(filter="price > 0")))
    await call.done_writing()
    reader = ListReader(call)
    await reader.until("current")
    sequencer.trade({"S01": 101.0})
    await reader.until("delta")


# --- what the sequencer may do


async def test_a_sequencer_that_comes_back_with_a_new_epoch(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    readers = [scanner.watch("filtered"), scanner.watch_scan("price > 0", "price desc")]
    sequencer.trade({"S01": 101.0})
    for reader in readers:
        await reader.until("current")
    await sequencer.die()
    while not scanner.hub.unhealthy_reason:
        await asyncio.sleep(POLL_SECONDS)
    assert "data_ingest" in (await scanner.status()).problem
    # It answers with what it has meanwhile.
    assert [row.symbol for row in (await scanner.get("filtered")).rows] == ["S01"]
    tape = Tape(SYMBOLS[:5], epoch=EPOCH + 60)
    await sequencer.start(tape)
    sequencer.send(*tape.opening())
    sequencer.trade({"S02": 103.0, "S03": 104.0})
    await scanner.until_at(sequencer)
    for reader in readers:
        await reader.until("reset")
        while (reader.copy.epoch, reader.copy.sequence) != (EPOCH + 60, 1):
            await reader.read()
    await check_equal(scanner, readers[0])
    assert [row.symbol for row in readers[1].copy.rows()] == ["S03", "S02"]
    sequencer.trade({"S01": 99.0})
    for reader in readers:
        await reader.until_sequence(2)
    await check_equal(scanner, readers[0])
    assert (await scanner.status()).problem == ""


async def test_a_connection_that_breaks_is_resumed_unseen(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    reader = scanner.watch("filtered")
    await reader.until("current")
    sequencer.trade({"S01": 101.0})
    await scanner.until_at(sequencer)
    held = (EPOCH, sequencer.market.sequence)
    sequencer.hang_up()
    sequencer.trade({"S01": 102.0})
    seen = await sequencer.until_connections(2)
    assert seen.asked == held
    await reader.until_sequence(2)
    assert reader.kinds == ["opened", "snapshot", "current", "delta", "delta"]


async def test_going_away_is_answered_by_coming_back(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    sequencer.trade({"S01": 101.0})
    await scanner.until_at(sequencer)
    sequencer.say(Response(going_away=stream_pb2.StreamGoingAway(position=sequencer.position, reason="restart")))
    seen = await sequencer.until_connections(2)
    assert seen.asked == (EPOCH, sequencer.market.sequence)


@pytest.mark.parametrize("teller", ["frame", "bundle", "heartbeat"])
async def test_a_hole_is_asked_for_again(sequencer: ScriptedSequencer, scanner: RunningScanner, teller: str) -> None:
    reader = scanner.watch("filtered")
    await reader.until("current")
    sequencer.trade({"S01": 101.0})
    await scanner.until_at(sequencer)
    held = (EPOCH, sequencer.market.sequence)
    sequencer.is_lossy = True
    sequencer.trade({"S02": 102.0})
    sequencer.trade({"S03": 102.5})
    sequencer.is_lossy = False
    missed = [frame_response(sequencer.frames[n]) for n in range(held[1] + 1, sequencer.market.sequence + 1)]
    if teller == "frame":
        sequencer.trade({"S03": 103.0})
    elif teller == "bundle":
        # The hole is inside: what comes before it is the scanner's already.
        sequencer.say(FRAMES.wrap("bundle", *missed[:1], *missed[2:]))
        held = (EPOCH, held[1] + 1)
    else:
        sequencer.say(Response(heartbeat=stream_pb2.StreamHeartbeat(position=sequencer.position)))
    seen = await sequencer.until_connections(2)
    assert seen.asked == held
    await scanner.until_at(sequencer)
    await reader.until_sequence(sequencer.market.list_sequence("filtered"))
    assert "reset" not in reader.kinds
    await check_equal(scanner, reader)


async def test_a_snapshot_in_mid_stream_replaces_everything(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    reader, quiet = scanner.watch("filtered"), scanner.watch("halts")
    own = scanner.watch_scan("price > 0")
    for one in (reader, quiet, own):
        await one.until("current")
    sequencer.trade({"S01": 101.0})
    await reader.until("delta")
    sequencer.is_lossy = True
    sequencer.trade({"S02": 102.0})
    sequencer.trade({"S03": 103.0})
    sequencer.is_lossy = False
    sequencer.say(Response(reset=stream_pb2.StreamReset(position=sequencer.position, reason="fell behind")))
    sequencer.say_snapshot()
    sequencer.say(Response(current=stream_pb2.StreamCurrent(position=sequencer.position)))
    await scanner.until_at(sequencer)
    await reader.until("snapshot")
    assert reader.kinds[-2:] == ["reset", "snapshot"]
    assert reader.copy.sequence == 3
    await check_equal(scanner, reader)
    await own.until("reset")
    await own.until("snapshot")
    assert {row.symbol for row in own.copy.rows()} == {"S01", "S02", "S03"}
    sequencer.trade({"S04": 104.0})
    await reader.until_sequence(4)
    await check_equal(scanner, reader)
    # A list that is the same in the new state has nothing to say.
    assert quiet.kinds == ["opened", "snapshot", "current"]


async def test_what_cannot_be_applied_asks_for_the_whole_state(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    reader = scanner.watch("filtered")
    await reader.until("current")
    sequencer.trade({"S01": 101.0})
    await reader.until_sequence(1)
    broken = Response()
    broken.frame.position.CopyFrom(stream_pb2.StreamPosition(epoch=EPOCH, sequence=sequencer.market.sequence + 1))
    broken.frame.trades.symbol_id.append(9999)
    sequencer.say(broken)
    seen = await sequencer.until_connections(2)
    assert seen.asked is None
    sequencer.trade({"S01": 102.0})
    await scanner.until_at(sequencer)
    await reader.until_sequence(2)
    await check_equal(scanner, reader)


@pytest.mark.parametrize("kind", ["snapshot", "bundle", "current", "heartbeat", "reset", "going_away"])
async def test_a_response_that_is_none_asks_for_the_whole_state(
    sequencer: ScriptedSequencer, scanner: RunningScanner, kind: str
) -> None:
    sequencer.say(FRAMES.wrap(kind, b"\xff"))
    seen = await sequencer.until_connections(2)
    assert seen.asked is None
    sequencer.trade({"S01": 102.0})
    await scanner.until_at(sequencer)


async def test_a_snapshot_with_a_piece_missing_is_asked_for_again(
    sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    for piece in [*sequencer.chunks()[:1], *sequencer.chunks()[2:]]:
        sequencer.say(piece)
    seen = await sequencer.until_connections(2)
    assert seen.asked is None
    await scanner.until_at(sequencer)


async def test_frames_are_acknowledged(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    # What came since the last acknowledgement is acknowledged with what follows: the stream never rests.
    while sequencer.readers[0].acknowledged < 128:
        sequencer.trade({"S01": 101.0})
        await asyncio.sleep(POLL_SECONDS)
    assert sequencer.readers[0].opening.credit > 0
    assert sequencer.readers[0].opening.reader == "scanner"


async def test_an_epoch_without_a_frame_yet_is_waited_for() -> None:
    """The scanner serves only once it has a market, also when the sequencer says "current" before its first frame."""
    tape = Tape(SYMBOLS)

    class Empty(ScriptedSequencer):
        def _catch_up(self, asked: tuple[int, int] | None, wants_alerts: bool) -> list[Response]:
            nothing = stream_pb2.StreamPosition(epoch=tape.epoch)
            return [
                Response(opened=data_ingest_pb2.FramesOpened(position=nothing)),
                Response(current=stream_pb2.StreamCurrent(position=nothing)),
            ]

    async def open_later(sequencer: ScriptedSequencer) -> None:
        await sequencer.until_connections(1)
        sequencer.send(*tape.opening())

    async with Empty(tape) as sequencer:
        opening = asyncio.create_task(open_later(sequencer))
        async with running_scanner(sequencer) as scanner:
            await opening
            await scanner.until_at(sequencer)
            assert (await scanner.get("filtered")).count == 0


# --- slow ones


async def test_a_slow_subscriber_gets_a_snapshot_and_never_a_hole(sequencer: ScriptedSequencer) -> None:
    """One that does not read holds up nobody, is counted, and has exactly the list when it reads again."""
    async with running_scanner(sequencer, max_held=20) as scanner:
        slow, quick = scanner.watch("filtered"), scanner.watch("filtered")
        for reader in (slow, quick):
            await reader.until("current")
        step = 0
        while scanner.hub.slow_subscribers == 0:
            step += 1
            sequencer.trade({symbol: 100.0 + step % 50 + i for i, symbol in enumerate(SYMBOLS)}, seconds=0.01)
            await quick.until_sequence(step)
        assert (await scanner.status()).slow_subscribers == 1
        for _ in range(60):
            step += 1
            sequencer.trade({symbol: 100.0 + step % 50 + i for i, symbol in enumerate(SYMBOLS)}, seconds=0.01)
            await quick.until_sequence(step)
        assert "too far behind" in (await slow.until("reset")).reset.reason
        await slow.until("snapshot")
        await slow.until_sequence(step)
        assert slow.copy.rows() == quick.copy.rows()
        assert quick.copy.resets == 0
        sequencer.trade({"S01": 99.0})
        await slow.until_sequence(step + 1)
        await quick.until_sequence(step + 1)
        assert scanner.hub.slow_subscribers == 0
        await check_equal(scanner, slow)


# --- refusals


@pytest.mark.parametrize("limit", [0, 501])
async def test_limits_out_of_range(scanner: RunningScanner, limit: int) -> None:
    stub = scanner.stub
    for call in (
        stub.GetList(scanner_pb2.GetListRequest(list="winners", limit=limit)),
        stub.GetGappers(scanner_pb2.GetGappersRequest(limit=limit)),
        stub.QueryScan(scanner_pb2.QueryScanRequest(limit=limit)),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_LIMIT")
        assert answer.message == f"expected a limit of 1 to 500, was {limit}"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch_scan("price > 1", limit=limit).read()
    assert refusal(caught.value).reason == "INVALID_LIMIT"


@pytest.mark.parametrize("limit", [0, 1001])
async def test_filtered_may_have_a_thousand(scanner: RunningScanner, limit: int) -> None:
    for call in (
        scanner.stub.GetFiltered(scanner_pb2.GetFilteredRequest(limit=limit)),
        scanner.stub.GetList(scanner_pb2.GetListRequest(list="filtered", limit=limit)),
    ):
        assert (await refused(call)).message == f"expected a limit of 1 to 1000, was {limit}"
    assert (await scanner.get("filtered", limit=1000)).count == 0


async def test_an_unknown_field_names_the_nearest(scanner: RunningScanner) -> None:
    stub, fields = scanner.stub, "price,rvoll"
    for call in (
        stub.GetList(scanner_pb2.GetListRequest(list="winners", fields=fields)),
        stub.GetGappers(scanner_pb2.GetGappersRequest(fields=fields)),
        stub.GetFiltered(scanner_pb2.GetFilteredRequest(fields=fields)),
        stub.QueryScan(scanner_pb2.QueryScanRequest(fields=fields)),
        stub.GetTickerRow(scanner_pb2.GetTickerRowRequest(symbol="S01", fields=fields)),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
        assert answer.metadata == {"name": "rvoll", "nearest": "rvol"}
    subscribed = stub.SubscribeList(None)
    await subscribed.write(Request(open_scan=scanner_pb2.WatchScanRequest(fields=fields)))
    for stream in (
        stub.WatchList(scanner_pb2.WatchListRequest(list="winners", fields=fields)),
        stub.WatchScan(scanner_pb2.WatchScanRequest(fields=fields)),
        subscribed,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ListReader(stream).read()
        assert refusal(caught.value) == answer


async def test_an_unknown_list_names_the_nearest(scanner: RunningScanner) -> None:
    answer = await refused(scanner.stub.GetList(scanner_pb2.GetListRequest(list="gaper_up")))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_LIST")
    assert answer.metadata == {"list": "gaper_up", "nearest": "gappers_up"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch("gaper_up").read()
    assert refusal(caught.value) == answer


@pytest.mark.parametrize(
    ("wrong", "reason", "metadata"),
    [
        (("rvoll > 2", ""), "INVALID_FILTER", {"position": "0", "suggestion": "rvol"}),
        (("price > ", ""), "INVALID_FILTER", {"position": "8"}),
        (("price > 1", "prize desc"), "INVALID_ORDER", {"suggestion": "price"}),
        (("price > 1" + " AND price > 1" * 200, ""), "INVALID_FILTER", {}),
    ],
)
async def test_wrong_filters(
    scanner: RunningScanner, wrong: tuple[str, str], reason: str, metadata: dict[str, str]
) -> None:
    query = scanner_pb2.QueryScanRequest(filter=wrong[0], order_by=wrong[1])
    answer = await refused(scanner.stub.QueryScan(query))
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert metadata.items() <= answer.metadata.items()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch_scan(*wrong).read()
    assert refusal(caught.value) == answer
    checked = await scanner.stub.CheckScan(scanner_pb2.CheckScanRequest(filter=wrong[0], order_by=wrong[1]))
    assert not checked.HasField("matches")
    assert (checked.mistake.reason, checked.mistake.message) == (reason, answer.message)
    assert checked.mistake.position == int(answer.metadata["position"])
    assert checked.mistake.suggestion == answer.metadata.get("suggestion", "")


async def test_wrong_gap_interval_and_position(scanner: RunningScanner) -> None:
    for gap in (-0.5, float("nan"), float("inf")):
        answer = await refused(scanner.stub.GetGappers(scanner_pb2.GetGappersRequest(min_gap=gap)))
        assert (answer.reason, answer.metadata) == ("INVALID_REQUEST", {"field": "min_gap"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch("winners", min_interval_ms=60_001).read()
    assert refusal(caught.value).message == "expected a min_interval_ms of 0 to 60000, was 60001"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch("winners", sequence=4).read()
    assert refusal(caught.value).reason == "INVALID_POSITION"


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([Request(ack=stream_pb2.StreamAck())], "OPEN_EXPECTED"),
        ([Request()], "OPEN_EXPECTED"),
        ([], "OPEN_EXPECTED"),
        ([Request(open=scanner_pb2.WatchListRequest(list="winners"))] * 2, "OPEN_REPEATED"),
    ],
)
async def test_the_grammar_of_requests(scanner: RunningScanner, requests: list[Request], reason: str) -> None:
    call = scanner.stub.SubscribeList(None)
    for request in requests:
        await call.write(request)
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while True:
            await ListReader(call).read()
    assert refusal(caught.value).reason == reason


async def test_streams_and_own_lists_are_bounded(sequencer: ScriptedSequencer) -> None:
    async with running_scanner(sequencer, max_subscribers=3, max_scans=1) as scanner:
        readers = [scanner.watch_scan("price > 1"), scanner.watch("winners")]
        for reader in readers:
            await reader.until("current")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await scanner.watch_scan("price > 2").read()
        answer = refusal(caught.value)
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SCANS")
        # An equal one is no other list.
        readers.append(scanner.watch_scan(" price > 1 "))
        await readers[-1].until("current")
        for one in (scanner.watch("winners"), scanner.watch_scan("price > 1")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await one.read()
            assert refusal(caught.value).reason == "TOO_MANY_STREAMS"
        readers[0].call.cancel()
        await scanner.until_subscribers(2)
        again = scanner.watch("losers")
        await again.until("current")


async def test_stopping_says_going_away_first(sequencer: ScriptedSequencer) -> None:
    async with running_scanner(sequencer) as scanner:
        readers = [
            scanner.watch("filtered"),
            scanner.watch_scan("price > 1"),
            scanner.watch("halts", min_interval_ms=9000),
        ]
        for reader in readers:
            await reader.until("current")
        scanner.hub.close("the scanner is stopping")
        for reader in readers:
            assert (await reader.read()).going_away.reason == "the scanner is stopping"
            with pytest.raises(EOFError):
                await reader.read()
        late = scanner.watch("filtered", ListCopy())
        await late.until("going_away")
        assert late.kinds == ["opened", "snapshot", "current", "going_away"]


def costly(start: int, steps: int) -> str:
    """A filter that takes so many steps for each row, another one for each start."""
    return f"symbol in ({','.join(chr(34) + f'S{start + i}' + chr(34) for i in range(steps - 1))})"


async def test_what_a_scan_may_cost(scanner: RunningScanner) -> None:
    assert compile_filter(costly(0, MAX_STEPS)).cost == MAX_STEPS
    query = scanner_pb2.QueryScanRequest(filter=costly(1000, MAX_STEPS))
    assert not (await scanner.stub.QueryScan(query)).rows
    query.filter = costly(0, MAX_STEPS + 1)
    answer = await refused(scanner.stub.QueryScan(query))
    assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SCAN_TOO_COSTLY")
    assert answer.metadata == {"steps": str(MAX_STEPS + 1), "maximum": str(MAX_STEPS)}
    checked = await scanner.stub.CheckScan(scanner_pb2.CheckScanRequest(filter=query.filter))
    assert (checked.mistake.reason, checked.mistake.HasField("position")) == ("SCAN_TOO_COSTLY", False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch_scan(query.filter).read()
    assert refusal(caught.value) == answer


async def test_what_all_open_scans_may_cost(scanner: RunningScanner) -> None:
    """Equal ones are one scan; one that is closed makes room."""
    fit = custom_scans.MAX_STEPS // MAX_STEPS
    readers = [scanner.watch_scan(costly(start, MAX_STEPS)) for start in range(fit)]
    readers.append(scanner.watch_scan(costly(0, MAX_STEPS)))
    for reader in readers:
        await reader.until("current")
    steps = "tradeul_scan_steps"
    assert REGISTRY.get_sample_value(steps) == custom_scans.MAX_STEPS
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.watch_scan("price > 1").read()
    answer = refusal(caught.value)
    assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SCANS")
    assert answer.metadata == {"maximum": str(custom_scans.MAX_STEPS), "steps": "1"}
    readers[1].call.cancel()
    async with asyncio.timeout(60):
        while REGISTRY.get_sample_value(steps) == custom_scans.MAX_STEPS:
            await asyncio.sleep(0.005)
    await scanner.watch_scan("price > 1").until("current")


async def test_a_long_name_and_a_large_request_cost_nothing(scanner: RunningScanner) -> None:
    """A name's likeness to others is looked for in as much of it as a name can be; what is larger is not read."""
    answer = await refused(scanner.stub.GetList(scanner_pb2.GetListRequest(list="gaper_up" + "x" * 200_000)))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_LIST")
    assert len(answer.metadata["list"]) == 100
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.stub.GetList(scanner_pb2.GetListRequest(list="x" * 300_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
