"""Custom scans and selected fields over the WebSocket, with the real scanner behind it."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import json_format

from fastcore.fields import BY_NAME
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import EPOCH, Tape
from tests.support.ws_client import WsClient, eventually, ws_client, ws_server

SYMBOLS = [f"S{i:02}" for i in range(40)]
LIMITS = Limits(scans=3, scan_linger_seconds=0.05, custom_sources=8)
RISERS = {"filter": "change_percent > 0", "order_by": "change_percent desc"}


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening())
        running.trade({"S01": 105.0, "S02": 92.0, "S03": 101.0})
        yield running


@pytest.fixture
async def scanner(sequencer: ScriptedSequencer) -> AsyncIterator[RunningScanner]:
    async with running_scanner(sequencer, max_scans=3) as running:
        await running.until_at(sequencer)
        yield running


@pytest.fixture
async def server(scanner: RunningScanner) -> AsyncIterator[WebSocketServer]:
    async with ws_server(scanner.address, LIMITS) as running:
        yield running
    await scanner.until_subscribers(0)


async def subscribe(client: WsClient, name: str, **request: Any) -> dict[str, Any]:
    """Subscribes to a scan; its snapshot."""
    await client.send(action="subscribe_scan", scan=name, **request)
    assert await client.expect("subscribed_scan") == {"type": "subscribed_scan", "scan": name}
    snapshot = await client.expect("snapshot")
    assert snapshot["list"] == name
    return snapshot


async def refused(client: WsClient, name: str, **request: Any) -> dict[str, Any]:
    await client.send(action="subscribe_scan", scan=name, **request)
    error = await client.expect("error")
    assert error["scan"] == name
    return error


async def truth(scanner: RunningScanner) -> list[dict[str, Any]]:
    """The scan RISERS as it is published, read over gRPC, as protobuf writes it."""
    reader = scanner.watch_scan(RISERS["filter"], RISERS["order_by"])
    await reader.until("snapshot")
    reader.call.cancel()
    return [json_format.MessageToDict(row, preserving_proto_field_name=True) for row in reader.copy.rows()]


async def until_equal(client: WsClient, name: str, rows: list[dict[str, Any]]) -> None:
    while client.lists[name].ranked != rows:
        await client.receive()


async def test_a_scan_is_followed_exactly_and_once_for_all_clients(
    sequencer: ScriptedSequencer, scanner: RunningScanner, server: WebSocketServer
) -> None:
    async with ws_client(server.port) as one, ws_client(server.port) as other:
        snapshot = await subscribe(one, "mine", **RISERS)
        assert snapshot["rows"] == await truth(scanner)
        assert [row["symbol"] for row in snapshot["rows"]] == ["S01", "S03"]
        # Another name, and space around the same text.
        await subscribe(other, "yours", filter="  change_percent > 0 ", order_by="change_percent desc\n")
        await subscribe(other, "twice", **RISERS, min_interval_ms=20)
        # The reader of the truth has gone.
        await eventually(lambda: (len(scanner.hub.scans), scanner.hub.subscribers) == (1, 1))
        for step in range(30):
            sequencer.trade(
                {f"S{step:02}": 100.5 + step, "S03": 101.5 + step % 7, "S01": 99.0 if step == 20 else 110.0}
            )
        await scanner.until_at(sequencer)
        rows = await truth(scanner)
        await until_equal(one, "mine", rows)
        await until_equal(other, "yours", rows)
        await until_equal(other, "twice", rows)
        assert one.lists["mine"].deltas > 5
        await one.send(action="resync", scan="mine")
        assert (await one.expect("snapshot"))["rows"] == rows
        # Nothing comes after unsubscribing, and the last one closes the scan.
        await one.send(action="unsubscribe_scan", scan="mine")
        await one.send(action="unsubscribe_scan", scan="mine")
        assert (await one.expect("error"))["scan"] == "mine"
        for name in ("yours", "twice"):
            await other.send(action="unsubscribe_scan", scan=name)
        await eventually(lambda: len(scanner.hub.scans) == 0)


async def test_another_text_under_the_same_name_replaces_the_scan(
    scanner: RunningScanner, server: WebSocketServer
) -> None:
    async with ws_client(server.port) as client:
        await subscribe(client, "mine", **RISERS)
        snapshot = await subscribe(client, "mine", filter="change_percent < 0", limit=1)
        assert [row["symbol"] for row in snapshot["rows"]] == ["S02"]
        await eventually(lambda: len(scanner.hub.scans) == 1)
        # The same again begins again.
        assert (await subscribe(client, "mine", filter="change_percent < 0", limit=1))["rows"] == snapshot["rows"]
        # One that is refused is no subscription any longer.
        await refused(client, "mine", filter="change_percent <")
        await client.send(action="unsubscribe_scan", scan="mine")
        assert "subscribed" in (await client.expect("error"))["message"]


async def test_errors_are_those_of_the_scanner(scanner: RunningScanner, server: WebSocketServer) -> None:
    async with ws_client(server.port) as client:
        error = await refused(client, "mine", filter="price > 1 AND rvoll > 2")
        assert error["reason"] == "INVALID_FILTER"
        assert (error["metadata"]["position"], error["metadata"]["suggestion"]) == ("14", "rvol")
        assert "rvol" in error["message"]
        assert (await refused(client, "mine", order_by="pricee"))["reason"] == "INVALID_ORDER"
        assert (await refused(client, "mine", limit=501))["reason"] == "INVALID_LIMIT"
        costly = f"price IN ({', '.join(map(str, range(250)))})"
        assert (await refused(client, "mine", filter=costly))["reason"] == "SCAN_TOO_COSTLY"
        # A name that a list has would make two lists one.
        for name in ("winners", "", "x" * 65):
            assert "name" in (await refused(client, name, **RISERS))["message"]
        error = await refused(client, "mine", fields=["pricee"])
        assert "'price'" in error["message"]
        await client.send(action="subscribe_scan", filter="price > 1")
        assert "scan" in (await client.expect("error"))["message"]
        await client.send(action="subscribe_scan", scan="mine", filter=3)
        await client.expect("error")


async def test_limits_of_a_client_and_of_the_scanner(scanner: RunningScanner, server: WebSocketServer) -> None:
    async with ws_client(server.port) as client, ws_client(server.port) as other:
        for number in range(3):
            await subscribe(client, f"scan {number}", filter=f"price > {number}")
        assert "3 scans" in (await refused(client, "fourth", **RISERS))["message"]
        assert (await refused(other, "mine", **RISERS))["reason"] == "TOO_MANY_SCANS"
        # What the scanner has open already costs nothing more.
        await subscribe(other, "mine", filter="price > 1")
        for fields in (["price"], ["bid"], ["ask"], ["rvol"], ["open"]):
            await other.send(action="subscribe_list", list="winners", fields=fields)
            await other.expect("subscribed_list")
            await other.expect("snapshot")
        # Selections that nobody watches any longer make room for others.
        assert server.hub.custom_sources <= LIMITS.custom_sources


async def test_a_scanner_that_restarts_numbers_anew_and_the_rows_are_its_own(
    sequencer: ScriptedSequencer,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = running_scanner(sequencer)
        scanner = await first.__aenter__()
        await scanner.until_at(sequencer)
        server = await stack.enter_async_context(ws_server(scanner.address, LIMITS))
        client = await stack.enter_async_context(ws_client(server.port))
        snapshot = await subscribe(client, "mine", **RISERS)
        assert (snapshot["epoch"], snapshot["sequence"], snapshot["count"]) == (EPOCH, 1, 2)
        await first.__aexit__(None, None, None)
        sequencer.trade({"S07": 120.0, "S01": 90.0})
        port = scanner.address.rpartition(":")[2]
        environment = {"TRADEUL_SCANNER_ADDRESS": f"127.0.0.1:{port}"}
        async with running_scanner(sequencer, environment) as again:
            await again.until_at(sequencer)
            # The same position, and other rows.
            snapshot = await client.expect("snapshot")
            assert (snapshot["epoch"], snapshot["sequence"]) == (EPOCH, 1)
            assert snapshot["rows"] == await truth(again)
            assert [row["symbol"] for row in snapshot["rows"]] == ["S07", "S03"]
            sequencer.trade({"S08": 130.0})
            await again.until_at(sequencer)
            await until_equal(client, "mine", await truth(again))
            await client.connection.close()
            await again.until_subscribers(0)


async def test_selected_fields_of_scans_and_lists(
    sequencer: ScriptedSequencer, scanner: RunningScanner, server: WebSocketServer
) -> None:
    def selected(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
        return [{name: row[name] for name in ("rank", "symbol", *names) if name in row} for row in rows]

    async with ws_client(server.port) as few, ws_client(server.port) as all_fields:
        await subscribe(all_fields, "all", **RISERS)
        snapshot = await subscribe(few, "few", **RISERS, fields=["price", "change_percent"])
        assert snapshot["rows"] == selected(await truth(scanner), "price", "change_percent")
        # In another order it is the same selection.
        await subscribe(few, "same", **RISERS, fields=["change_percent", "price", "symbol"])
        await few.send(action="subscribe_list", list="gappers_up", fields=["price"])
        await few.expect("subscribed_list")
        assert (await few.expect("snapshot"))["rows"] == [{"rank": 1, "symbol": "S01", "price": 105}]
        # One stream for each selection of the same scan, and one for the list.
        assert (len(scanner.hub.scans), scanner.hub.subscribers) == (1, 3)
        # The volume changes and nothing that is shown, then ranks and rows do.
        for prices in ({"S01": 105.0}, {"S03": 109.0}, {"S01": 104.0, "S09": 101.0}, {"S03": 100.0}):
            sequencer.trade(prices)
        await scanner.until_at(sequencer)
        rows = await truth(scanner)
        await until_equal(all_fields, "all", rows)
        for name in ("few", "same"):
            while few.lists[name].sequence != all_fields.lists["all"].sequence:
                await few.receive()
            assert few.lists[name].ranked == selected(rows, "price", "change_percent")
            assert few.lists[name].deltas == all_fields.lists["all"].deltas
        # Without fields it is another subscription of the list, in place of the first.
        await few.send(action="subscribe_list", list="gappers_up")
        while (await few.receive())["type"] != "subscribed_list":
            pass
        assert "volume_today" in (await few.expect("snapshot"))["rows"][0]


async def test_a_change_of_what_is_not_shown_is_an_empty_delta(
    sequencer: ScriptedSequencer, scanner: RunningScanner, server: WebSocketServer
) -> None:
    async with ws_client(server.port) as client:
        await subscribe(client, "mine", **RISERS, fields=["price"])
        sequencer.trade({"S01": 105.0})
        delta = await client.expect("delta")
        assert (delta["list"], delta["sequence"], delta["deltas"], delta["change_count"]) == ("mine", 2, [], 0)
        # Only its rank, although more of the row has changed.
        sequencer.trade({"S03": 101.0, "S01": 100.5})
        delta = await client.expect("delta")
        assert {change["symbol"]: change["action"] for change in delta["deltas"]} == {"S01": "update", "S03": "rerank"}


async def test_the_longest_filter_fits_into_a_message(server: WebSocketServer) -> None:
    text = "price > 1 AND symbol IN (" + ", ".join(f'"{"X" * 12}{i:03}"' for i in range(150))
    text = text[:1990].rpartition(",")[0] + ")"
    request = {
        "filter": text,
        "order_by": "abs(price + volume_today + rvol) desc, " * 7 + "symbol",
        "fields": list(BY_NAME)[:70],
    }
    assert 3500 < len(json.dumps({"action": "subscribe_scan", "scan": "longest", **request})) < 4096
    async with ws_client(server.port) as client:
        snapshot = await subscribe(client, "longest", **request)
        assert snapshot["rows"] == []
        # One character more than the language takes.
        error = await refused(client, "longer", filter=text + " " * 20 + "AND has(price)")
        assert error["reason"] == "INVALID_FILTER"
