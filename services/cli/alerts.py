"""`tradeul alerts`: what has just happened, a line for each alert, for people and for pipes."""

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import click

from services.cli.arguments import FilterText, RuleNames, examples
from services.cli.lists.client import Client, client_options, refusal
from services.cli.watch import cancelled_at_its_readers_end
from services.kit.runtime.errors import StartError

if TYPE_CHECKING:
    import grpc.aio
    from tradeul.v1 import alerts_pb2

    from services.kit.runtime.backoff import Backoff

ANSWER_SECONDS = 10.0
# The scanner sends a heartbeat at least every 10 s.
SILENCE_SECONDS = 25.0
RULE_WIDTH, SYMBOL_WIDTH, PRICE_WIDTH = 22, 8, 9
EXAMPLES = examples(
    "tradeul alerts --rules halt,resume",
    "tradeul alerts --follow --filter 'price < 20 AND rvol > 3'",
    "tradeul alerts --follow --json | jq -r 'select(.rule == \"halt\") | .symbol'",
)


@click.command(epilog=EXAMPLES)
@click.option("--rules", default="", metavar="A,B,C", type=RuleNames(), help="Names of rules; default: all.")
@click.option("--filter", "filter_text", default="", metavar="TEXT", type=FilterText(),
              help="Filter on the symbol's row at the moment of the alert.")  # fmt: skip
@click.option("--min-quality", type=float, help="Minimum quality of the alerts.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True,
              help="Maximum number of past alerts.")  # fmt: skip
@click.option("--follow", "-f", "is_followed", is_flag=True, help="Continue with new alerts until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the alerts as JSON, one per line, as in REST.")
@client_options
def alerts(
    rules: str,
    filter_text: str,
    min_quality: float | None,
    limit: int,
    is_followed: bool,
    as_json: bool,
    client: Client,
) -> None:
    """Print the newest alerts, one per line, the newest last.

    With --follow, new alerts are printed as they happen. A lost connection is reopened at the position of the last
    alert, so nothing is missed; meanwhile, a line on standard error gives the reason. If the scanner no longer holds
    what came in between, a line says so.
    """
    from tradeul.v1 import alerts_pb2

    wanted = alerts_pb2.WatchAlertsRequest(rules=rules, filter=filter_text, min_quality=min_quality)
    output = AlertLines(as_json)
    if not is_followed:
        asyncio.run(print_newest(client, wanted, limit, output))
        return
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(follow(client, wanted, limit, output))
    raise BrokenPipeError


class AlertLines:
    """Writes alerts: `09:41:07 ABCD   premarket_high_break   12.41  above the premarket high of 12.4`, or as JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def write(self, *written: "alerts_pb2.Alert") -> None:
        from services.kit.lists.alert_json import alert_json

        for alert in written:
            line = alert_json(alert.SerializeToString()).decode() if self._as_json else self._line(alert)
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def _line(self, alert: "alerts_pb2.Alert") -> str:
        from services.cli.lists.columns import cell
        from services.kit.runtime.clock import new_york_time

        time = f"{new_york_time(alert.time.ToNanoseconds()):%H:%M:%S}"
        price = cell(alert.row, "price")
        quality = f" (better than {alert.quality_rank:.0f} % of today's)" if alert.HasField("quality_rank") else ""
        return (
            f"{time} {alert.symbol:<{SYMBOL_WIDTH}} {alert.rule:<{RULE_WIDTH}} {price:>{PRICE_WIDTH}}"
            f"  {alert.text}{quality}"
        )


async def print_newest(client: Client, wanted: "alerts_pb2.WatchAlertsRequest", limit: int, output: AlertLines) -> None:
    """Prints the newest alerts; raises click.ClickException in one line when they cannot be had."""
    async with client.open_channel() as channel:
        page = await newest(client, channel, wanted, limit)
    output.write(*reversed(page.alerts))
    if not page.alerts:
        click.echo("no alerts yet", err=True)


async def newest(
    client: Client, channel: "grpc.aio.Channel", wanted: "alerts_pb2.WatchAlertsRequest", limit: int
) -> "alerts_pb2.AlertPage":
    """Returns the newest alerts, the newest first, and the position after them; raises click.ClickException."""
    import grpc.aio
    from tradeul.v1 import alerts_pb2, alerts_pb2_grpc

    request = alerts_pb2.ListAlertsRequest(rules=wanted.rules, filter=wanted.filter, limit=limit)
    if wanted.HasField("min_quality"):
        request.min_quality = wanted.min_quality
    stub = alerts_pb2_grpc.AlertsServiceStub(channel)
    try:
        page: alerts_pb2.AlertPage = await stub.ListAlerts(request, metadata=client.metadata, timeout=ANSWER_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise refusal(error, client) from error
    return page


async def follow(client: Client, wanted: "alerts_pb2.WatchAlertsRequest", limit: int, output: AlertLines) -> None:
    """Prints the newest alerts and all that come after them; raises click.ClickException when refused."""
    from services.kit.rpc.channel import StreamEnded, reconnecting
    from services.kit.runtime.backoff import Backoff

    task = asyncio.current_task()
    assert task is not None
    with cancelled_at_its_readers_end(task):
        async with client.open_channel() as channel:
            page = await newest(client, channel, wanted, limit)
            output.write(*reversed(page.alerts))
            wanted.epoch, wanted.sequence = page.position.epoch, page.position.sequence
            stream = Stream(client, channel, wanted, output, Backoff())
            try:
                await reconnecting(stream.follow, stream.note_end, stream.backoff)
            except StreamEnded as ended:
                if ended.error is None:
                    raise StartError(str(ended)) from ended
                raise refusal(ended.error, client) from ended


class Stream:
    """New alerts, over one connection after another; `wanted` has the position from which the next one continues."""

    def __init__(
        self,
        client: Client,
        channel: "grpc.aio.Channel",
        wanted: "alerts_pb2.WatchAlertsRequest",
        output: AlertLines,
        backoff: "Backoff",
    ) -> None:
        self.backoff = backoff
        self._client = client
        self._channel = channel
        self._wanted = wanted
        self._output = output
        self._is_away = False

    def note_end(self, reason: str, pause: float) -> None:
        if not self._is_away:
            self._is_away = True
            click.echo(f"not connected: {reason}", err=True)

    async def follow(self) -> str:
        """Follows one connection; returns why it ended. Raises StreamEnded when the request is refused."""
        from tradeul.v1 import alerts_pb2, alerts_pb2_grpc

        from services.kit.rpc.channel import Connection, StreamEnded

        stub = alerts_pb2_grpc.AlertsServiceStub(self._channel)
        call = stub.WatchAlerts(self._wanted, metadata=self._client.metadata)
        try:
            with Connection[alerts_pb2.WatchAlertsResponse](call, SILENCE_SECONDS) as connection:
                while True:
                    response = await connection.read()
                    self.backoff.reset()
                    if self._is_away:
                        self._is_away = False
                        click.echo("connected", err=True)
                    self._take(response)
        except StreamEnded as ended:
            if ended.is_refusal:
                raise
            return str(ended)

    def _take(self, response: "alerts_pb2.WatchAlertsResponse") -> None:
        kind = response.WhichOneof("response")
        if kind == "alert":
            self._output.write(response.alert)
            self._wanted.epoch, self._wanted.sequence = response.alert.epoch, response.alert.sequence
        elif kind in ("current", "heartbeat", "reset"):
            position = getattr(response, kind).position
            self._wanted.epoch, self._wanted.sequence = position.epoch, position.sequence
            if kind == "reset":
                click.echo(f"alerts before this one are missing: {response.reset.reason}", err=True)
