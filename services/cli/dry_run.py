"""`tradeul dry-run`: the alerts that a rule would have had on past days."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from services.cli.alerts import AlertLines
from services.cli.arguments import RuleNames, examples
from services.cli.lists.client import Client, client_options_of, refusal
from services.cli.progress import Report, progress
from services.kit.runtime.errors import StartError

if TYPE_CHECKING:
    from tradeul.v1 import alert_rule_pb2, dry_run_pb2

TOP_SYMBOLS: Final = 10
ENDED: Final = 100.0
SOURCES: Final = {
    "RECORDING": "recorded stream, exact",
    "TRADES": "trades",
    "MINUTE_BARS_FILE": "minute bars",
    "STORED_MINUTE_BARS": "stored minute bars",
}


@click.command(
    epilog=examples(
        "tradeul dry-run high_of_day --days 20",
        "tradeul dry-run my_rule.toml --from 2025-11-17 --to 2025-11-21 --symbols AAPL,MSFT",
        "tradeul dry-run halt --json | jq -r 'select(.alert).alert.symbol'",
    )
)
@click.argument("rule", metavar="RULE|FILE", type=RuleNames())
@click.option("--days", type=click.IntRange(1, 60), help="Number of the newest days with data; default: 1.")
@click.option("--from", "first", metavar="DATE", help="First day, in place of --days.")
@click.option("--to", "last", metavar="DATE", help="Last day; default: the first day.")
@click.option("--symbols", default="", metavar="A,B,C", help="Only the alerts of these symbols; default: all.")
@click.option("--limit", type=click.IntRange(0, 10_000), default=20, show_default=True,
              help="Maximum number of alerts printed for a day; all are counted.")  # fmt: skip
@click.option("--source", default="", metavar="FOLDER",
              help="Folder of flat files, as the server sees it; default: the recorded days.")  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True, help="Print alerts, days and the end as JSON, one per line, as in REST."
)
@client_options_of("ticker")
def dry_run(
    rule: str,
    days: int | None,
    first: str | None,
    last: str | None,
    symbols: str,
    limit: int,
    source: str,
    as_json: bool,
    client: Client,
) -> None:
    """Print the alerts that a rule would have had on past days, day by day.

    RULE is the name of a rule, shipped or your own. FILE is a TOML file with one [[alerts]] table, for a rule that need
    not exist. Each day is taken from a recording, flat files of trades or of minute bars, or stored minute bars,
    whichever has the most detail.
    """
    from tradeul.v1 import dry_run_pb2

    request = dry_run_pb2.DryRunAlertRuleRequest(days=days, to=last or "", symbols=symbols, limit=limit, source=source)
    # A keyword of Python.
    setattr(request, "from", first or "")
    if rule.endswith(".toml"):
        request.rule.CopyFrom(rule_of_file(Path(rule)))
    else:
        request.name = rule
    results = Results(as_json)
    with progress("dry run") as report:
        asyncio.run(follow(client, request, results, report))
    results.print()
    if not results.has_days:
        sys.exit(1)


def rule_of_file(path: Path) -> "alert_rule_pb2.AlertRule":
    """The one rule of a file; raises click.UsageError."""
    from fastcore.alert_rules import rule_message
    from services.kit.alerts.definitions import AlertsError, load_alerts
    from services.kit.lists.definitions import load_lists

    try:
        rules = load_alerts([each.name for each in load_lists()], path)
    except (AlertsError, OSError) as error:
        raise click.UsageError(str(error)) from error
    if len(rules) != 1:
        raise click.UsageError(f"{path}: expected one rule, had {len(rules)}")
    return rule_message(rules[0])


class Results:
    """Days as they end; as JSON everything is printed at once."""

    def __init__(self, as_json: bool) -> None:
        self.has_days = False
        self._as_json = as_json
        self._alerts: dict[str, list[bytes]] = {}
        self._days: dict[str, dry_run_pb2.DryRunDay] = {}

    def take(self, response: "dry_run_pb2.DryRunAlertRuleResponse") -> None:
        """Takes an alert, a day or the end."""
        from services.kit.lists.list_json import message_json

        kind = response.WhichOneof("response")
        if kind == "day":
            self.has_days = self.has_days or not response.day.problem
        if self._as_json:
            sys.stdout.write(message_json(response).decode() + "\n")
            sys.stdout.flush()
        elif kind == "alert":
            from services.kit.runtime.clock import new_york_time

            date = f"{new_york_time(response.alert.time.ToNanoseconds()):%Y-%m-%d}"
            self._alerts.setdefault(date, []).append(response.alert.SerializeToString())
        elif kind == "day":
            self._days[response.day.date] = response.day

    def print(self) -> None:
        """Prints the days in their order, and who had most alerts in all of them."""
        from tradeul.v1 import alerts_pb2

        if self._as_json:
            return
        symbols: Counter[str] = Counter()
        for date, day in sorted(self._days.items()):
            symbols.update({each.symbol: each.alerts for each in day.symbols})
            click.echo(day_line(day))
            for lack in day.lacks:
                click.echo(f"  {date}: {lack}", err=True)
            AlertLines(False).write(*map(alerts_pb2.Alert.FromString, self._alerts.get(date, ())))
            if day.alerts > day.returned:
                click.echo(f"... and {day.alerts - day.returned:,} more")
        if len(self._days) > 1:
            click.echo(f"{sum(day.alerts for day in self._days.values()):,} alerts on {len(self._days)} days")
        if symbols:
            top = sorted(symbols.items(), key=lambda each: (-each[1], each[0]))[:TOP_SYMBOLS]
            click.echo("most: " + ", ".join(f"{symbol} {count:,}" for symbol, count in top))


def day_line(day: "dry_run_pb2.DryRunDay") -> str:
    """`2025-11-21: 878 alerts of 402 symbols (minute bars)`, or why there are none."""
    from tradeul.v1 import dry_run_pb2

    if day.problem:
        return f"{day.date}: not run: {day.problem}"
    source = SOURCES[dry_run_pb2.DryRunDay.Source.Name(day.source)]
    return f"{day.date}: {day.alerts:,} alerts of {len(day.symbols):,} symbols ({source})"


async def follow(
    client: Client, request: "dry_run_pb2.DryRunAlertRuleRequest", results: Results, report: Report
) -> None:
    """Takes the messages to the end; raises click.ClickException when the request is refused, StartError."""
    import grpc.aio
    from tradeul.v1 import alert_rules_pb2_grpc

    percent: dict[str, float] = {}
    has_ended = False
    async with client.open_channel() as channel:
        call = alert_rules_pb2_grpc.AlertRulesServiceStub(channel).DryRunAlertRule(request, metadata=client.metadata)
        try:
            async for response in call:
                match response.WhichOneof("response"):
                    case "opened":
                        percent = dict.fromkeys(response.opened.days, 0.0)
                    case "progress":
                        now = response.progress
                        # Whole when its alerts have come.
                        percent[now.date] = min(now.percent, 99.0)
                        ended = sum(each == ENDED for each in percent.values())
                        detail = f"{now.date}: {now.step}, {now.alerts:,} alerts"
                        report.update(
                            f"{ended} of {len(percent)} days", round(sum(percent.values())), 100 * len(percent), detail
                        )
                    case kind:
                        if kind == "day":
                            percent[response.day.date] = ENDED
                        has_ended = kind == "ended"
                        results.take(response)
        except grpc.aio.AioRpcError as error:
            raise refusal(error, client) from error
    if not has_ended:
        raise StartError("the dry run broke off: the connection was closed")
