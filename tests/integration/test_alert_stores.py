"""The scanner's alerts in a real PostgreSQL and a real Redis: each once, whoever writes, and pages that reach back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import pytest
import structlog
from google.protobuf import json_format
from tradeul.v1 import alerts_pb2

from fastcore.alert_rules import AlertRule
from services.cli.local.embedded import postgres_url
from services.scanner import missed_alerts, redis_alerts
from services.scanner.metrics import ALERTS_MISSED
from services.scanner.redis_alerts import STREAM
from services.scanner.redis_lists import LEASE_KEY
from tests.support.redis_server import RedisServer
from tests.support.refusals import refusal
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.stores import Stores, module_stores
from tests.support.tape import EPOCH, Tape

SYMBOLS = ["AA", "BB", "CC"]
UP = AlertRule("up", "Up", "grows(price)", quality="change_percent", text="up to {price}")
DOWN = AlertRule("down", "Down", "shrinks(price)", text="down to {price}")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute("TRUNCATE alert_events")
    yield connection
    await connection.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path) as running:
        yield running


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening(), tape.alert_rules(DOWN, UP), tape.trades(dict.fromkeys(SYMBOLS, 100.0)))
        running.send(tape.watermark())
        yield running


def move(sequencer: ScriptedSequencer, **prices: float) -> None:
    """Trades at these prices, and a watermark: one alert of each symbol that moved."""
    sequencer.send(sequencer.tape.trades(prices), sequencer.tape.watermark(1))


async def until_stored(database: asyncpg.Connection, count: int) -> list[Any]:
    async with asyncio.timeout(60):
        while await database.fetchval("SELECT count(*) FROM alert_events") < count:
            await asyncio.sleep(POLL_SECONDS)
    return list(await database.fetch("SELECT * FROM alert_events ORDER BY epoch, sequence"))


async def page(scanner: RunningScanner, **request: Any) -> alerts_pb2.AlertPage:
    answer: alerts_pb2.AlertPage = await scanner.alerts.ListAlerts(alerts_pb2.ListAlertsRequest(**request))
    return answer


async def all_pages(scanner: RunningScanner, **request: Any) -> list[alerts_pb2.Alert]:
    pages = [await page(scanner, **request)]
    while pages[-1].next_page_token:
        pages.append(await page(scanner, **request, page_token=pages[-1].next_page_token))
    return [alert for each in pages for alert in each.alerts]


def sequences(alerts: list[alerts_pb2.Alert]) -> list[int]:
    return [alert.sequence for alert in alerts]


async def test_two_scanners_store_each_alert_once(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer
) -> None:
    environment = stores.environment()
    async with running_scanner(sequencer, environment) as one, running_scanner(sequencer, environment) as two:
        move(sequencer, AA=101.0, BB=99.0)
        move(sequencer, AA=103.0)
        for scanner in (one, two):
            await scanner.until_at(sequencer)
        newest = (await page(one, limit=1)).alerts[0]
    rows = await until_stored(database, 3)
    assert [(row["epoch"], row["sequence"], row["rule"], row["symbol"]) for row in rows] == [
        (EPOCH, 1, "down", "BB"),
        (EPOCH, 2, "up", "AA"),
        (EPOCH, 3, "up", "AA"),
    ]
    last = rows[-1]
    assert (last["quality"], last["quality_rank"], last["level"], last["text"]) == (3.0, None, None, "up to 103")
    assert (last["price"], last["change_percent"], last["volume_today"]) == (103.0, 3.0, 300.0)
    assert last["time"].timestamp() == pytest.approx(sequencer.tape.now_ns / 1e9)
    assert alerts_pb2.Alert.FromString(last["alert"]) == newest


async def test_pages_reach_back_beyond_what_is_in_memory(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer
) -> None:
    async with running_scanner(sequencer, stores.environment()) as before:
        for step in range(7):
            move(sequencer, AA=101.0 + step, BB=99.0 - step)
        await before.until_at(sequencer)
        whole = list((await page(before)).alerts)
        assert sequences(whole) == list(range(14, 0, -1))
        # In memory alone there is no next page, and the history has none before.
        assert await all_pages(before) == whole
        await until_stored(database, 14)
        before.alert_log._max_held = 4
        move(sequencer, AA=110.0)
        await before.until_at(sequencer)
        await until_stored(database, 15)
        assert sequences(await all_pages(before)) == list(range(15, 0, -1))
    sequencer.keep_alerts(0)
    async with running_scanner(sequencer, stores.environment()) as scanner:
        # It has seen nothing yet, and so the first page is of the history.
        assert sequences(await all_pages(scanner)) == list(range(15, 0, -1))
        move(sequencer, AA=111.0)
        await scanner.until_at(sequencer)
        first = await page(scanner)
        assert (sequences(list(first.alerts)), bool(first.next_page_token)) == ([16], True)
        for limit in (1, 3, 500):
            found = await all_pages(scanner, limit=limit)
            assert sequences(found) == list(range(16, 0, -1))
            assert found[2:] == whole
        assert sequences(await all_pages(scanner, rules="down")) == list(range(13, 0, -2))
        assert sequences(await all_pages(scanner, symbol="AA", min_quality=6.0)) == [16, 15, 14, 12]
        compared = await all_pages(scanner, filter="price > 105.5", limit=2)
        assert sequences(compared) == [16, 15, 14, 12]
        times = [alert.time.ToJsonString() for alert in whole]
        assert sequences(await all_pages(scanner, **{"from": times[5], "to": times[1]})) == [12, 11, 10, 9]
        assert (await page(scanner, to=times[-1])).count == 0


async def test_gone_rules_and_symbols_are_found_in_the_past_only(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer
) -> None:
    async with running_scanner(sequencer, stores.environment()) as before:
        move(sequencer, AA=101.0)
        await before.until_at(sequencer)
        await until_stored(database, 1)
    alert = alerts_pb2.Alert.FromString(await database.fetchval("SELECT alert FROM alert_events"))
    alert.rule, alert.symbol = "gone", "GONE"
    await database.execute(
        "UPDATE alert_events SET rule = 'gone', symbol = 'GONE', alert = $1", alert.SerializeToString()
    )
    sequencer.keep_alerts(0)
    async with running_scanner(sequencer, stores.environment()) as scanner:
        past = {"from": "2026-03-01T00:00:00Z"}
        assert sequences(await all_pages(scanner, rules="gone", **past)) == [1]
        assert sequences(await all_pages(scanner, symbol="gone", **past)) == [1]
        for wrong in ({"rules": "gone"}, {"symbol": "GONE"}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await page(scanner, **wrong)
            assert refusal(caught.value).code is grpc.StatusCode.NOT_FOUND


async def test_without_the_database_pages_end_with_what_is_in_memory(
    tmp_path: Path, sequencer: ScriptedSequencer
) -> None:
    environment = {"TRADEUL_DATABASE_URL": postgres_url(tmp_path), "TRADEUL_DATA_DIR": str(tmp_path)}
    async with running_scanner(sequencer, environment) as scanner:
        assert (await page(scanner)).count == 0
        move(sequencer, AA=101.0)
        await scanner.until_at(sequencer)
        first = await page(scanner)
        assert (sequences(list(first.alerts)), bool(first.next_page_token)) == ([1], True)
        for request in ({"page_token": first.next_page_token}, {"from": "2026-03-01T00:00:00Z", "symbol": "BB"}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await page(scanner, **request)
            assert refusal(caught.value).reason == "STORE_UNAVAILABLE"


async def test_what_came_while_the_database_was_away_is_stored_later(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer, tmp_path: Path
) -> None:
    away = {"TRADEUL_DATABASE_URL": postgres_url(tmp_path), "TRADEUL_DATA_DIR": str(tmp_path)}
    async with running_scanner(sequencer, away) as scanner:
        for step in range(5):
            move(sequencer, AA=101.0 + step)
        await scanner.until_at(sequencer)
    back = {**stores.environment(), "TRADEUL_DATA_DIR": str(tmp_path)}
    async with running_scanner(sequencer, back):
        rows = await until_stored(database, 5)
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4, 5]


async def test_what_fired_while_no_scanner_ran_is_stored_and_streamed(
    stores: Stores, database: asyncpg.Connection, server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    environment = {**stores.environment(), "TRADEUL_REDIS_URL": server.url}
    async with running_scanner(sequencer, environment) as before:
        move(sequencer, AA=101.0, BB=99.0)
        await before.until_at(sequencer)
        await until_stored(database, 2)
        await until_entries(server, 2)
        # A process that is killed takes with it what it has not stored yet.
        before.alert_log.store = lambda encoded: None
        move(sequencer, AA=102.0)
        assert await until_entries(server, 3) == [1, 2, 3]
    move(sequencer, AA=103.0, BB=98.0)
    move(sequencer, AA=104.0)
    async with running_scanner(sequencer, environment) as scanner:
        call: Any = scanner.alerts.WatchAlerts(alerts_pb2.WatchAlertsRequest(epoch=EPOCH, sequence=2))
        move(sequencer, CC=101.0)
        seen: list[int] = []
        while len(seen) < 5:
            response = await call.read()
            assert response.WhichOneof("response") != "reset"
            if response.HasField("alert"):
                seen.append(response.alert.sequence)
        call.cancel()
        assert seen == [3, 4, 5, 6, 7]
        assert sequences(await all_pages(scanner)) == [7, 6, 5, 4, 3, 2, 1]
        rows = await until_stored(database, 7)
        assert await until_entries(server, 7) == [1, 2, 3, 4, 5, 6, 7]
        streamed = [json.loads(fields["payload"]) for _, fields in await server.redis.xrange(STREAM)]
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    stored = [alerts_pb2.Alert.FromString(row["alert"]) for row in rows]
    assert [(alert.rule, alert.symbol, alert.text) for alert in stored[2:6]] == [
        ("up", "AA", "up to 102"),
        ("down", "BB", "down to 98"),
        ("up", "AA", "up to 103"),
        ("up", "AA", "up to 104"),
    ]
    assert [json_format.ParseDict(each, alerts_pb2.Alert()) for each in streamed] == stored


async def test_a_new_epoch_leaves_out_nothing_of_the_one_before(
    stores: Stores, database: asyncpg.Connection, server: RedisServer, sequencer: ScriptedSequencer
) -> None:
    environment = {**stores.environment(), "TRADEUL_REDIS_URL": server.url}
    async with running_scanner(sequencer, environment) as scanner:
        move(sequencer, AA=101.0)
        await until_entries(server, 1)
        # The scanner does not see the end of the epoch.
        sequencer.is_lossy = True
        move(sequencer, AA=102.0)
        move(sequencer, AA=103.0)
        await sequencer.die()
        sequencer.is_lossy = False
        tape = Tape(SYMBOLS, epoch=EPOCH + 1)
        await sequencer.start(tape)
        sequencer.send(*tape.opening(), tape.alert_rules(DOWN, UP), tape.trades(dict.fromkeys(SYMBOLS, 100.0)))
        sequencer.send(tape.watermark())
        move(sequencer, BB=98.0)
        await scanner.until_at(sequencer)
        rows = await until_stored(database, 4)
        expected = [(EPOCH, 1), (EPOCH, 2), (EPOCH, 3), (EPOCH + 1, 1)]
        assert [(row["epoch"], row["sequence"]) for row in rows] == expected
        async with asyncio.timeout(60):
            while await server.redis.xlen(STREAM) < 4:
                await asyncio.sleep(POLL_SECONDS)
        found = await server.redis.xrange(STREAM)
        assert [entry_id for entry_id, _ in found] == [f"{epoch}-{sequence}" for epoch, sequence in expected]


async def test_alerts_that_nobody_has_any_more_are_counted_and_named(
    stores: Stores, database: asyncpg.Connection, sequencer: ScriptedSequencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed_alerts, "SETTLING_SECONDS", 0.1)
    async with running_scanner(sequencer, stores.environment()) as before:
        move(sequencer, AA=101.0)
        await before.until_at(sequencer)
        await until_stored(database, 1)
    for step in range(5):
        move(sequencer, AA=102.0 + step)
    sequencer.keep_alerts(2)
    counted = ALERTS_MISSED._value.get()
    with structlog.testing.capture_logs() as logs:
        async with running_scanner(sequencer, stores.environment()), asyncio.timeout(60):
            while ALERTS_MISSED._value.get() == counted:
                await asyncio.sleep(POLL_SECONDS)
    assert ALERTS_MISSED._value.get() - counted == 3
    said = [each for each in logs if each["event"] == "alerts are not stored"]
    assert [(each["after"], each["before"]) for each in said] == [(f"{EPOCH}/1", f"{EPOCH}/5")]
    assert [row["sequence"] for row in await until_stored(database, 3)] == [1, 5, 6]


async def entries(server: RedisServer) -> list[int]:
    """The sequences of the stream's entries, whose ids and payloads say the same."""
    found = []
    for entry_id, fields in await server.redis.xrange(STREAM):
        assert entry_id == f"{fields['epoch']}-{fields['sequence']}"
        payload = json.loads(fields["payload"])
        alert = json_format.ParseDict(payload, alerts_pb2.Alert())
        assert (alert.rule, alert.symbol, alert.sequence) == (fields["rule"], fields["symbol"], int(fields["sequence"]))
        assert alert.row.symbol == alert.symbol and alert.text
        found.append(alert.sequence)
    return found


async def until_entries(server: RedisServer, last: int) -> list[int]:
    async with asyncio.timeout(60):
        while not (found := await entries(server)) or found[-1] < last:
            await asyncio.sleep(POLL_SECONDS)
    return found


async def test_redis_has_each_alert_once_and_in_order(server: RedisServer, sequencer: ScriptedSequencer) -> None:
    environment = {"TRADEUL_REDIS_URL": server.url}
    async with running_scanner(sequencer, environment) as second:
        async with running_scanner(sequencer, environment) as first:
            for step in range(60):
                move(sequencer, AA=101.0 + step, BB=99.0 - step / 10)
            assert await until_entries(server, 120) == list(range(1, 121))
            await first.until_at(sequencer)
            await second.until_at(sequencer)
        # Whoever wrote, the other goes on, also with what came while nobody did.
        move(sequencer, AA=161.0)
        move(sequencer, AA=162.0)
        assert await until_entries(server, 122) == list(range(1, 123))
        await server.kill()
        move(sequencer, AA=163.0)
        await server.start()
        move(sequencer, AA=164.0)
        found = await until_entries(server, 124)
        assert found == list(range(found[0], 125))


async def test_two_that_think_that_they_may_write_repeat_and_leave_out_nothing(
    server: RedisServer, sequencer: ScriptedSequencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_alerts, "REFUSED_PAUSE", 0.01)
    environment = {"TRADEUL_REDIS_URL": server.url}
    async with contextlib.AsyncExitStack() as running:
        for _ in range(2):
            scanner = await running.enter_async_context(running_scanner(sequencer, environment))
            # Nobody holds the lease any more: the next one takes it, and the other does not know.
            await server.redis.delete(LEASE_KEY)
            writer = redis_alerts.RedisAlerts(server.redis, scanner.alert_log)
            task = asyncio.create_task(writer.follow())
            running.callback(task.cancel)
        for step in range(100):
            move(sequencer, AA=101.0 + step, BB=99.0 - step / 10)
            if step % 10 == 0:
                await asyncio.sleep(POLL_SECONDS)
        assert await until_entries(server, 200) == list(range(1, 201))


async def test_the_stream_in_redis_is_bounded(
    server: RedisServer, sequencer: ScriptedSequencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_alerts, "STREAM_ENTRIES", 100)
    async with running_scanner(sequencer, {"TRADEUL_REDIS_URL": server.url}) as scanner:
        for step in range(500):
            move(sequencer, AA=101.0 + step)
        await scanner.until_at(sequencer)
        found = await until_entries(server, 500)
        # It is cut by whole nodes of the stream.
        assert found == list(range(found[0], 501))
        assert len(found) <= 200
        await server.redis.delete(STREAM)
        move(sequencer, AA=602.0)
        assert (await until_entries(server, 501))[-100:] == list(range(402, 502))
