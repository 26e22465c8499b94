"""Alerts over the WebSocket, with the real scanner behind it: selected, resumed, and never silently lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import json_format
from prometheus_client import REGISTRY
from tradeul.v1 import alerts_pb2

from fastcore.alert_rules import AlertRule
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import EPOCH, Tape
from tests.support.ws_client import WsClient, eventually, ws_client, ws_server

SYMBOLS = ["AA", "BB"]
UP = AlertRule("up", "Up", "grows(price)", quality="change_percent", text="up to {price}")
DOWN = AlertRule("down", "Down", "shrinks(price)", text="down to {price}")
LIMITS = Limits(unsent_bytes=4096, kernel_unsent_bytes=4096)


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening(), tape.alert_rules(DOWN, UP), tape.trades(dict.fromkeys(SYMBOLS, 100.0)))
        running.send(tape.watermark())
        yield running


@pytest.fixture
async def scanner(sequencer: ScriptedSequencer) -> AsyncIterator[RunningScanner]:
    async with running_scanner(sequencer) as running:
        await running.until_at(sequencer)
        yield running


@pytest.fixture
async def server(scanner: RunningScanner) -> AsyncIterator[WebSocketServer]:
    async with ws_server(scanner.address, LIMITS) as running:
        yield running
    async with asyncio.timeout(60):
        assert scanner.service.alert_streams is not None
        while scanner.service.alert_streams.readers:
            await asyncio.sleep(0.01)


def move(sequencer: ScriptedSequencer, **prices: float) -> None:
    sequencer.send(sequencer.tape.trades(prices), sequencer.tape.watermark(1))


async def subscribe(client: WsClient, **request: Any) -> None:
    await client.send(action="subscribe_alerts", **request)
    assert await client.expect("subscribed_alerts") == {"type": "subscribed_alerts"}


async def alerts(client: WsClient, count: int) -> list[tuple[int, str, str]]:
    """The next alerts; that the client is current may be said in between."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = await client.receive()
        assert message["type"] in ("alert", "alerts_current"), message
        if message["type"] == "alert":
            found.append(message)
    return [(each["sequence"], each["rule"], each["symbol"]) for each in found]


def sent_alerts() -> float:
    return REGISTRY.get_sample_value("tradeul_ws_messages_total", {"type": "alert"}) or 0.0


async def test_alerts_are_selected_and_say_what_the_scanner_says(
    server: WebSocketServer, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    async with ws_client(server.port) as everything, ws_client(server.port) as some:
        await subscribe(everything)
        assert await everything.expect("alerts_current") == {"type": "alerts_current", "epoch": EPOCH, "sequence": 0}
        await subscribe(some, rules=["up"], filter="price > 101.5", min_quality=2)
        move(sequencer, AA=101.0, BB=99.0)
        move(sequencer, AA=103.0)
        first = await everything.expect("alert")
        answer = await scanner.alerts.ListAlerts(alerts_pb2.ListAlertsRequest())
        expected = json.loads(
            json_format.MessageToJson(
                answer.alerts[-1], preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )
        assert first == {"type": "alert", **expected}
        assert await alerts(everything, 2) == [(2, "up", "AA"), (3, "up", "AA")]
        assert await alerts(some, 1) == [(3, "up", "AA")]
        # Another subscription replaces the one before.
        await subscribe(everything, rules=["down"])
        move(sequencer, AA=104.0, BB=98.0)
        assert await alerts(everything, 1) == [(4, "down", "BB")]
        await everything.send(action="unsubscribe_alerts")
        await everything.send(action="ping")
        await everything.expect("pong")
        move(sequencer, BB=97.0)
        await scanner.until_at(sequencer)
        await everything.send(action="ping")
        await everything.expect("pong")


async def test_a_client_goes_on_from_its_position_and_is_told_what_is_lost(
    server: WebSocketServer, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    for step in range(5):
        move(sequencer, AA=101.0 + step)
    await scanner.until_at(sequencer)
    async with ws_client(server.port) as client:
        await subscribe(client, epoch=EPOCH, sequence=2)
        assert await alerts(client, 3) == [(3, "up", "AA"), (4, "up", "AA"), (5, "up", "AA")]
        assert (await client.expect("alerts_current"))["sequence"] == 5
        scanner.alert_log._max_held = 2
        move(sequencer, AA=106.0)
        assert await alerts(client, 1) == [(6, "up", "AA")]
        await subscribe(client, epoch=EPOCH, sequence=1)
        reset = await client.expect("alerts_reset")
        assert (reset["epoch"], reset["sequence"]) == (EPOCH, 4)
        assert "older than the oldest held" in reset["reason"]
        assert await alerts(client, 2) == [(5, "up", "AA"), (6, "up", "AA")]


@pytest.mark.parametrize(
    ("request_", "reason", "says"),
    [
        ({"rules": ["upp"]}, "UNKNOWN_ALERT_RULE", "there is no alert rule 'upp'"),
        ({"filter": "pric > 1"}, "INVALID_FILTER", "unknown field 'pric'"),
    ],
)
async def test_what_the_scanner_refuses_is_an_error(
    server: WebSocketServer, request_: dict[str, Any], reason: str, says: str
) -> None:
    async with ws_client(server.port) as client:
        await client.send(action="subscribe_alerts", **request_)
        error = await client.expect("error")
        assert (error["alerts"], error["reason"]) == (True, reason)
        assert says in error["message"]
        await subscribe(client)
        await client.expect("alerts_current")
        await client.send(action="subscribe_alerts", epoch=3)
        assert "epoch and sequence or neither" in (await client.expect("error"))["message"]
        await client.send(action="subscribe_alerts", min_quality="high")
        assert "min_quality" in (await client.expect("error"))["message"]


async def test_a_slow_client_gets_everything_in_order(
    server: WebSocketServer, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    async with ws_client(server.port) as client:
        await subscribe(client)
        await client.expect("alerts_current")
        (peer,) = server.hub.clients
        peer.pause_writing()
        before = sent_alerts()
        for step in range(300):
            move(sequencer, AA=101.0 + step / 10)
        await scanner.until_at(sequencer)
        assert scanner.service.alert_streams is not None
        readers = scanner.service.alert_streams.readers
        await eventually(lambda: any(reader.position.sequence > 20 for reader in readers))
        assert peer.is_blocked
        assert sent_alerts() == before, "nothing is written to a full buffer"
        peer.resume_writing()
        assert await alerts(client, 300) == [(number, "up", "AA") for number in range(1, 301)]


async def test_a_restart_of_the_scanner_repeats_none_and_loses_none_that_it_holds(
    sequencer: ScriptedSequencer,
) -> None:
    async with running_scanner(sequencer) as other:
        await other.until_at(sequencer)
        async with ws_server(other.address, LIMITS) as server, ws_client(server.port) as client:
            await subscribe(client)
            move(sequencer, AA=101.0)
            assert await alerts(client, 1) == [(1, "up", "AA")]
            assert other.service.alert_streams is not None
            # As when the connection to the scanner is cut.
            (follower,) = server.hub._alerts.values()
            streams = list(other.service.alert_streams.readers)
            for stream in streams:
                stream.closing = "cut"
                stream.wake()
            move(sequencer, AA=102.0)
            move(sequencer, AA=103.0)
            assert await alerts(client, 2) == [(2, "up", "AA"), (3, "up", "AA")]
            assert follower in server.hub._alerts.values()
