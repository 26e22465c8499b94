"""WebhooksService: requests checked and stored; the deliverer follows the table."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import grpc.aio
from google.api import httpbody_pb2
from tradeul.v1 import alerts_pb2, alerts_pb2_grpc, webhooks_pb2

from services.kit.rpc.json_body import read_change, read_json
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import utc_now
from services.kit.runtime.errors import INVALID_REQUEST
from services.ticker.webhooks import messages
from services.ticker.webhooks.addresses import Resolver
from services.ticker.webhooks.delivery import attempt_of
from services.ticker.webhooks.requests import attempts_limit, checked_id, checked_webhook, keep_seconds
from services.ticker.webhooks.sender import Sender
from services.ticker.webhooks.store import WebhookStore

Context = grpc.aio.ServicerContext[Any, Any]
ANSWER_SECONDS: Final = 1.0
# The gateway waits 15 s for an answer.
TEST_SECONDS: Final = 10.0


class WebhooksServicer:
    """See webhooks.proto. `shipped`: the names of the rules that come with the software."""

    def __init__(
        self,
        store: WebhookStore,
        resolver: Resolver,
        sender: Sender,
        alerts: alerts_pb2_grpc.AlertsServiceStub,
        shipped: Collection[str],
    ) -> None:
        self._store = store
        self._resolver = resolver
        self._sender = sender
        self._alerts: Any = alerts
        self._shipped = shipped

    async def ListWebhooks(self, _: webhooks_pb2.ListWebhooksRequest, __: Context) -> webhooks_pb2.ListWebhooksResponse:
        webhooks = await self._store.all()
        return webhooks_pb2.ListWebhooksResponse(webhooks=webhooks, count=len(webhooks))

    async def GetWebhook(self, request: webhooks_pb2.GetWebhookRequest, _: Context) -> webhooks_pb2.StoredWebhook:
        return await self._store.get(checked_id(request.id))

    async def CreateWebhook(
        self, request: webhooks_pb2.CreateWebhookRequest, context: Context
    ) -> webhooks_pb2.WebhookSecret:
        if not request.HasField("webhook"):
            raise INVALID_REQUEST.error("expected a webhook, was none", field="webhook")
        webhook = await self._checked(request.webhook)
        key = RequestKey.of_context(context)
        enabled = request.enabled if request.HasField("enabled") else True
        position = await self._position()
        stored, secret = await self._store.create(webhook, enabled, key.name if key is not None else "", position)
        return _with_secret(stored, secret)

    async def CreateWebhookFromJson(self, body: httpbody_pb2.HttpBody, context: Context) -> webhooks_pb2.WebhookSecret:
        return await self.CreateWebhook(read_json(body, webhooks_pb2.CreateWebhookRequest()), context)

    async def UpdateWebhook(self, request: webhooks_pb2.UpdateWebhookRequest, _: Context) -> webhooks_pb2.StoredWebhook:
        webhook_id = checked_id(request.id)
        if not (request.HasField("webhook") or request.HasField("enabled")):
            raise INVALID_REQUEST.error("expected webhook or enabled, was none of them")
        if request.skip_missed and not request.enabled:
            raise INVALID_REQUEST.error("expected skip_missed with enabled true only", field="skip_missed")
        webhook = await self._checked(request.webhook) if request.HasField("webhook") else None
        enabled = request.enabled if request.HasField("enabled") else None
        return await self._store.update(webhook_id, webhook, enabled, request.skip_missed)

    async def UpdateWebhookFromJson(
        self, request: webhooks_pb2.UpdateWebhookFromJsonRequest, context: Context
    ) -> webhooks_pb2.StoredWebhook:
        change = read_change(request.id, request.body, webhooks_pb2.UpdateWebhookRequest(), "id")
        return await self.UpdateWebhook(change, context)

    async def DeleteWebhook(
        self, request: webhooks_pb2.DeleteWebhookRequest, _: Context
    ) -> webhooks_pb2.DeleteWebhookResponse:
        await self._store.delete(checked_id(request.id))
        return webhooks_pb2.DeleteWebhookResponse()

    async def TestWebhook(self, request: webhooks_pb2.TestWebhookRequest, _: Context) -> webhooks_pb2.WebhookAttempt:
        hook = await self._store.hook(checked_id(request.id))
        now = utc_now()
        message_id, body = messages.id_of_test(hook.id), messages.body_of_test(hook.shape, hook.id, now)
        headers = messages.headers(message_id, int(now.timestamp()), body, hook.keys(now))
        answer = await self._sender.send(hook.url, headers, body, TEST_SECONDS)
        outcome = "DELIVERED" if answer.is_accepted else "GIVEN_UP"
        return await self._store.add_attempt(hook.id, attempt_of(message_id, 1, outcome, answer, None, 0))

    async def TestWebhookFromJson(
        self, request: webhooks_pb2.TestWebhookFromJsonRequest, context: Context
    ) -> webhooks_pb2.WebhookAttempt:
        return await self.TestWebhook(
            read_change(request.id, request.body, webhooks_pb2.TestWebhookRequest(), "id"), context
        )

    async def RotateWebhookSecret(
        self, request: webhooks_pb2.RotateWebhookSecretRequest, _: Context
    ) -> webhooks_pb2.WebhookSecret:
        return _with_secret(*await self._store.rotate(checked_id(request.id), keep_seconds(request)))

    async def RotateWebhookSecretFromJson(
        self, request: webhooks_pb2.RotateWebhookSecretFromJsonRequest, context: Context
    ) -> webhooks_pb2.WebhookSecret:
        message = webhooks_pb2.RotateWebhookSecretRequest()
        return await self.RotateWebhookSecret(read_change(request.id, request.body, message, "id"), context)

    async def ListWebhookAttempts(
        self, request: webhooks_pb2.ListWebhookAttemptsRequest, _: Context
    ) -> webhooks_pb2.WebhookAttemptPage:
        return await self._store.attempts(checked_id(request.id), attempts_limit(request), request.page_token)

    async def _checked(self, webhook: webhooks_pb2.Webhook) -> webhooks_pb2.Webhook:
        rules = {*self._shipped, *await self._store.own_rules()} if webhook.rules else set()
        return await checked_webhook(webhook, self._resolver, rules)

    async def _position(self) -> Position | None:
        """The position of the newest alert; None while the scanner does not answer: delivery begins when it does."""
        try:
            page = await self._alerts.ListAlerts(alerts_pb2.ListAlertsRequest(limit=1), timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError:
            return None
        return Position.of(page.position)


def _with_secret(
    stored: webhooks_pb2.StoredWebhook, secret: bytes, former_until: datetime | None = None
) -> webhooks_pb2.WebhookSecret:
    message = webhooks_pb2.WebhookSecret(webhook=stored, secret=messages.secret_text(secret))
    if former_until is not None:
        message.former_until.FromDatetime(former_until)
    return message
