"""`tradeul watch`: a list's changes as lines, for people and for pipes."""

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from services.cli.arguments import FieldNames, FilterText, ListName, Order, examples
from services.cli.lists.client import INTERVAL_MS, Client, client_options, follow, make_request

if TYPE_CHECKING:
    from tradeul.v1.ticker_row_pb2 import TickerRow

    from services.kit.lists.list_client import Followed, ListCopy, ListRequest

COLUMNS = ("price", "change_percent", "chg_5m", "volume_today", "rvol")
EXAMPLES = examples(
    "tradeul watch gappers_up",
    "tradeul watch --filter 'chg_1m > 2 AND price < 20' --order-by 'chg_1m desc'",
    'tradeul watch halts --json | jq -c \'select(.type == "delta") | .deltas[] | select(.action == "add") | .symbol\'',
)


@click.command(epilog=EXAMPLES)
@click.argument("list_name", metavar="LIST", required=False, type=ListName())
@click.option("--filter", "filter_text", metavar="TEXT", type=FilterText(),
              help="Filter of a custom scan, instead of LIST.")  # fmt: skip
@click.option("--order-by", "--order", metavar="TEXT", type=Order(), help="Order of the custom scan.")
@click.option(
    "--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="Maximum number of rows of the scan."
)
@click.option("--interval-ms", type=click.IntRange(0, 60_000), default=INTERVAL_MS, show_default=True,
              help="Minimum time between changes; those in between are merged into one.")  # fmt: skip
@click.option(
    "--columns", type=FieldNames(), metavar="A,B,C", help="Fields in the lines for symbols that enter or leave."
)
@click.option("--json", "as_json", is_flag=True, help="Print every change as JSON: the messages of /ws/scanner.")
@client_options
def watch(
    list_name: str | None,
    filter_text: str | None,
    order_by: str | None,
    limit: int,
    interval_ms: int,
    columns: list[str] | None,
    as_json: bool,
    client: Client,
) -> None:
    """Print what enters and leaves LIST, or the custom scan of --filter and --order-by, one per line, until Ctrl-C.

    With --json, each line is a message as in docs/websocket.md: first a snapshot, then deltas, from which a program can
    keep an exact copy of the list. A lost connection is reopened at its position, so nothing is missed; meanwhile, a
    line on standard error gives the reason.
    """
    request = make_request(list_name, filter_text, order_by, limit, interval_ms)
    # The lines of JSON have complete rows.
    request.changed_fields_only = not as_json
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run(client, request, columns or COLUMNS, as_json))
    raise BrokenPipeError


async def run(client: Client, request: "ListRequest", columns: Sequence[str], as_json: bool) -> None:
    """Prints until the reader of the output has ended; raises as `follow` does."""
    from services.kit.lists.list_client import ListCopy

    copy = ListCopy()
    lines = JsonLines() if as_json else EnterLines(columns)
    task = asyncio.current_task()
    assert task is not None
    reason = ""
    with cancelled_at_its_readers_end(task):
        async with aclosing(follow(client, request, copy)) as responses:
            async for followed in responses:
                for line in lines.of(followed, copy):
                    sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
                if copy.unhealthy_reason != reason:
                    reason = copy.unhealthy_reason
                    click.echo(f"not connected: {reason}" if reason else "connected", err=True)


@contextlib.contextmanager
def cancelled_at_its_readers_end(task: "asyncio.Task[None]") -> Iterator[None]:
    """Cancels the task as soon as nobody reads the output, also while there is nothing to write."""
    loop, output = asyncio.get_running_loop(), sys.stdout.fileno()
    mode = os.fstat(output).st_mode
    # The end of a pipe that is written becomes readable by the error that the reader has ended.
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield
        return
    loop.add_reader(output, task.cancel)
    try:
        yield
    finally:
        loop.remove_reader(output)


class JsonLines:
    """Snapshots and deltas as the WebSocket sends them, with the position that a delta begins at."""

    def __init__(self) -> None:
        from services.kit.lists.kept_rows import ListRows

        self._make = ListRows
        self._rows: ListRows | None = None

    def of(self, followed: "Followed", copy: "ListCopy") -> list[str]:
        """Returns the line of a response; none for what is no change."""
        response = followed.response
        kind = None if response is None else response.WhichOneof("response")
        if response is None or kind not in ("snapshot", "delta"):
            return []
        rows = self._rows = self._rows or self._make(copy.list)
        if kind == "snapshot":
            if not rows.load(response.snapshot.SerializeToString()):
                return []
            return [b"".join(rows.snapshot()).decode()]
        previous = response.delta.previous_sequence
        return [b"".join(rows.delta(rows.apply(response.delta.SerializeToString()), previous)).decode()]


class EnterLines:
    """Lines for people: `09:31:05 + gappers_up ABCD rank 3, price 12.34, ...`."""

    def __init__(self, columns: Sequence[str]) -> None:
        from services.cli.lists.output import wants_colours

        self._columns = columns
        self._members: dict[str, TickerRow] | None = None
        self._colours = wants_colours()

    def of(self, followed: "Followed", copy: "ListCopy") -> list[str]:
        """Returns a line for each symbol that has entered or left since the response before."""
        from services.kit.runtime.clock import new_york_time

        if not copy.is_loaded or not followed.is_news:
            return []
        before, now = self._members, {row.symbol: row for row in copy.rows()}
        self._members = now
        if before is None:
            return []
        time = f"{new_york_time(copy.timestamp_ns):%H:%M:%S}"
        changes = [("-", row) for symbol, row in before.items() if symbol not in now]
        changes += [("+", row) for symbol, row in now.items() if symbol not in before]
        return [f"{time} {self._line(sign, row, copy.list)}" for sign, row in changes]

    def _line(self, sign: str, row: "TickerRow", name: str) -> str:
        from services.cli.lists.columns import cell, column
        from services.cli.lists.output import DOWN, PLAIN, UP

        shown = f"{UP if sign == '+' else DOWN}{sign}{PLAIN}" if self._colours else sign
        values = (f"{column(each).heading} {cell(row, each)}" for each in self._columns)
        return f"{shown} {name} {row.symbol:<6} rank {row.rank}, {', '.join(values)}"
