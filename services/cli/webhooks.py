"""`tradeul webhooks`: where alerts are sent, by the gateway of a running mesh."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.cli.arguments import FilterText, RuleNames, examples
from services.cli.keys import print_table, time_text
from services.cli.lists.client import Client, client_options_of, refusal

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from tradeul.v1 import webhooks_pb2

Result = TypeVar("Result")
# A test may take 10 s.
ANSWER_SECONDS = 20.0
SHAPES = ("json", "discord", "slack")
EXAMPLES = examples(
    "tradeul webhooks create https://hooks.example.com/alerts --rules halt,resume",
    "tradeul webhooks list",
    "tradeul webhooks test WEBHOOK",
    "tradeul webhooks attempts WEBHOOK",
)
ticker_options = client_options_of("ticker")


@click.group(epilog=EXAMPLES)
def webhooks() -> None:
    """Create, list, test and delete webhooks, to which alerts are sent as they happen."""


@webhooks.command()
@click.argument("url")
@click.option("--rules", default="", metavar="A,B,C", type=RuleNames(), help="Names of rules; default: all.")
@click.option("--filter", "filter_text", default="", metavar="TEXT", type=FilterText(),
              help="Filter on the symbol's row at the moment of the alert.")  # fmt: skip
@click.option("--min-quality", type=float, help="Minimum quality of the alerts.")
@click.option("--shape", type=click.Choice(SHAPES), default="json", show_default=True, help="Format of the messages.")
@ticker_options
def create(url: str, rules: str, filter_text: str, min_quality: float | None, shape: str, client: Client) -> None:
    """Create a webhook that receives alerts from now on, and print its secret, which is never shown again."""
    from tradeul.v1 import webhooks_pb2

    webhook = webhooks_pb2.Webhook(
        url=url,
        rules=[name.strip() for name in rules.split(",") if name.strip()],
        filter=filter_text,
        min_quality=min_quality,
        shape=webhooks_pb2.Webhook.Shape.Value(shape.upper()),
    )
    made = _ask(client, "CreateWebhook", webhooks_pb2.CreateWebhookRequest(webhook=webhook))
    click.echo(f"The webhook {made.webhook.id}; its secret, shown this once, verifies what it gets:", err=True)
    click.echo(made.secret)


@webhooks.command("list")
@ticker_options
def list_webhooks(client: Client) -> None:
    """Print all webhooks with the position that each has reached and its problem, if any."""
    from tradeul.v1 import webhooks_pb2

    answer = _ask(client, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())
    rows = [("id", "shape", "state", "position", "rules", "url")]
    for each in answer.webhooks:
        position = f"{each.position.epoch}/{each.position.sequence}" if each.HasField("position") else "-"
        shape = webhooks_pb2.Webhook.Shape.Name(each.webhook.shape).lower()
        rules = ",".join(each.webhook.rules) or "all"
        rows.append((each.id, shape, _state(each), position, rules, each.webhook.url))
    print_table(rows)
    for each in answer.webhooks:
        for problem in filter(None, (each.disabled_reason, each.problem)):
            click.echo(f"{each.id}: {problem}", err=True)


@webhooks.command()
@click.argument("webhook")
@ticker_options
def delete(webhook: str, client: Client) -> None:
    """Delete WEBHOOK (an id) and its attempts."""
    from tradeul.v1 import webhooks_pb2

    _ask(client, "DeleteWebhook", webhooks_pb2.DeleteWebhookRequest(id=webhook))
    click.echo(f"The webhook {webhook} is deleted.")


@webhooks.command()
@click.argument("webhook")
@ticker_options
def test(webhook: str, client: Client) -> None:
    """Send a test message to WEBHOOK (an id); the command fails if it is not accepted."""
    from tradeul.v1 import webhooks_pb2

    attempt = _ask(client, "TestWebhook", webhooks_pb2.TestWebhookRequest(id=webhook))
    if attempt.error:
        raise click.ClickException(f"not accepted: {attempt.error}")
    click.echo(f"Accepted with status {attempt.status} in {attempt.duration_ms} ms: {attempt.message_id}")


@webhooks.command()
@click.argument("webhook")
@click.option("--keep-seconds", type=click.IntRange(0, 604_800),
              help="For how long messages are also signed with the former secret; default: a day.")  # fmt: skip
@ticker_options
def rotate(webhook: str, keep_seconds: int | None, client: Client) -> None:
    """Give WEBHOOK (an id) a new secret and print it; it is never shown again."""
    from tradeul.v1 import webhooks_pb2

    request = webhooks_pb2.RotateWebhookSecretRequest(id=webhook, keep_seconds=keep_seconds)
    made = _ask(client, "RotateWebhookSecret", request)
    if made.HasField("former_until"):
        click.echo(f"Until {_time(made.former_until)} messages are signed with the former secret, too.", err=True)
    click.echo(made.secret)


@webhooks.command()
@click.argument("webhook")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="Maximum number of attempts.")
@ticker_options
def attempts(webhook: str, limit: int, client: Client) -> None:
    """Print the newest delivery attempts to WEBHOOK (an id), the newest last."""
    from tradeul.v1 import webhooks_pb2

    request = webhooks_pb2.ListWebhookAttemptsRequest(id=webhook, limit=limit)
    page = _ask(client, "ListWebhookAttempts", request)
    rows = [("time", "message", "attempt", "outcome", "status", "ms", "alerts", "error")]
    for each in reversed(page.attempts):
        outcome = webhooks_pb2.WebhookAttempt.Outcome.Name(each.outcome).lower()
        status = str(each.status) if each.HasField("status") else "-"
        numbers = (str(each.attempt), outcome, status, str(each.duration_ms), str(each.alerts))
        rows.append((_time(each.time), each.message_id, *numbers, each.error))
    print_table(rows)


def _ask(client: Client, method: str, request: Any) -> Any:
    """Returns the answer to a request; raises click.ClickException in one line."""
    return asyncio.run(_asked(client, lambda stub: getattr(stub, method)(
        request, metadata=client.metadata, timeout=ANSWER_SECONDS
    )))  # fmt: skip


async def _asked(client: Client, call: Callable[[Any], Awaitable[Result]]) -> Result:
    import grpc.aio
    from tradeul.v1 import webhooks_pb2_grpc

    async with client.open_channel() as channel:
        try:
            return await call(webhooks_pb2_grpc.WebhooksServiceStub(channel))
        except grpc.aio.AioRpcError as error:
            raise refusal(error, client) from error


def _state(webhook: "webhooks_pb2.StoredWebhook") -> str:
    if not webhook.enabled:
        return "off"
    return f"failing since {_time(webhook.failing_since)}" if webhook.HasField("failing_since") else "on"


def _time(time: "Timestamp") -> str:
    return time_text(time.ToDatetime())
