"""The older system's contract of /ws/scanner, and nothing but it: what its consumers send and get.

Through both gateways: the WebSocket server's own port and the public one, Envoy's.
"""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tradeul.v1.market_data_pb2 import SECOND
from websockets.asyncio.client import ClientConnection, connect

from fastcore.fields import BY_NAME
from services.kit.lists.definitions import load_lists
from services.kit.runtime.settings import Address
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support.gateway import Gateway, gateway_settings
from tests.support.scripted_bars import ScriptedBars, bar_batch, scripted_bars
from tests.support.scripted_scanner import ScriptedScanner, scripted_scanner, ticker_row
from tests.support.ws_client import eventually, serving

PATH = "/ws/scanner"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
OLD_LISTS = {"gappers_up", "gappers_down", "high_volume", "anomalies"}

Message = dict[str, Any]


class Setting:
    def __init__(self, url: str, scanner: ScriptedScanner, bars: ScriptedBars) -> None:
        self.url = url
        self.scanner = scanner
        self.bars = bars
        self.rng = random.Random(14)


@pytest.fixture(params=["own port", "public gateway"])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    async with contextlib.AsyncExitStack() as stack:
        scanner = await stack.enter_async_context(scripted_scanner("gappers_up", "winners"))
        bars = await stack.enter_async_context(scripted_bars("AAPL", "TSLA"))
        settings = gateway_settings(tmp_path)
        settings.addresses["scanner"] = Address.parse(scanner.address)
        settings.addresses["data_ingest"] = Address.parse(bars.address)
        server = WebSocketServer(settings, Limits(aggregate_seconds=0.05))
        await stack.enter_async_context(serving(server))
        gateway = settings.address("websocket_server")
        if request.param == "public gateway":
            await stack.enter_async_context(Gateway(settings))
            gateway = settings.address("gateway")
        gappers = scanner.lists["gappers_up"]
        rng = random.Random(15)
        gappers.change_to([ticker_row(rng, symbol) for symbol in ("AAPL", "TSLA", "NVDA")])
        yield Setting(f"ws://{gateway}{PATH}", scanner, bars)


async def receive(connection: ClientConnection) -> Message:
    async with asyncio.timeout(60):
        text = await connection.recv()
    assert isinstance(text, str), "JSON comes as text"
    message: Message = json.loads(text)
    return message


async def subscribed(setting: Setting, connection: ClientConnection) -> Message:
    """Subscribes to gappers_up; the snapshot."""
    assert (await receive(connection))["type"] == "connected"
    await connection.send('{"action":"subscribe_list","list":"gappers_up"}')
    assert await receive(connection) == {"type": "subscribed_list", "list": "gappers_up"}
    return await receive(connection)


def test_the_older_systems_lists_are_there() -> None:
    assert {spec.name for spec in load_lists()} >= OLD_LISTS


async def test_connected_comes_first_with_an_id_of_ones_own(setting: Setting) -> None:
    async with connect(setting.url) as one, connect(setting.url) as other:
        first, second = await receive(one), await receive(other)
    assert first["type"] == second["type"] == "connected"
    assert isinstance(first["connection_id"], str)
    assert first["connection_id"] != second["connection_id"]


async def test_a_snapshot_is_the_whole_list_as_in_rest(setting: Setting) -> None:
    async with connect(setting.url) as connection:
        snapshot = await subscribed(setting, connection)
    gappers = setting.scanner.lists["gappers_up"]
    assert list(snapshot) == ["type", "list", "epoch", "sequence", "rows", "count", "timestamp"]
    assert (snapshot["type"], snapshot["list"]) == ("snapshot", "gappers_up")
    assert (snapshot["epoch"], snapshot["sequence"]) == (gappers.epoch, 1)
    assert snapshot["count"] == len(snapshot["rows"]) == 3
    assert RFC_3339.fullmatch(snapshot["timestamp"])
    for row, truth in zip(snapshot["rows"], gappers.rows, strict=True):
        assert row == json_format.MessageToDict(truth, preserving_proto_field_name=True)
        assert set(row) <= {"rank", *BY_NAME}
        assert row["gap_size"] == "LARGE"
        assert row["session"] == "MARKET_OPEN"
        assert RFC_3339.fullmatch(row["updated_at"])
        assert None not in row.values()
        assert isinstance(row.get("volume_today", 0), int | float)


async def test_changes_are_told_as_add_remove_rerank_and_update(setting: Setting) -> None:
    gappers = setting.scanner.lists["gappers_up"]
    async with connect(setting.url) as connection:
        await subscribed(setting, connection)
        apple, tesla, nvidia = gappers.rows
        gappers.change_to([tesla, apple, nvidia])
        gappers.change_to([tesla, ticker_row(setting.rng, "AAPL"), ticker_row(setting.rng, "AMD")])
        reranked, mixed = await receive(connection), await receive(connection)
    assert list(reranked) == ["type", "list", "sequence", "deltas", "change_count", "timestamp"]
    assert (reranked["type"], reranked["list"], reranked["sequence"]) == ("delta", "gappers_up", 2)
    assert RFC_3339.fullmatch(reranked["timestamp"])
    assert reranked["change_count"] == 2
    assert sorted(reranked["deltas"], key=lambda change: change["symbol"]) == [
        {"action": "rerank", "symbol": "AAPL", "old_rank": 1, "new_rank": 2},
        {"action": "rerank", "symbol": "TSLA", "old_rank": 2, "new_rank": 1},
    ]
    changes = {change["symbol"]: change for change in mixed["deltas"]}
    assert mixed["sequence"] == 3
    assert mixed["change_count"] == len(mixed["deltas"]) == 3
    assert changes["NVDA"] == {"action": "remove", "symbol": "NVDA"}
    for symbol, action, rank in (("AAPL", "update", 2), ("AMD", "add", 3)):
        assert list(changes[symbol]) == ["action", "rank", "symbol", "data"]
        assert (changes[symbol]["action"], changes[symbol]["rank"]) == (action, rank)
        assert changes[symbol]["data"] == gappers.json_rows[rank - 1]


async def test_one_who_comes_back_with_a_position_gets_what_was_missed(setting: Setting) -> None:
    gappers = setting.scanner.lists["gappers_up"]
    async with connect(setting.url) as watcher:
        await subscribed(setting, watcher)
        for _ in range(3):
            gappers.change_to(gappers.rows[::-1])
            await receive(watcher)
        async with connect(setting.url) as connection:
            await receive(connection)
            request = {"action": "subscribe_list", "list": "gappers_up", "epoch": gappers.epoch, "sequence": 2}
            await connection.send(json.dumps(request))
            assert (await receive(connection))["type"] == "subscribed_list"
            messages = [await receive(connection) for _ in range(2)]
    assert [(message["type"], message["sequence"]) for message in messages] == [("delta", 3), ("delta", 4)]


async def test_resync_unsubscribe_and_ping(setting: Setting) -> None:
    gappers = setting.scanner.lists["gappers_up"]
    async with connect(setting.url) as connection:
        await subscribed(setting, connection)
        await connection.send('{"action":"resync","list":"gappers_up"}')
        assert (await receive(connection))["type"] == "snapshot"
        await connection.send('{"action":"unsubscribe_list","list":"gappers_up"}')
        await connection.send('{"action":"ping"}')
        assert await receive(connection) == {"type": "pong"}
        gappers.change_to(gappers.rows[::-1])
        await connection.send('{"action":"ping"}')
        assert await receive(connection) == {"type": "pong"}


async def test_an_aggregate_has_the_vendors_names(setting: Setting) -> None:
    async with connect(setting.url) as connection:
        await subscribed(setting, connection)
        await eventually(lambda: setting.bars.watchers)
        setting.bars.bars(bar_batch(SECOND, (0, 1_763_994_600, 20.5), op=19.0))
        aggregate = await receive(connection)
    assert list(aggregate) == ["type", "symbol", "data", "timestamp"]
    assert (aggregate["type"], aggregate["symbol"]) == ("aggregate", "AAPL")
    assert list(aggregate["data"]) == ["o", "h", "l", "c", "v", "vw", "av", "op"]
    assert aggregate["timestamp"] == "2025-11-24T14:30:00Z"


async def test_errors_say_what_and_of_which_list(setting: Setting) -> None:
    async with connect(setting.url) as connection:
        await receive(connection)
        await connection.send("not JSON")
        error = await receive(connection)
        assert list(error) == ["type", "message"]
        assert error["type"] == "error"
        await connection.send('{"action":"subscribe_list","list":"nonsense"}')
        error = await receive(connection)
        assert list(error) == ["type", "message", "list"]
        assert error["list"] == "nonsense"
