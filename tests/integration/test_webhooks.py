"""Webhooks end to end: each alert once and in order, signed, whatever receiver, scanner and deliverer do."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tradeul.v1 import alerts_pb2, webhooks_pb2

from services.ticker.webhooks import alert_source, delivery
from tests.support.running_ticker import RunningTicker
from tests.support.running_webhooks import Webhooks, attempts, create, ids, running_webhooks
from tests.support.scripted_sequencer import POLL_SECONDS
from tests.support.stores import Stores, module_stores
from tests.support.tape import EPOCH
from tests.support.webhook_receiver import Receiver, floods, hangs, hangs_up, hesitates, status

DELIVERED, RETRIED, GIVEN_UP = (webhooks_pb2.WebhookAttempt.Outcome.Value(name) for name in ("DELIVERED", "RETRIED",
                                                                                              "GIVEN_UP"))  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with Receiver(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authorities))
        yield running


@pytest.fixture
async def market(
    stores: Stores, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Webhooks]:
    monkeypatch.setattr(delivery, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(alert_source, "SETTLING_SECONDS", 0.1)
    async with running_webhooks(stores, receiver, tmp_path) as running:
        yield running


async def get(ticker: RunningTicker, webhook_id: str) -> webhooks_pb2.StoredWebhook:
    answer: webhooks_pb2.StoredWebhook = await ticker.webhooks.GetWebhook(webhooks_pb2.GetWebhookRequest(id=webhook_id))
    return answer


async def update(ticker: RunningTicker, webhook_id: str, **request: Any) -> webhooks_pb2.StoredWebhook:
    answer: webhooks_pb2.StoredWebhook = await ticker.webhooks.UpdateWebhook(
        webhooks_pb2.UpdateWebhookRequest(id=webhook_id, **request)
    )
    return answer


async def until_attempts(ticker: RunningTicker, webhook_id: str, count: int) -> list[webhooks_pb2.WebhookAttempt]:
    """The last is written after the receiver has answered."""
    async with asyncio.timeout(60):
        while len(found := await attempts(ticker, webhook_id)) < count:
            await asyncio.sleep(POLL_SECONDS)
    return found


async def test_alerts_arrive_once_in_order_and_signed(market: Webhooks, receiver: Receiver) -> None:
    async with market.ticker() as ticker:
        market.move(AA=101.0)
        await market.scanner.until_at(market.sequencer)
        webhook, secret = await create(ticker, {"url": receiver.url})
        for step in range(20):
            market.move(AA=102.0 + step, BB=99.0 - step)
        received = await receiver.until(40)
        # Not the one of before.
        assert receiver.ids == ids(webhook, range(2, 42))
        assert all(each.is_signed_by(secret) for each in received)
        assert not any(each.is_signed_by("whsec_" + "A" * 43 + "=") for each in received)
        now = datetime.now(UTC).timestamp()
        assert all(abs(int(each.headers["webhook-timestamp"]) - now) < 60 for each in received)
        page = await market.scanner.alerts.ListAlerts(alerts_pb2.ListAlertsRequest(limit=1))
        newest = page.alerts[0]
        message = received[-1].json
        assert (message["type"], message["timestamp"]) == ("alert", newest.time.ToJsonString())
        alert = message["data"]
        assert (alert["epoch"], alert["sequence"], alert["rule"], alert["symbol"], alert["text"]) == (
            *(EPOCH, 41, "low_of_day", newest.symbol, newest.text),
        )
        assert alert["row"]["price"] == newest.row.price
        found = await until_attempts(ticker, webhook.id, 40)
        assert [each.message_id for each in found] == receiver.ids
        assert {(each.outcome, each.status, each.attempt, each.error, each.alerts) for each in found} == {
            (DELIVERED, 204, 1, "", 1)
        }
        stored = await get(ticker, webhook.id)
        assert (stored.position.epoch, stored.position.sequence, stored.failures) == (EPOCH, 41, 0)
        assert [each.message_id for each in await attempts(ticker, webhook.id, limit=7)] == receiver.ids


async def test_only_what_is_selected_arrives(market: Webhooks, receiver: Receiver) -> None:
    async with market.ticker() as ticker:
        selected, _ = await create(
            ticker,
            {"url": receiver.url, "rules": ["high_of_day"], "filter": "price < 105 AND price > 90", "min_quality": 2.0},
        )
        for price in (101.0, 102.0, 103.0, 106.0, 104.0, 104.5):
            market.move(AA=price)
        await receiver.until(3)
        assert [each.json["data"]["row"]["price"] for each in receiver.received] == [102.0, 103.0, 104.5]
        await market.until("SELECT sequence FROM webhook_progress", 6)
        assert len(receiver.received) == 3
        assert (await get(ticker, selected.id)).problem == ""


async def test_a_refused_message_is_sent_again_until_it_is_accepted_and_those_behind_it_wait(
    market: Webhooks, receiver: Receiver
) -> None:
    elsewhere = status(307, location="https://127.0.0.1:1/")
    receiver.answers.extend([status(500, b"no"), elsewhere, hangs_up, status(429, retry_after="0.3"), floods])
    async with market.ticker() as ticker:
        webhook, secret = await create(ticker, {"url": receiver.url})
        for step in range(3):
            market.move(AA=101.0 + step)
        received = await receiver.until(7)
        assert receiver.ids == [*ids(webhook, [1]) * 5, *ids(webhook, range(2, 4))]
        # The same message, signed anew.
        assert len({each.body for each in received[:5]}) == 1
        assert all(each.is_signed_by(secret) for each in received)
        found = await until_attempts(ticker, webhook.id, 7)
        assert [(each.outcome, each.status, each.attempt) for each in found] == [
            *((RETRIED, 500, 1), (RETRIED, 307, 2), (RETRIED, 0, 3), (RETRIED, 429, 4), (DELIVERED, 200, 5)),
            *((DELIVERED, 204, 1), (DELIVERED, 204, 1)),
        ]
        assert found[0].error == "HTTP 500: no"
        assert "redirects are not followed" in found[1].error
        assert "the connection failed" in found[2].error
        assert not found[2].HasField("status")
        waited = [each.next_attempt_at.ToDatetime() - each.time.ToDatetime() for each in found[:4]]
        assert waited[3].total_seconds() > 0.25
        assert found[4].time.ToDatetime() > found[3].next_attempt_at.ToDatetime()
        assert not (await get(ticker, webhook.id)).HasField("failing_since")


async def test_a_receiver_that_hangs_holds_up_nobody_else(market: Webhooks, receiver: Receiver) -> None:
    receiver.default = hangs
    async with receiver.another() as other, market.ticker() as ticker:
        slow, _ = await create(ticker, {"url": receiver.url})
        quick, _ = await create(ticker, {"url": other.url})
        for step in range(30):
            market.move(AA=101.0 + step)
        await other.until(30)
        assert other.ids == ids(quick, range(1, 31))
        await receiver.until(1)
        # Again, if the others took as long as an answer may.
        assert {*receiver.ids} == {*ids(slow, [1])}


async def test_a_receiver_that_was_away_gets_all_of_it(market: Webhooks, receiver: Receiver) -> None:
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url})
        market.move(AA=101.0)
        await receiver.until(1)
        await receiver.stop()
        for step in range(50):
            market.move(AA=102.0 + step)
        async with asyncio.timeout(60):
            while not (stored := await get(ticker, webhook.id)).failures:
                await asyncio.sleep(POLL_SECONDS)
        assert stored.HasField("failing_since")
        assert stored.HasField("next_attempt_at")
        await receiver.start()
        await receiver.until(51)
        assert receiver.ids == ids(webhook, range(1, 52))
        found = await until_attempts(ticker, webhook.id, 52)
        assert "not connected" in found[1].error
        assert not (await get(ticker, webhook.id)).HasField("failing_since")


async def test_what_the_scanner_holds_no_more_comes_from_the_database(market: Webhooks, receiver: Receiver) -> None:
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url, "rules": ["high_of_day"], "filter": "price > 0"})
        await update(ticker, webhook.id, enabled=False)
        for step in range(450):
            market.move(AA=101.0 + step, BB=99.0 - step / 10)
        await market.scanner.until_at(market.sequencer)
        await market.until_stored(900)
        market.scanner.alert_log._max_held = 10
        market.move(AA=600.0)
        await market.scanner.until_at(market.sequencer)
        await update(ticker, webhook.id, enabled=True)
        await receiver.until(451)
        sequences = [each.json["data"]["sequence"] for each in receiver.received]
        assert sequences == list(range(1, 902, 2))


async def test_alerts_that_nobody_has_any_more_are_said_to_be_missed(
    market: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_source, "STORING_SECONDS", 0.5)
    async with market.ticker() as ticker:
        webhook, secret = await create(ticker, {"url": receiver.url}, enabled=False)
        for step in range(10):
            market.move(AA=101.0 + step)
        await market.scanner.until_at(market.sequencer)
        await market.until_stored(10)
        await market.database.execute("DELETE FROM alert_events WHERE sequence IN (3, 4, 5, 10)")
        market.scanner.alert_log._held.clear()
        await update(ticker, webhook.id, enabled=True)
        received = await receiver.until(8)
        assert receiver.ids == [
            *ids(webhook, range(1, 3)), *ids(webhook, [5]), *ids(webhook, range(6, 10)), *ids(webhook, [10])
        ]  # fmt: skip
        missed = [each.json for each in received if each.json["type"] == "alerts_missed"]
        assert [each["data"] for each in missed] == [
            {"after": {"epoch": EPOCH, "sequence": 2}, "up_to": {"epoch": EPOCH, "sequence": 5}, "count": 3},
            {"after": {"epoch": EPOCH, "sequence": 9}, "up_to": {"epoch": EPOCH, "sequence": 10}, "count": 1},
        ]
        assert all(each.is_signed_by(secret) for each in received)
        market.move(AA=111.0)
        await receiver.until(9)
        assert receiver.ids[-1:] == ids(webhook, [11])


@pytest.mark.parametrize("held", [0, 3, 5])
async def test_a_restart_of_the_scanner_costs_nothing(market: Webhooks, receiver: Receiver, held: int) -> None:
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url})
        receiver.default = status(503)
        for step in range(5):
            market.move(AA=101.0 + step)
        await receiver.until(1)
        await market.scanner.until_at(market.sequencer)
        await market.until_stored(5)
        await market.stop_scanner()
        # Of the others the database has all.
        market.sequencer.keep_alerts(held)
        await market.start_scanner()
        assert market.scanner.alert_log.oldest == 6 - held
        market.move(AA=110.0)
        receiver.default = status(200)
        await market.until("SELECT sequence FROM webhook_progress WHERE failures = 0", 6)
    assert [message for message, _ in itertools.groupby(receiver.ids)] == ids(webhook, range(1, 7))


@pytest.mark.timeout(180)
async def test_kill_9_of_the_deliverer_loses_nothing_and_repeats_at_most_what_was_on_its_way(
    market: Webhooks, receiver: Receiver, tmp_path: Path
) -> None:
    environment = {**os.environ, **market.environment, "TRADEUL_LOG_FORMAT": "json"}
    async with market.ticker() as ticker:
        webhook, secret = await create(ticker, {"url": receiver.url})
        selected, _ = await create(ticker, {"url": receiver.url, "rules": ["low_of_day"]})
    sent = 0

    def move() -> None:
        nonlocal sent
        sent += 1
        market.move(AA=101.0 + sent, BB=99.0 - sent / 10)

    with (tmp_path / "ticker.log").open("wb") as log:
        for round_ in range(3):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.cli.main", "serve", "ticker"), env=environment, stdout=log, stderr=log
            )
            try:
                before = len(receiver.received)
                move()
                await receiver.until(before + 3)
                if round_ == 1:
                    # It is killed while the receiver is away.
                    await receiver.stop()
                for _ in range(40):
                    move()
                    await asyncio.sleep(0.01)
                if round_ == 1:
                    await market.until("SELECT count(*) FROM webhook_progress WHERE failures > 0", 2)
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            for _ in range(5):
                move()
            if round_ == 1:
                await receiver.start()
    async with market.ticker():
        await market.until("SELECT count(*) FROM webhook_progress WHERE sequence = $1 AND failures = 0", 2, 2 * sent)
    mine = [each for each in receiver.received if each.id.startswith(f"msg_{webhook.id[3:]}_")]
    others = [each for each in receiver.received if each.id.startswith(f"msg_{selected.id[3:]}_")]
    once = [message for message, _ in itertools.groupby(each.id for each in mine)]
    assert once == ids(webhook, range(1, 2 * sent + 1))
    # Each kill repeats at most the message that was on its way.
    assert len(mine) - len(once) <= 3
    assert all(each.is_signed_by(secret) for each in mine)
    assert [message for message, _ in itertools.groupby(each.id for each in others)] == ids(
        selected, range(2, 2 * sent + 1, 2)
    )


async def test_two_replicas_deliver_once(market: Webhooks, receiver: Receiver) -> None:
    async with market.ticker() as one:
        webhook, _ = await create(one, {"url": receiver.url})
        async with market.ticker():
            for step in range(20):
                market.move(AA=101.0 + step)
            await receiver.until(20)
            sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tradeul webhooks'"
            holders = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid IN ({sessions})"
            assert await market.database.fetchval(holders) == 1
            # Whoever delivers loses its session, and one of them goes on.
            await market.database.fetch(f"SELECT pg_terminate_backend(pid) FROM ({sessions}) AS each")
            for step in range(20):
                market.move(AA=131.0 + step)
            await receiver.until(40)
            await market.until("SELECT sequence FROM webhook_progress", 40)
    assert [message for message, _ in itertools.groupby(receiver.ids)] == ids(webhook, range(1, 41))


async def test_a_message_that_is_refused_for_a_day_switches_the_webhook_off(
    market: Webhooks, receiver: Receiver
) -> None:
    receiver.default = status(500, b"broken")
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url})
        market.move(AA=101.0)
        market.move(AA=102.0)
        await receiver.until(2)
        await update(ticker, webhook.id, enabled=False)
        await market.database.execute(
            "UPDATE webhook_progress SET failing_since = now() - interval '25 hours', failures = 90"
        )
        # The service itself would not know that it was told so: as after a restart.
        await market.database.execute("UPDATE webhooks SET enabled = TRUE")
        await market.until("SELECT enabled FROM webhooks", False)
        stored = await get(ticker, webhook.id)
        assert stored.disabled_reason == "refused for 24 hours: HTTP 500: broken"
        assert (stored.failures, (await attempts(ticker, webhook.id))[-1].outcome) == (91, GIVEN_UP)
        count = len(receiver.received)
        market.move(AA=103.0)
        receiver.default = status(200)
        on = await update(ticker, webhook.id, enabled=True)
        assert (on.disabled_reason, on.failures) == ("", 0)
        await receiver.until(count + 3)
        assert receiver.ids[count:] == ids(webhook, range(1, 4))


async def test_a_receiver_that_is_gone_switches_the_webhook_off_and_new_alerts_can_be_all(
    market: Webhooks, receiver: Receiver
) -> None:
    receiver.default = status(410)
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url})
        market.move(AA=101.0)
        await market.until("SELECT enabled FROM webhooks", False)
        assert "wants nothing any more: HTTP 410" in (await get(ticker, webhook.id)).disabled_reason
        market.move(AA=102.0)
        await market.scanner.until_at(market.sequencer)
        receiver.default = status(200)
        await update(ticker, webhook.id, enabled=True, skip_missed=True)
        await market.until("SELECT sequence FROM webhook_progress", 2)
        market.move(AA=103.0)
        await receiver.until(2)
        assert receiver.ids == [*ids(webhook, [1]), *ids(webhook, [3])]


async def test_a_rule_that_is_gone_keeps_only_its_own_alerts_away(market: Webhooks, receiver: Receiver) -> None:
    # premarket_high_break is shipped, and not in the scripted market.
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url, "rules": ["premarket_high_break", "high_of_day"]})
        market.move(AA=101.0)
        await receiver.until(1)
        async with asyncio.timeout(60):
            while not (problem := (await get(ticker, webhook.id)).problem):
                await asyncio.sleep(POLL_SECONDS)
        assert problem == "there is no alert rule 'premarket_high_break'"
        alone, _ = await create(ticker, {"url": receiver.url, "rules": ["premarket_high_break"]})
        await market.until("SELECT problem FROM webhook_progress WHERE webhook_id = $1", problem, alone.id)


async def test_chats_get_several_alerts_in_a_message(market: Webhooks, receiver: Receiver) -> None:
    async with market.ticker() as ticker:
        # Behind the third message, so many alerts wait.
        receiver.answers.extend([status(429, retry_after="0.5"), status(204), hesitates])
        discord, _ = await create(ticker, {"url": receiver.url, "shape": "DISCORD"})
        for step in range(60):
            market.move(AA=101.0 + step)
        await market.until("SELECT sequence FROM webhook_progress WHERE webhook_id = $1", 60, discord.id)
        await update(ticker, discord.id, enabled=False)
        bodies = [each.json for each in receiver.received[1:]]
        embeds = [embed for body in bodies for embed in body["embeds"]]
        assert [embed["footer"]["text"] for embed in embeds] == [
            f"high_of_day · {EPOCH}/{sequence}" for sequence in range(1, 61)
        ]
        assert max(len(body["embeds"]) for body in bodies) == 10
        assert all(body["allowed_mentions"] == {"parse": []} for body in bodies)
        assert (embeds[0]["title"], embeds[0]["color"]) == ("AA: up to 101 <b>", 0x2E7D32)
        receiver.received.clear()
        slack, _ = await create(ticker, {"url": receiver.url, "shape": "SLACK"})
        market.move(BB=99.0, CC=101.0)
        await market.until("SELECT sequence FROM webhook_progress WHERE webhook_id = $1", 62, slack.id)
        blocks = [block["text"]["text"] for each in receiver.received for block in each.json["blocks"]]
        assert len(blocks) == 2
        assert blocks[0].startswith("*CC* up to 101 &lt;b&gt;\n101 · +1.0 % · ")
        assert blocks[1].startswith("*BB* down to 99\n99 · -1.0 % · ")
        for shape in (discord, slack):
            test = await ticker.webhooks.TestWebhook(webhooks_pb2.TestWebhookRequest(id=shape.id))
            assert test.outcome == DELIVERED
        assert "content" in receiver.received[-2].json
        assert "text" in receiver.received[-1].json


async def test_the_database_away_holds_delivery_up_and_repeats_nothing_else(
    market: Webhooks, receiver: Receiver
) -> None:
    async with market.ticker() as ticker:
        webhook, _ = await create(ticker, {"url": receiver.url})
        market.move(AA=101.0)
        await receiver.until(1)
        await market.until("SELECT sequence FROM webhook_progress", 1)
        async with asyncpg.create_pool(market.stores.database_url, min_size=1) as pool, pool.acquire() as locked:
            async with locked.transaction():
                # A writer that does not come to an end: the deliverer's statement does not either.
                await locked.execute("LOCK TABLE webhook_progress IN ACCESS EXCLUSIVE MODE")
                for step in range(5):
                    market.move(AA=102.0 + step)
                await receiver.until(2)
                await asyncio.sleep(0.5)
                assert len(receiver.received) == 2
        await receiver.until(6)
        assert receiver.ids == ids(webhook, range(1, 7))
