"""Aggregates: each symbol's newest bar, to those whose lists hold it, at most once per tick."""

import random
from collections.abc import AsyncIterator

import pytest
from tradeul.v1 import bars_pb2, frame_pb2
from tradeul.v1.market_data_pb2 import MINUTE, SECOND

from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support.scripted_bars import ScriptedBars, bar_batch, scripted_bars
from tests.support.scripted_scanner import ScriptedScanner, scripted_scanner, ticker_row
from tests.support.ws_client import WsClient, eventually, ws_client, ws_server

# 2025-11-24T14:30:00Z.
OPEN = 1_763_994_600
LIMITS = Limits(aggregate_seconds=0.05)


@pytest.fixture
async def scanner() -> AsyncIterator[ScriptedScanner]:
    rng = random.Random(13)
    async with scripted_scanner("winners", "losers") as scanner:
        scanner.lists["winners"].change_to([ticker_row(rng, symbol) for symbol in ("A", "B")])
        scanner.lists["losers"].change_to([ticker_row(rng, symbol) for symbol in ("B", "C")])
        yield scanner


@pytest.fixture
async def bars() -> AsyncIterator[ScriptedBars]:
    async with scripted_bars("A", "B", "C", "D") as bars:
        yield bars


@pytest.fixture
async def server(scanner: ScriptedScanner, bars: ScriptedBars) -> AsyncIterator[WebSocketServer]:
    async with ws_server(scanner.address, LIMITS, data_ingest=bars.address) as server:
        yield server


async def watching(client: WsClient, bars: ScriptedBars, *names: str) -> None:
    for name in names:
        await client.subscribe(name)
        await client.expect("snapshot")
    await eventually(lambda: bars.watchers)


async def test_a_bar_is_told_by_the_names_of_the_contract(server: WebSocketServer, bars: ScriptedBars) -> None:
    async with ws_client(server.port) as client:
        await watching(client, bars, "winners")
        bars.bars(bar_batch(SECOND, (0, OPEN, 20.5), op=19.0))
        assert await client.expect("aggregate") == {
            "type": "aggregate",
            "symbol": "A",
            "data": {"o": 20.25, "h": 21, "l": 20, "c": 20.5, "v": 100, "vw": 20.625, "av": 12345.5, "op": 19},
            "timestamp": "2025-11-24T14:30:00Z",
        }
        bars.bars(bar_batch(SECOND, (1, OPEN, 1.5)))
        assert "op" not in (await client.expect("aggregate"))["data"]


async def test_only_symbols_of_subscribed_lists_each_once(server: WebSocketServer, bars: ScriptedBars) -> None:
    async with ws_client(server.port) as one, ws_client(server.port) as both:
        await watching(one, bars, "winners")
        await watching(both, bars, "winners", "losers")
        bars.bars(bar_batch(SECOND, *[(symbol_id, OPEN, 10.0) for symbol_id in range(4)]))
        assert [(await one.expect("aggregate"))["symbol"] for _ in range(2)] == ["A", "B"]
        assert [(await both.expect("aggregate"))["symbol"] for _ in range(3)] == ["A", "B", "C"]
        await both.send(action="unsubscribe_list", list="losers")
        await both.send(action="ping")
        await both.expect("pong")
        bars.bars(bar_batch(SECOND, (2, OPEN + 1, 10.0), (1, OPEN + 1, 10.0)))
        assert (await both.expect("aggregate"))["symbol"] == "B"


async def test_a_list_may_be_watched_without_aggregates(server: WebSocketServer, bars: ScriptedBars) -> None:
    async with ws_client(server.port) as client, ws_client(server.port) as other:
        await watching(other, bars, "winners", "losers")
        await client.send(action="subscribe_list", list="winners", aggregates=False)
        await client.expect("subscribed_list")
        await client.expect("snapshot")
        await client.subscribe("losers")
        await client.expect("snapshot")
        bars.bars(bar_batch(SECOND, *[(symbol_id, OPEN, 10.0) for symbol_id in range(4)]))
        assert [(await other.expect("aggregate"))["symbol"] for _ in range(3)] == ["A", "B", "C"]
        assert [(await client.expect("aggregate"))["symbol"] for _ in range(2)] == ["B", "C"]


async def test_the_newest_bar_counts_and_late_ones_do_not(server: WebSocketServer, bars: ScriptedBars) -> None:
    async with ws_client(server.port) as client:
        await watching(client, bars, "winners")
        bars.bars(bar_batch(SECOND, (0, OPEN, 10.0), (0, OPEN + 2, 12.0), (0, OPEN + 1, 11.0)))
        assert (await client.expect("aggregate"))["data"]["c"] == 12
        bars.bars(bar_batch(SECOND, (0, OPEN + 1, 11.5)))
        bars.bars(bar_batch(SECOND, (1, OPEN + 1, 5.0)))
        assert (await client.expect("aggregate"))["symbol"] == "B"
        # The same bar again replaces the earlier one.
        bars.bars(bar_batch(SECOND, (0, OPEN + 2, 12.5)))
        assert (await client.expect("aggregate"))["data"]["c"] == 12.5


async def test_minutes_are_for_symbols_without_seconds(server: WebSocketServer, bars: ScriptedBars) -> None:
    async with ws_client(server.port) as client:
        await watching(client, bars, "winners")
        bars.bars(bar_batch(SECOND, (0, OPEN, 10.0)))
        await client.expect("aggregate")
        bars.bars(bar_batch(MINUTE, (0, OPEN + 60, 11.0), (1, OPEN + 60, 5.0)))
        assert (await client.expect("aggregate"))["symbol"] == "B"


async def test_nobody_watching_means_no_stream_of_bars(scanner: ScriptedScanner, bars: ScriptedBars) -> None:
    limits = LIMITS._replace(linger_seconds=0.05)
    async with ws_server(scanner.address, limits, data_ingest=bars.address) as server:
        async with ws_client(server.port) as client:
            assert not bars.watchers
            await watching(client, bars, "winners")
        await eventually(lambda: not bars.watchers)


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        bars_pb2.WatchBarsResponse(bars=bar_batch(SECOND, (99, OPEN, 1.0))),
        bars_pb2.WatchBarsResponse(symbols=frame_pb2.SymbolTable(first_id=77, symbols=["X"])),
        bars_pb2.WatchBarsResponse(),
    ],
)
async def test_a_broken_stream_of_bars_is_opened_again_and_lists_go_on(
    scanner: ScriptedScanner,
    server: WebSocketServer,
    bars: ScriptedBars,
    trouble: bars_pb2.WatchBarsResponse | None,
) -> None:
    async with ws_client(server.port) as client:
        await watching(client, bars, "winners")
        (before,) = bars.watchers
        bars.send(trouble)
        await eventually(lambda: bars.watchers and before not in bars.watchers)
        bars.bars(bar_batch(SECOND, (0, OPEN, 10.0)))
        await client.expect("aggregate")
        scanner.lists["winners"].shuffle(random.Random(1))
        await client.expect("delta")


async def test_lists_do_not_need_bars(scanner: ScriptedScanner) -> None:
    async with ws_server(scanner.address, LIMITS, data_ingest="127.0.0.1:1") as server:
        async with ws_client(server.port) as client:
            await client.subscribe("winners")
            await client.expect("snapshot")
            scanner.lists["winners"].shuffle(random.Random(1))
            await client.expect("delta")
        assert server.condition == "running"


async def test_of_two_sequencers_one_that_stands_still_is_left_for_the_other(scanner: ScriptedScanner) -> None:
    async with scripted_bars("A", "B") as still, scripted_bars("B", "A") as leader:
        async with ws_server(scanner.address, LIMITS, sequencers=(still.address, leader.address)) as server:
            async with ws_client(server.port) as client:
                # Before the other one leads, this one does; then it says nothing any more.
                await watching(client, still, "winners")
                still.bars(bar_batch(SECOND, (0, OPEN, 10.0)))
                assert (await client.expect("aggregate"))["symbol"] == "A"
                await eventually(lambda: leader.watchers)
                leader.bars(bar_batch(SECOND, (0, OPEN + 1, 20.0)))
                assert (await client.expect("aggregate"))["symbol"] == "B"
