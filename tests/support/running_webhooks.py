"""Webhooks end to end: a scripted market, the real scanner and ticker service, and a receiver."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
from google.protobuf import json_format
from tradeul.v1 import webhooks_pb2

from fastcore.alert_rules import AlertRule
from services.kit.runtime.settings import Settings
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.running_ticker import RunningTicker, running_ticker
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.stores import Stores
from tests.support.tape import EPOCH, Tape
from tests.support.webhook_receiver import Receiver

SYMBOLS = ["AA", "BB", "CC"]
# Names of shipped rules, which a webhook may name.
UP = AlertRule("high_of_day", "Up", "grows(price)", quality="change_percent", text="up to {price} <b>")
DOWN = AlertRule("low_of_day", "Down", "shrinks(price)", text="down to {price}")


class Webhooks:
    """The parts, and clients of them. `environment`: of the ticker service."""

    def __init__(
        self,
        sequencer: ScriptedSequencer,
        stores: Stores,
        receiver: Receiver,
        database: asyncpg.Connection,
        environment: dict[str, str],
    ) -> None:
        self.sequencer = sequencer
        self.stores = stores
        self.receiver = receiver
        self.database = database
        self.environment = environment
        self._scanner: tuple[contextlib.AsyncExitStack, RunningScanner] | None = None

    @property
    def scanner(self) -> RunningScanner:
        assert self._scanner is not None, "it runs"
        return self._scanner[1]

    async def start_scanner(self) -> None:
        """At the address of the one before, where ticker services look for it."""
        environment = {**self.environment}
        # The lists that another test has left there are not this one's.
        del environment["TRADEUL_REDIS_URL"]
        stack = contextlib.AsyncExitStack()
        scanner = await stack.enter_async_context(running_scanner(self.sequencer, environment))
        self._scanner = stack, scanner
        self.environment["TRADEUL_SCANNER_ADDRESS"] = scanner.address
        await scanner.until_at(self.sequencer)

    async def stop_scanner(self) -> None:
        if self._scanner is not None:
            await self._scanner[0].aclose()
            self._scanner = None

    def move(self, **prices: float) -> None:
        """Trades at these prices, and a watermark: one alert of each symbol that moved."""
        tape = self.sequencer.tape
        self.sequencer.send(tape.trades(prices), tape.watermark(1))

    async def until_stored(self, count: int) -> None:
        async with asyncio.timeout(60):
            while await self.database.fetchval("SELECT count(*) FROM alert_events") < count:
                await asyncio.sleep(POLL_SECONDS)

    async def until(self, query: str, expected: Any, *arguments: Any) -> None:
        """Waits until a query has this value."""
        async with asyncio.timeout(60):
            while (found := await self.database.fetchval(query, *arguments)) != expected:
                assert found is not None or expected is not None
                await asyncio.sleep(POLL_SECONDS)

    @contextlib.asynccontextmanager
    async def ticker(self, **environment: str) -> AsyncIterator[RunningTicker]:
        """A ticker service, which delivers unless another one does."""
        async with running_ticker(self.stores, Settings.load({**self.environment, **environment})) as running:
            yield running


@contextlib.asynccontextmanager
async def running_webhooks(stores: Stores, receiver: Receiver, data_dir: Path) -> AsyncIterator[Webhooks]:
    """Without a ticker service."""
    database = await asyncpg.connect(stores.database_url)
    await database.execute("TRUNCATE alert_events, webhooks, webhook_progress, webhook_attempts")
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening(), tape.alert_rules(UP, DOWN), tape.trades(dict.fromkeys(SYMBOLS, 100.0)))
        sequencer.send(tape.watermark())
        environment = {
            **stores.environment(),
            "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "TRADEUL_DATA_DIR": str(data_dir),
            "TRADEUL_WEBHOOK_PRIVATE": "allow",
        }
        made = Webhooks(sequencer, stores, receiver, database, environment)
        try:
            await made.start_scanner()
            yield made
        finally:
            await made.stop_scanner()
            await database.close()


async def create(
    ticker: RunningTicker, webhook: Mapping[str, Any], **further: Any
) -> tuple[webhooks_pb2.StoredWebhook, str]:
    """Creates a webhook; returns it and its secret."""
    body = {"webhook": webhook, **further}
    answer = await ticker.webhooks.CreateWebhook(json_format.ParseDict(body, webhooks_pb2.CreateWebhookRequest()))
    return answer.webhook, answer.secret


async def attempts(ticker: RunningTicker, webhook_id: str, **request: Any) -> list[webhooks_pb2.WebhookAttempt]:
    """All attempts, oldest first."""
    found: list[webhooks_pb2.WebhookAttempt] = []
    token = ""
    while True:
        page = await ticker.webhooks.ListWebhookAttempts(
            webhooks_pb2.ListWebhookAttemptsRequest(id=webhook_id, page_token=token, **request)
        )
        found += page.attempts
        token = page.next_page_token
        if not token:
            return found[::-1]


def ids(webhook: webhooks_pb2.StoredWebhook, sequences: Iterable[int]) -> list[str]:
    """The ids of the messages with these alerts, one each."""
    return [f"msg_{webhook.id[3:]}_{EPOCH}_{sequence}" for sequence in sequences]
