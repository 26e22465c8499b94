"""Requests about webhooks: each function returns the checked value, or raises the ServiceError to answer with."""

import math
import re
from collections.abc import Collection
from typing import Final

from tradeul.v1 import webhooks_pb2

from fastcore.filter_ast import FilterError
from fastcore.row_filter import row_filter
from services.kit.runtime.errors import INVALID_LIMIT, INVALID_REQUEST, INVALID_WEBHOOK, ServiceError
from services.kit.runtime.nearest import nearest_hint, nearest_name
from services.ticker.webhooks.addresses import AddressError, Resolver, target_of

MAX_ATTEMPTS: Final = 500
DEFAULT_ATTEMPTS: Final = 100
DAY_SECONDS: Final = 86_400
MOST_KEEP_SECONDS: Final = 7 * DAY_SECONDS
LONGEST_FILTER: Final = 2000
MOST_RULES: Final = 200
_ID: Final = re.compile(r"wh_[a-z2-7]{16}")


def checked_id(webhook_id: str) -> str:
    """Raises INVALID_REQUEST for what no webhook can be called."""
    if _ID.fullmatch(webhook_id) is None:
        raise INVALID_REQUEST.error(
            f"expected the id of a webhook, like wh_abcdefgh22334455, was {webhook_id[:80]!r}", field="id"
        )
    return webhook_id


async def checked_webhook(
    webhook: webhooks_pb2.Webhook, resolver: Resolver, rules: Collection[str]
) -> webhooks_pb2.Webhook:
    """A definition that can be used, in its normal form; raises INVALID_WEBHOOK with the field that cannot.

    `rules`: the names of all rules.
    """
    webhook.filter = webhook.filter.strip()
    webhook.shape = webhook.shape or webhooks_pb2.Webhook.JSON
    if webhook.shape not in webhooks_pb2.Webhook.Shape.values():
        raise _wrong("shape", f"expected JSON, DISCORD or SLACK, was {webhook.shape}")
    if webhook.HasField("min_quality") and not math.isfinite(webhook.min_quality):
        raise _wrong("min_quality", "expected a number")
    if len(webhook.rules) > MOST_RULES:
        raise _wrong("rules", f"expected at most {MOST_RULES} rules, was {len(webhook.rules)}")
    names = list(dict.fromkeys(webhook.rules))
    for name in names:
        if name not in rules:
            nearest = nearest_name(name[:80], rules)
            raise _wrong("rules", f"there is no alert rule {name[:80]!r}{nearest_hint(nearest)}", suggestion=nearest)
    del webhook.rules[:]
    webhook.rules.extend(names)
    if len(webhook.filter) > LONGEST_FILTER:
        raise _wrong("filter", f"expected at most {LONGEST_FILTER} characters, was {len(webhook.filter)}")
    try:
        row_filter(webhook.filter)
    except FilterError as error:
        raise _wrong("filter", str(error), position=error.position, suggestion=error.suggestion or "") from error
    try:
        target = target_of(webhook.url, resolver.allows_private)
        await resolver.addresses(target.host, target.port)
    except AddressError as error:
        raise _wrong("url", str(error)) from error
    return webhook


def attempts_limit(request: webhooks_pb2.ListWebhookAttemptsRequest) -> int:
    """The number of attempts to return; raises INVALID_LIMIT."""
    if not request.HasField("limit"):
        return DEFAULT_ATTEMPTS
    if not 1 <= request.limit <= MAX_ATTEMPTS:
        raise INVALID_LIMIT.error(f"expected a limit of 1 to {MAX_ATTEMPTS}, was {request.limit}", maximum=MAX_ATTEMPTS)
    return request.limit


def keep_seconds(request: webhooks_pb2.RotateWebhookSecretRequest) -> int:
    """For how long the former secret is used; raises INVALID_REQUEST."""
    if not request.HasField("keep_seconds"):
        return DAY_SECONDS
    if request.keep_seconds > MOST_KEEP_SECONDS:
        raise INVALID_REQUEST.error(
            f"expected at most {MOST_KEEP_SECONDS} seconds (7 days), was {request.keep_seconds}", field="keep_seconds"
        )
    return request.keep_seconds


def _wrong(field: str, problem: str, **metadata: object) -> ServiceError:
    return INVALID_WEBHOOK.error(
        f"{field}: {problem}", field=field, **{name: value for name, value in metadata.items() if value != ""}
    )
