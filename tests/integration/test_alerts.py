"""AlertsService of the real scanner, over gRPC: pages, streams, positions."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio
import pytest
from google.api import httpbody_pb2
from tradeul.v1 import alerts_pb2, stream_pb2

from fastcore.alert_rules import AlertRule
from services.scanner import alert_pages
from tests.support.refusals import refusal
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import EPOCH, Tape

SYMBOLS = ["AA", "BB", "CC"]
UP = AlertRule("up", "Up", "grows(price)", quality="change_percent", text="up to {price}")
DOWN = AlertRule("down", "Down", "shrinks(price)", text="down to {price}")
Response = alerts_pb2.WatchAlertsResponse


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening(), tape.alert_rules(DOWN, UP))
        yield running


@pytest.fixture
async def scanner(sequencer: ScriptedSequencer) -> AsyncIterator[RunningScanner]:
    async with running_scanner(sequencer) as running:
        yield running


async def move(scanner: RunningScanner, sequencer: ScriptedSequencer, prices: Mapping[str, float]) -> None:
    """Trades at these prices, and a watermark."""
    tape = sequencer.tape
    sequencer.send(tape.trades(prices), tape.watermark())
    await scanner.until_at(sequencer)


class Reader:
    """A client of a stream of alerts."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def next(self) -> Response:
        response = await self.call.read()
        assert isinstance(response, Response), "the stream goes on"
        return response

    async def until(self, kind: str) -> list[Response]:
        """The responses up to the next one of a kind, it included."""
        found = [await self.next()]
        while found[-1].WhichOneof("response") != kind:
            found.append(await self.next())
        return found

    async def alerts(self, count: int) -> list[tuple[int, str, str]]:
        """The next alerts: sequence, rule, symbol."""
        found: list[tuple[int, str, str]] = []
        while len(found) < count:
            response = await self.next()
            if response.HasField("alert"):
                found.append((response.alert.sequence, response.alert.rule, response.alert.symbol))
        return found


def watch(scanner: RunningScanner, **request: Any) -> Reader:
    return Reader(scanner.alerts.WatchAlerts(alerts_pb2.WatchAlertsRequest(**request)))


async def page(scanner: RunningScanner, **request: Any) -> alerts_pb2.AlertPage:
    answer: alerts_pb2.AlertPage = await scanner.alerts.ListAlerts(alerts_pb2.ListAlertsRequest(**request))
    return answer


def names(alerts: Any) -> list[tuple[int, str, str]]:
    return [(alert.sequence, alert.rule, alert.symbol) for alert in alerts]


async def test_rules_pages_and_what_an_alert_says(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    await move(scanner, sequencer, {"AA": 100.0, "BB": 50.0})
    await move(scanner, sequencer, {"AA": 101.0, "BB": 49.0})
    await move(scanner, sequencer, {"AA": 103.0, "BB": 51.0})
    rules = await scanner.alerts.ListAlertRules(alerts_pb2.ListAlertRulesRequest())
    assert [(each.rule.name, each.rule.when, each.alerts_today, each.mistake) for each in rules.rules] == [
        ("down", "shrinks(price)", 1, ""),
        ("up", "grows(price)", 3, ""),
    ]
    everything = await page(scanner)
    assert names(everything.alerts) == [(4, "up", "BB"), (3, "up", "AA"), (2, "up", "AA"), (1, "down", "BB")]
    assert (everything.count, everything.next_page_token) == (4, "")
    assert (everything.position.epoch, everything.position.sequence) == (EPOCH, 4)
    newest = everything.alerts[1]
    assert (newest.text, newest.quality, newest.epoch) == ("up to 103", 3.0, EPOCH)
    assert not newest.HasField("quality_rank")
    assert not newest.HasField("level")
    assert (newest.row.symbol, newest.row.price, newest.row.HasField("rank")) == ("AA", 103.0, False)
    assert newest.time.ToNanoseconds() == sequencer.tape.now_ns
    first = await page(scanner, limit=3)
    rest = await page(scanner, limit=3, page_token=first.next_page_token)
    assert names([*first.alerts, *rest.alerts]) == names(everything.alerts)
    assert rest.next_page_token == ""
    assert names((await page(scanner, rules="down")).alerts) == [(1, "down", "BB")]
    assert names((await page(scanner, symbol="BB")).alerts) == [(4, "up", "BB"), (1, "down", "BB")]
    assert names((await page(scanner, min_quality=2)).alerts) == [(3, "up", "AA")]
    assert names((await page(scanner, filter="price < 50")).alerts) == [(1, "down", "BB")]
    time = everything.alerts[0].time.ToJsonString()
    assert names((await page(scanner, **{"from": time})).alerts) == [(4, "up", "BB"), (3, "up", "AA")]
    assert names((await page(scanner, to=time)).alerts) == [(2, "up", "AA"), (1, "down", "BB")]


@pytest.mark.parametrize(
    ("request_", "reason", "says"),
    [
        ({"rules": "upp"}, "UNKNOWN_ALERT_RULE", "there is no alert rule 'upp'"),
        ({"filter": "pric > 1"}, "INVALID_FILTER", "unknown field 'pric'"),
        ({"filter": "grows(high)"}, "INVALID_FILTER", "only in when and rearm"),
        ({"limit": 501}, "INVALID_LIMIT", "expected a limit of 1 to 500"),
        ({"from": "yesterday"}, "INVALID_TIME", "from: expected a time like"),
        ({"to": ""}, "INVALID_TIME", "to: expected a time like"),
        ({"symbol": "ZZ"}, "UNKNOWN_SYMBOL", "no symbol 'ZZ'"),
        ({"page_token": "x"}, "INVALID_REQUEST", "next_page_token"),
    ],
)
async def test_wrong_requests_are_refused(
    scanner: RunningScanner, request_: dict[str, Any], reason: str, says: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await page(scanner, **request_)
    answer = refusal(caught.value)
    assert answer.reason == reason
    assert says in (caught.value.details() or "")


async def test_a_stream_goes_on_from_a_position(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    await move(scanner, sequencer, {"AA": 100.0, "BB": 50.0})
    live = watch(scanner)
    assert [each.WhichOneof("response") for each in await live.until("current")] == ["opened", "current"]
    ups = watch(scanner, rules="up", filter="price > 60", min_quality=2)
    await ups.until("current")
    await move(scanner, sequencer, {"AA": 101.0, "BB": 49.0})
    await move(scanner, sequencer, {"AA": 103.0, "BB": 51.0})
    everything = [(1, "down", "BB"), (2, "up", "AA"), (3, "up", "AA"), (4, "up", "BB")]
    assert await live.alerts(4) == everything
    assert await ups.alerts(1) == [(3, "up", "AA")]
    again = watch(scanner, epoch=EPOCH, sequence=2)
    missed = await again.until("current")
    assert names(each.alert for each in missed if each.HasField("alert")) == everything[2:]
    assert missed[-1].current.position.sequence == 4
    assert scanner.service.alert_streams is not None
    scanner.service.alert_streams._ahead_seconds = 0.0
    ahead = await watch(scanner, epoch=EPOCH, sequence=9).until("current")
    assert [each.WhichOneof("response") for each in ahead] == ["opened", "reset", "current"]
    assert ahead[1].reset.reason == f"position {EPOCH}/9 is ahead of the newest, 4"
    assert ahead[1].reset.position.sequence == 4
    other = await watch(scanner, epoch=1, sequence=1).until("reset")
    assert "of another epoch" in other[-1].reset.reason


async def test_a_replica_that_is_behind_is_waited_for(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    await move(scanner, sequencer, {"AA": 100.0})
    assert scanner.service.alert_streams is not None
    scanner.service.alert_streams._ahead_seconds = 30.0
    early = watch(scanner, epoch=EPOCH, sequence=1)
    opening = asyncio.create_task(early.until("current"))
    await move(scanner, sequencer, {"AA": 101.0})
    await move(scanner, sequencer, {"AA": 102.0})
    found = await opening
    assert not any(each.HasField("reset") for each in found)
    if not any(each.HasField("alert") for each in found):
        found += await early.until("alert")
    assert names(each.alert for each in found if each.HasField("alert")) == [(2, "up", "AA")]


async def test_a_filter_is_compared_in_parts(
    sequencer: ScriptedSequencer, scanner: RunningScanner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_pages, "MOST_COMPARED", 2)
    for price in (100.0, 101.0, 102.0, 103.0, 104.0):
        await move(scanner, sequencer, {"AA": price})
    pages = [await page(scanner, filter="price < 102")]
    while pages[-1].next_page_token:
        pages.append(await page(scanner, filter="price < 102", page_token=pages[-1].next_page_token))
    assert [names(each.alerts) for each in pages] == [[], [(1, "up", "AA")]]


async def test_a_subscription_ends_when_it_is_cancelled(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    requests: asyncio.Queue[alerts_pb2.SubscribeAlertsRequest] = asyncio.Queue()

    async def sent() -> AsyncIterator[alerts_pb2.SubscribeAlertsRequest]:
        while True:
            yield await requests.get()

    call = scanner.alerts.SubscribeAlerts(sent())
    reader = Reader(call)
    requests.put_nowait(alerts_pb2.SubscribeAlertsRequest(open=alerts_pb2.WatchAlertsRequest(rules="up")))
    await reader.until("current")
    await move(scanner, sequencer, {"CC": 10.0})
    await move(scanner, sequencer, {"CC": 11.0})
    assert await reader.alerts(1) == [(1, "up", "CC")]
    requests.put_nowait(alerts_pb2.SubscribeAlertsRequest(cancel=stream_pb2.StreamCancel()))
    assert await call.code() == grpc.StatusCode.OK


async def test_server_sent_events_have_positions(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    await move(scanner, sequencer, {"AA": 100.0})
    request = alerts_pb2.WatchAlertsRequest()
    call = scanner.alerts.WatchAlertsEvents(request, metadata=(("last-event-id", f"{EPOCH}/0"),))
    await move(scanner, sequencer, {"AA": 101.0})
    events: list[tuple[list[str], dict[str, Any]]] = []
    while not events or "alert" not in events[-1][1]:
        body = await call.read()
        assert isinstance(body, httpbody_pb2.HttpBody)
        assert body.content_type == "text/event-stream"
        *head, data = body.data.decode().strip().split("\n")
        events.append((head, json.loads(data.removeprefix("data: "))))
    assert events[-1][0] == [f"id: {EPOCH}/1"]
    alert = events[-1][1]["alert"]
    assert (alert["rule"], alert["symbol"], alert["row"]["price"]) == ("up", "AA", 101.0)


async def test_rules_change_while_it_runs(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    tape = sequencer.tape
    await move(scanner, sequencer, {"AA": 100.0})
    sequencer.send(tape.alert_rules(UP, AlertRule("wrong", "Wrong", "grows(pric)")))
    await move(scanner, sequencer, {"AA": 101.0})
    await move(scanner, sequencer, {"AA": 100.0})
    rules = await scanner.alerts.ListAlertRules(alerts_pb2.ListAlertRulesRequest())
    assert [(each.rule.name, each.alerts_today) for each in rules.rules] == [("up", 1), ("wrong", 0)]
    assert "unknown field 'pric'" in rules.rules[1].mistake
    sequencer.send(tape.alert_rules(DOWN, disabled=[UP]))
    await move(scanner, sequencer, {"AA": 102.0})
    await move(scanner, sequencer, {"AA": 101.0})
    rules = await scanner.alerts.ListAlertRules(alerts_pb2.ListAlertRulesRequest())
    assert [(each.rule.name, each.enabled, each.alerts_today) for each in rules.rules] == [
        ("down", True, 1),
        ("up", False, 0),
    ]
    # Its alerts of before can still be selected.
    assert names((await page(scanner, rules="up")).alerts) == [(1, "up", "AA")]


async def test_a_day_begins_without_alerts(sequencer: ScriptedSequencer, scanner: RunningScanner) -> None:
    tape = sequencer.tape
    await move(scanner, sequencer, {"AA": 100.0})
    await move(scanner, sequencer, {"AA": 101.0})
    reader = watch(scanner, epoch=EPOCH, sequence=0)
    assert await reader.alerts(1) == [(1, "up", "AA")]
    sequencer.send(tape.next_day())
    await move(scanner, sequencer, {"AA": 200.0})
    assert (await page(scanner)).count == 0
    await move(scanner, sequencer, {"AA": 201.0})
    assert await reader.alerts(1) == [(2, "up", "AA")]


async def test_slow_clients_are_told_what_they_lost(sequencer: ScriptedSequencer) -> None:
    async with running_scanner(sequencer) as scanner:
        scanner.alert_log._max_held = 3
        await move(scanner, sequencer, {"AA": 100.0})
        for step in range(6):
            await move(scanner, sequencer, {"AA": 101.0 + step})
        found = await watch(scanner, epoch=EPOCH, sequence=1).until("current")
        assert found[1].reset.position.sequence == 3
        assert "older than the oldest held, 4" in found[1].reset.reason
        assert [each.alert.sequence for each in found if each.HasField("alert")] == [4, 5, 6]
        assert (await page(scanner)).since.ToNanoseconds() > 0
        rules = await scanner.alerts.ListAlertRules(alerts_pb2.ListAlertRulesRequest())
        assert [each.alerts_today for each in rules.rules] == [0, 6], "the day's, not only those held"
        sequencer.send(sequencer.tape.next_day())
        await move(scanner, sequencer, {"AA": 200.0})
        rules = await scanner.alerts.ListAlertRules(alerts_pb2.ListAlertRulesRequest())
        assert [each.alerts_today for each in rules.rules] == [0, 0]


async def test_streams_end_with_going_away(sequencer: ScriptedSequencer) -> None:
    async with running_scanner(sequencer) as scanner:
        await move(scanner, sequencer, {"AA": 100.0})
        reader = watch(scanner)
        await reader.until("current")
        await scanner.service.drain()
        assert (await reader.until("going_away"))[-1].going_away.reason == "the scanner is stopping"
        late = await watch(scanner).until("going_away")
        assert late[0].HasField("opened")
