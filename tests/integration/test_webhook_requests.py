"""WebhooksService on a real PostgreSQL: webhooks created, read, changed, tested and deleted, and mistakes named."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from tradeul.v1 import webhooks_pb2

from services.kit.rpc.key_streams import NAME_HEADER
from services.kit.runtime.redaction import redact
from services.kit.runtime.settings import Settings
from services.ticker.webhooks.store import MOST_WEBHOOKS
from tests.support.refusals import Refusal, refusal
from tests.support.running_ticker import RunningTicker, running_ticker
from tests.support.running_webhooks import attempts, create
from tests.support.stores import Stores, module_stores
from tests.support.webhook_receiver import Receiver, status

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PUBLIC = "https://93.184.215.14/hook"
NOBODY = "wh_" + "a" * 16


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


def settings(stores: Stores, private: str) -> Settings:
    return Settings.load(
        {
            **stores.environment(),
            "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "TRADEUL_SCANNER_ADDRESS": "127.0.0.1:1",
            "TRADEUL_WEBHOOK_PRIVATE": private,
        }
    )


@pytest.fixture
async def ticker(stores: Stores) -> AsyncIterator[RunningTicker]:
    async with running_ticker(stores, settings(stores, "refuse")) as running:
        await running.database.execute("TRUNCATE webhooks, webhook_progress, webhook_attempts, alert_rules")
        yield running


@pytest.fixture
async def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with Receiver(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authorities))
        yield running


def update(ticker: RunningTicker, **body: Any) -> Any:
    return ticker.webhooks.UpdateWebhook(json_format.ParseDict(body, webhooks_pb2.UpdateWebhookRequest()))


def by_id(ticker: RunningTicker, method: str, webhook_id: str, **further: Any) -> Any:
    call = getattr(ticker.webhooks, method)
    return call(getattr(webhooks_pb2, f"{method}Request")(id=webhook_id, **further))


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def test_a_webhook_is_created_read_changed_and_deleted(ticker: RunningTicker) -> None:
    whole = {
        "url": PUBLIC + "?token=abc",
        "rules": ["halt", "resume"],
        "filter": "price > 1",
        "min_quality": 2.5,
        "shape": "SLACK",
    }
    made, secret = await create(ticker, whole)
    assert re.fullmatch(r"wh_[a-z2-7]{16}", made.id)
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert (made.enabled, made.disabled_reason, made.webhook.version, made.webhook.owner) == (True, "", 1, "")
    shown = json_format.MessageToDict(made.webhook, preserving_proto_field_name=True)
    assert shown == {**whole, "version": 1}
    assert await by_id(ticker, "GetWebhook", made.id) == made
    listed = await ticker.webhooks.ListWebhooks(webhooks_pb2.ListWebhooksRequest())
    assert (list(listed.webhooks), listed.count) == ([made], 1)
    changed = await update(ticker, id=made.id, webhook={"url": PUBLIC, "rules": ["halt", "halt"], "version": 1})
    assert (changed.webhook.version, list(changed.webhook.rules), changed.webhook.filter) == (2, ["halt"], "")
    assert changed.webhook.shape == webhooks_pb2.Webhook.JSON
    assert changed.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
    assert await update(ticker, id=made.id, webhook={"url": PUBLIC, "rules": ["halt"]}, enabled=True) == changed
    answer = await refused(update(ticker, id=made.id, webhook={"url": PUBLIC, "version": 1}))
    assert (answer.code, answer.reason) == (grpc.StatusCode.ABORTED, "WEBHOOK_CHANGED")
    off = await update(ticker, id=made.id, enabled=False)
    assert (off.enabled, off.disabled_reason, list(off.webhook.rules)) == (False, "", ["halt"])
    await by_id(ticker, "DeleteWebhook", made.id)
    for method in ("GetWebhook", "DeleteWebhook", "TestWebhook", "RotateWebhookSecret", "ListWebhookAttempts"):
        answer = await refused(by_id(ticker, method, made.id))
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_WEBHOOK")
    assert (await refused(update(ticker, id=made.id, enabled=True))).reason == "UNKNOWN_WEBHOOK"
    assert await ticker.database.fetchval("SELECT count(*) FROM webhook_progress") == 0


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"url": ""}, "url", "expected 1 to 2000 characters"),
        ({"url": "http://93.184.215.14/"}, "url", "expected https://, was http://"),
        ({"url": "https://127.0.0.1/"}, "url", "expected a public address, was 127.0.0.1"),
        ({"url": "https://localhost/"}, "url", "expected a public address"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url", "expected a public address"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url", "expected a public address"),
        ({"url": "https://nowhere.invalid/"}, "url", "cannot be resolved"),
        ({"rules": ["hlat"]}, "rules", "there is no alert rule 'hlat'"),
        ({"filter": "pricee > 1"}, "filter", "price"),
        ({"filter": "grows(high)"}, "filter", "only in when and rearm"),
        ({"filter": "price > 1 OR " * 400 + "price > 1"}, "filter", "expected at most 2000 characters"),
        ({"min_quality": "NaN"}, "min_quality", "expected a number"),
        ({"shape": 9}, "shape", "expected JSON, DISCORD or SLACK"),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(
    ticker: RunningTicker, wrong: dict[str, Any], field: str, says: str
) -> None:
    made, _ = await create(ticker, {"url": PUBLIC})
    for call in (create(ticker, {"url": PUBLIC} | wrong), update(ticker, id=made.id, webhook={"url": PUBLIC} | wrong)):
        answer = await refused(call)
        assert (answer.code, answer.reason, answer.metadata["field"]) == (INVALID, "INVALID_WEBHOOK", field)
        assert says in answer.message
    assert await by_id(ticker, "GetWebhook", made.id) == made


async def test_requests_that_say_nothing_are_refused(ticker: RunningTicker) -> None:
    made, _ = await create(ticker, {"url": PUBLIC})
    for call in (
        ticker.webhooks.CreateWebhook(webhooks_pb2.CreateWebhookRequest()),
        update(ticker, id=made.id),
        update(ticker, id=made.id, enabled=False, skip_missed=True),
        by_id(ticker, "GetWebhook", ""),
        by_id(ticker, "GetWebhook", "wh_AAAA"),
        by_id(ticker, "GetWebhook", made.id + "\n"),
        by_id(ticker, "RotateWebhookSecret", made.id, keep_seconds=604_801),
        by_id(ticker, "ListWebhookAttempts", made.id, page_token="x"),
    ):
        assert (await refused(call)).reason == "INVALID_REQUEST"
    assert (await refused(by_id(ticker, "ListWebhookAttempts", made.id, limit=501))).reason == "INVALID_LIMIT"


async def test_rules_of_ones_own_can_be_named(ticker: RunningTicker) -> None:
    await ticker.database.execute("INSERT INTO alert_rules (name, definition) VALUES ('mine', '{}'), ('halt', NULL)")
    made, _ = await create(ticker, {"url": PUBLIC, "rules": ["mine"]})
    assert list(made.webhook.rules) == ["mine"]
    assert (await refused(create(ticker, {"url": PUBLIC, "rules": ["mina"]}))).metadata["suggestion"] == "mine"


async def test_creators_at_the_same_time_do_not_pass_the_bound(ticker: RunningTicker) -> None:
    results = await asyncio.gather(
        *(create(ticker, {"url": PUBLIC}, enabled=False) for _ in range(MOST_WEBHOOKS + 3)), return_exceptions=True
    )
    refusals = [refusal(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [each.reason for each in refusals] == ["TOO_MANY_WEBHOOKS"] * 3


async def test_by_json_it_belongs_to_the_key_that_created_it(ticker: RunningTicker) -> None:
    body = httpbody_pb2.HttpBody(data=b'{"webhook":{"url":"%b","shape":"DISCORD","owner":"me"}}' % PUBLIC.encode())
    made = (await ticker.webhooks.CreateWebhookFromJson(body, metadata=((NAME_HEADER, "desk"),))).webhook
    assert (made.webhook.owner, made.webhook.shape) == ("desk", webhooks_pb2.Webhook.DISCORD)
    request = webhooks_pb2.UpdateWebhookFromJsonRequest(id=made.id)
    request.body.data = b'{"enabled":false}'
    off = await ticker.webhooks.UpdateWebhookFromJson(request, metadata=((NAME_HEADER, "other"),))
    assert (off.webhook.owner, off.webhook.version, off.enabled) == ("desk", 2, False)
    rotate = webhooks_pb2.RotateWebhookSecretFromJsonRequest(id=made.id)
    rotate.body.data = b'{"keep_seconds":0}'
    assert not (await ticker.webhooks.RotateWebhookSecretFromJson(rotate)).HasField("former_until")
    test = await ticker.webhooks.TestWebhookFromJson(webhooks_pb2.TestWebhookFromJsonRequest(id=made.id))
    assert test.outcome in (webhooks_pb2.WebhookAttempt.GIVEN_UP, webhooks_pb2.WebhookAttempt.DELIVERED)
    for wrong in (b'{"id":"wh_other"}', b'{"webhook":{"shape":"TEAMS"}}', b'{"secret":"x"}', b'{"enabled":null}'):
        request.body.data = wrong
        assert (await refused(ticker.webhooks.UpdateWebhookFromJson(request))).reason == "INVALID_REQUEST"


async def test_a_private_address_is_refused_when_it_is_called_too(stores: Stores, receiver: Receiver) -> None:
    async with running_ticker(stores, settings(stores, "allow")) as ticker:
        made, _ = await create(ticker, {"url": receiver.url})
    async with running_ticker(stores, settings(stores, "refuse")) as ticker:
        attempt = await by_id(ticker, "TestWebhook", made.id)
    assert attempt.outcome == webhooks_pb2.WebhookAttempt.GIVEN_UP
    assert "expected a public address, was 127.0.0.1" in attempt.error
    assert receiver.connections == 0


async def test_a_test_is_sent_once_and_is_in_the_log(stores: Stores, receiver: Receiver) -> None:
    async with running_ticker(stores, settings(stores, "allow")) as ticker:
        made, secret = await create(ticker, {"url": receiver.url}, enabled=False)
        good = await by_id(ticker, "TestWebhook", made.id)
        receiver.default = status(500, b"token=sesame")
        bad = await by_id(ticker, "TestWebhook", made.id)
        assert await attempts(ticker, made.id) == [good, bad]
    assert (good.outcome, good.status, good.error, good.alerts) == (webhooks_pb2.WebhookAttempt.DELIVERED, 204, "", 0)
    assert (bad.outcome, bad.status, bad.attempt) == (webhooks_pb2.WebhookAttempt.GIVEN_UP, 500, 1)
    first, second = receiver.received
    assert (first.json["type"], first.json["data"]) == ("test", {"webhook": made.id})
    assert first.is_signed_by(secret)
    assert (first.id, second.id) == (good.message_id, bad.message_id)
    assert first.id != second.id


async def test_a_new_secret_is_used_at_once_and_the_former_one_for_a_while(stores: Stores, receiver: Receiver) -> None:
    async with running_ticker(stores, settings(stores, "allow")) as ticker:
        made, first = await create(ticker, {"url": receiver.url})
        rotated = await by_id(ticker, "RotateWebhookSecret", made.id)
        until = rotated.former_until.ToDatetime() - rotated.webhook.updated_at.ToDatetime()
        assert until.total_seconds() == pytest.approx(86_400, abs=1)
        await by_id(ticker, "TestWebhook", made.id)
        await ticker.database.execute("UPDATE webhooks SET former_until = now()")
        await by_id(ticker, "TestWebhook", made.id)
        last = await by_id(ticker, "RotateWebhookSecret", made.id, keep_seconds=0)
        assert not last.HasField("former_until")
        await by_id(ticker, "TestWebhook", made.id)
    secrets = (first, rotated.secret, last.secret)
    assert [[each.is_signed_by(secret) for secret in secrets] for each in receiver.received] == [
        [True, True, False],
        [False, True, False],
        [False, False, True],
    ]


async def test_secrets_are_never_shown_again(
    ticker: RunningTicker, stores: Stores, capfd: pytest.CaptureFixture[str]
) -> None:
    made, secret = await create(ticker, {"url": PUBLIC + "?token=abc"})
    key = base64.b64decode(secret.removeprefix("whsec_"))
    shown = [await by_id(ticker, "GetWebhook", made.id), await update(ticker, id=made.id, enabled=False)]
    shown.append(await ticker.webhooks.ListWebhooks(webhooks_pb2.ListWebhooksRequest()))
    for message in shown:
        assert key not in message.SerializeToString()
        assert secret.removeprefix("whsec_").encode() not in message.SerializeToString()
    # No words around it: to another test of this process one may have been a secret.
    assert redact(f"<{secret}>") == "<***>"
    logged = "".join(capfd.readouterr())
    assert secret not in logged
    assert "token=abc" not in logged


async def test_a_change_is_heard(ticker: RunningTicker, stores: Stores) -> None:
    listener = await asyncpg.connect(stores.database_url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("webhooks", lambda *notice: heard.put_nowait(str(notice[2])))
    try:
        made, _ = await create(ticker, {"url": PUBLIC})
        await heard.get()
        await update(ticker, id=made.id, enabled=True)
        await update(ticker, id=made.id, enabled=False)
        await heard.get()
        await by_id(ticker, "DeleteWebhook", made.id)
        await heard.get()
        assert heard.empty()
    finally:
        await listener.close()
