"""The tables of webhooks: requests that change them, and what the deliverer reads of them."""

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import webhooks_pb2

from services.kit.rpc.page_tokens import decode_page_token, encode_page_token
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import TOO_MANY_WEBHOOKS, UNKNOWN_WEBHOOK, WEBHOOK_CHANGED, ServiceError
from services.ticker.store import Queries, Record
from services.ticker.webhooks.messages import new_secret

# Each is a stream of the scanner's, and has a connection of its own while it delivers.
MOST_WEBHOOKS: Final = 100
_PROGRESS: Final = "epoch, sequence, failing_since, failures, next_attempt_at, problem, begun"
_COLUMNS: Final = (
    "id, enabled, disabled_reason, owner, version, url, rules, filter, min_quality, shape, secret, former_secret,"
    f" former_until, created_at, updated_at, {_PROGRESS}"
)
_TABLES: Final = "webhooks JOIN webhook_progress ON webhook_id = id"
ALL: Final = f"SELECT {_COLUMNS} FROM {_TABLES} ORDER BY created_at, id"
_ONE: Final = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE id = $1"
_DEFINITION: Final = ("url", "rules", "filter", "min_quality", "shape")
_ATTEMPTS: Final = """
    SELECT id, message_id, time, attempt, outcome, status, duration_ms, error, next_attempt_at, alerts
    FROM webhook_attempts WHERE webhook_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""
# No foreign key: an attempt of a webhook that was just deleted is nobody's mistake.
ADD_ATTEMPT: Final = """
    INSERT INTO webhook_attempts
        (webhook_id, message_id, attempt, outcome, status, duration_ms, error, next_attempt_at, alerts)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
LOCK: Final = "LOCK TABLE webhooks IN SHARE ROW EXCLUSIVE MODE"


class Attempt(NamedTuple):
    """A row of webhook_attempts, in the order of ADD_ATTEMPT's parameters after the webhook's id."""

    message_id: str
    attempt: int
    outcome: str
    status: int | None
    duration_ms: int
    error: str
    next_attempt_at: datetime | None
    alerts: int


class Hook(NamedTuple):
    """A webhook as the deliverer needs it; `former_until`: until when `former` signs, too."""

    id: str
    enabled: bool
    version: int
    url: str
    rules: tuple[str, ...]
    filter: str
    min_quality: float | None
    shape: int
    secret: bytes
    former: bytes | None
    former_until: datetime | None
    position: Position | None
    failing_since: datetime | None
    failures: int
    next_attempt_at: datetime | None
    begun: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            id=row["id"],
            enabled=row["enabled"],
            version=row["version"],
            url=row["url"],
            rules=tuple(row["rules"]),
            filter=row["filter"],
            min_quality=row["min_quality"],
            shape=webhooks_pb2.Webhook.Shape.Value(row["shape"]),
            secret=row["secret"],
            former=row["former_secret"],
            former_until=row["former_until"],
            position=None if row["epoch"] is None else Position(row["epoch"], row["sequence"]),
            failing_since=row["failing_since"],
            failures=row["failures"],
            next_attempt_at=row["next_attempt_at"],
            begun=row["begun"],
        )

    def keys(self, now: datetime) -> list[bytes]:
        """The keys that sign a message sent now."""
        is_former = self.former is not None and self.former_until is not None and now < self.former_until
        return [self.secret, *([self.former] if is_former and self.former is not None else [])]


def stored_webhook(row: Mapping[str, Any]) -> webhooks_pb2.StoredWebhook:
    """A row as clients see it: without its secrets."""
    message = webhooks_pb2.StoredWebhook(
        id=row["id"],
        webhook=webhooks_pb2.Webhook(
            url=row["url"],
            rules=row["rules"],
            filter=row["filter"],
            min_quality=row["min_quality"],
            shape=webhooks_pb2.Webhook.Shape.Value(row["shape"]),
            owner=row["owner"],
            version=row["version"],
        ),
        enabled=row["enabled"],
        disabled_reason=row["disabled_reason"],
        failures=row["failures"],
        problem=row["problem"],
    )
    if row["epoch"] is not None:
        message.position.epoch, message.position.sequence = row["epoch"], row["sequence"]
    for name in ("created_at", "updated_at", "failing_since", "next_attempt_at"):
        _set_time(getattr(message, name), row[name])
    return message


class WebhookStore:
    """Reads and writes; every method raises STORE_UNAVAILABLE while the database is away."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def all(self) -> list[webhooks_pb2.StoredWebhook]:
        return [stored_webhook(row) for row in await self._queries.all(ALL)]

    async def get(self, webhook_id: str) -> webhooks_pb2.StoredWebhook:
        """Raises UNKNOWN_WEBHOOK."""
        return stored_webhook(await self._row(webhook_id))

    async def hook(self, webhook_id: str) -> Hook:
        """Raises UNKNOWN_WEBHOOK."""
        return Hook.of(await self._row(webhook_id))

    async def own_rules(self) -> list[str]:
        """The names of the rules that do not come with the software."""
        rows = await self._queries.all("SELECT name FROM alert_rules WHERE definition IS NOT NULL")
        return [row["name"] for row in rows]

    async def create(
        self, webhook: webhooks_pb2.Webhook, enabled: bool, owner: str, position: Position | None
    ) -> tuple[webhooks_pb2.StoredWebhook, bytes]:
        """Returns the webhook, which begins after `position`, and its secret. Raises TOO_MANY_WEBHOOKS."""
        webhook_id = "wh_" + base64.b32encode(secrets.token_bytes(10)).decode().lower()
        secret = new_secret()
        async with self._queries.transaction() as connection:
            # Two that count at the same time would both find room for one.
            await connection.execute(LOCK)
            if await connection.fetchval("SELECT count(*) FROM webhooks") >= MOST_WEBHOOKS:
                raise TOO_MANY_WEBHOOKS.error(f"limit reached: {MOST_WEBHOOKS} webhooks", maximum=MOST_WEBHOOKS)
            await connection.execute(
                f"INSERT INTO webhooks (id, enabled, owner, secret, {', '.join(_DEFINITION)})"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                *(webhook_id, enabled, owner, secret, *_values(webhook)),
            )
            if position is not None:
                await connection.execute(
                    "UPDATE webhook_progress SET epoch = $2, sequence = $3 WHERE webhook_id = $1", webhook_id, *position
                )
            row = await connection.fetchrow(_ONE, webhook_id)
        return stored_webhook(row), secret

    async def update(
        self, webhook_id: str, webhook: webhooks_pb2.Webhook | None, enabled: bool | None, skip_missed: bool
    ) -> webhooks_pb2.StoredWebhook:
        """Replaces the definition if there is one, and switches if told so; an equal one changes nothing.

        Raises UNKNOWN_WEBHOOK, and WEBHOOK_CHANGED for another version than the webhook's.
        """
        async with self._queries.transaction() as connection:
            row = await connection.fetchrow(f"{_ONE} FOR UPDATE OF webhooks", webhook_id)
            if row is None:
                raise _unknown(webhook_id)
            if webhook is not None and webhook.version and webhook.version != row["version"]:
                raise WEBHOOK_CHANGED.error(
                    f"expected version {row['version']} of the webhook, was {webhook.version}: it was changed"
                    " meanwhile",
                    version=row["version"],
                )
            now = tuple(row[name] for name in _DEFINITION)
            wanted = now if webhook is None else _values(webhook)
            is_enabled = row["enabled"] if enabled is None else enabled
            reason = "" if enabled else row["disabled_reason"]
            is_switched_on = bool(enabled) and not row["enabled"]
            if skip_missed or is_switched_on or (webhook is not None and webhook.url != row["url"]):
                # A waiting message is tried again at once, and has its whole time again.
                forgotten = ", epoch = NULL, sequence = NULL, begun = begun + 1" if skip_missed else ""
                await connection.execute(
                    "UPDATE webhook_progress SET failing_since = NULL, failures = 0, next_attempt_at = NULL"
                    f"{forgotten} WHERE webhook_id = $1",
                    webhook_id,
                )
            if skip_missed or (*wanted, is_enabled, reason) != (*now, row["enabled"], row["disabled_reason"]):
                places = ", ".join(f"{name} = ${number}" for number, name in enumerate(_DEFINITION, 4))
                await connection.execute(
                    f"UPDATE webhooks SET enabled = $2, disabled_reason = $3, {places} WHERE id = $1",
                    *(webhook_id, is_enabled, reason, *wanted),
                )
            row = await connection.fetchrow(_ONE, webhook_id)
        return stored_webhook(row)

    async def rotate(
        self, webhook_id: str, keep_seconds: int
    ) -> tuple[webhooks_pb2.StoredWebhook, bytes, datetime | None]:
        """The webhook with a new secret, that, and until when the former one is used. Raises UNKNOWN_WEBHOOK."""
        secret = new_secret()
        async with self._queries.transaction() as connection:
            until = await connection.fetchval(
                "UPDATE webhooks SET secret = $2, former_secret = CASE WHEN $4 THEN secret END,"
                " former_until = CASE WHEN $4 THEN now() + $3::interval END WHERE id = $1 RETURNING former_until",
                *(webhook_id, secret, timedelta(seconds=keep_seconds), keep_seconds > 0),
            )
            row = await connection.fetchrow(_ONE, webhook_id)
        if row is None:
            raise _unknown(webhook_id)
        return stored_webhook(row), secret, until

    async def delete(self, webhook_id: str) -> None:
        """Raises UNKNOWN_WEBHOOK."""
        async with self._queries.transaction() as connection:
            deleted = await connection.fetchval("DELETE FROM webhooks WHERE id = $1 RETURNING id", webhook_id)
            await connection.execute("DELETE FROM webhook_attempts WHERE webhook_id = $1", webhook_id)
        if deleted is None:
            raise _unknown(webhook_id)

    async def add_attempt(self, webhook_id: str, attempt: Attempt) -> webhooks_pb2.WebhookAttempt:
        """Notes an attempt, and returns it as clients see it."""
        row = await self._queries.first(f"{ADD_ATTEMPT} RETURNING *", webhook_id, *attempt)
        assert row is not None, "it was inserted"
        return _attempt(row)

    async def attempts(self, webhook_id: str, limit: int, page_token: str) -> webhooks_pb2.WebhookAttemptPage:
        """The newest attempts, or those after a page's. Raises UNKNOWN_WEBHOOK, INVALID_REQUEST."""
        before = decode_page_token(page_token, _attempt_number)
        await self._row(webhook_id)
        rows = await self._queries.all(_ATTEMPTS, webhook_id, before, limit + 1)
        page = webhooks_pb2.WebhookAttemptPage(attempts=map(_attempt, rows[:limit]))
        page.count = len(page.attempts)
        if len(rows) > limit:
            page.next_page_token = encode_page_token([rows[limit - 1]["id"]])
        return page

    async def _row(self, webhook_id: str) -> Record:
        row = await self._queries.first(_ONE, webhook_id)
        if row is None:
            raise _unknown(webhook_id)
        return row


def _unknown(webhook_id: str) -> ServiceError:
    return UNKNOWN_WEBHOOK.error(f"there is no webhook {webhook_id[:80]!r}", webhook=webhook_id[:80])


def _values(webhook: webhooks_pb2.Webhook) -> tuple[Any, ...]:
    """The columns of a definition."""
    least = webhook.min_quality if webhook.HasField("min_quality") else None
    shape = webhooks_pb2.Webhook.Shape.Name(webhook.shape)
    return webhook.url, list(webhook.rules), webhook.filter, least, shape


def _attempt(row: asyncpg.Record | Record) -> webhooks_pb2.WebhookAttempt:
    message = webhooks_pb2.WebhookAttempt(
        message_id=row["message_id"],
        attempt=row["attempt"],
        outcome=webhooks_pb2.WebhookAttempt.Outcome.Value(row["outcome"]),
        status=row["status"],
        duration_ms=row["duration_ms"],
        error=row["error"],
        alerts=row["alerts"],
    )
    for name in ("time", "next_attempt_at"):
        _set_time(getattr(message, name), row[name])
    return message


def _attempt_number(number: object) -> int:
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise ValueError("not a number of an attempt")
    return number


def _set_time(field: Timestamp, time: datetime | None) -> None:
    if time is not None:
        field.FromDatetime(time)
