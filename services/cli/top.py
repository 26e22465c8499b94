"""`tradeul top`: the ranked lists live in the terminal, or one of them once."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from services.cli.arguments import FieldNames, FilterText, ListName, Order, examples
from services.cli.lists.client import Client, client_options, follow, make_request

if TYPE_CHECKING:
    from tradeul.v1 import scanner_pb2

    from services.kit.lists.list_client import ListRequest

FIRST_LIST: Final = "gappers_up"
EXAMPLES = examples(
    "tradeul top",
    "tradeul top momentum_up",
    "tradeul top --filter 'rvol >= 3 AND float_shares < 20000000' --order-by 'chg_5m desc'",
    "tradeul top gappers_up --once --columns price,gap_percent,premarket_volume",
    "tradeul top halts --json | jq -r '.symbol + \" \" + .halt_reason'",
    "tradeul top --address scanner.example.com:8000 --key-file ~/.tradeul-key",
)


@click.command(epilog=EXAMPLES)
@click.argument("list_name", metavar="LIST", required=False, type=ListName())
@click.option("--filter", "filter_text", metavar="TEXT", type=FilterText(),
              help="Filter of a custom scan, instead of LIST.")  # fmt: skip
@click.option("--order-by", "--order", metavar="TEXT", type=Order(),
              help="Order of the custom scan, e.g. 'chg_5m desc'.")  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(1, 500), help="Maximum number of rows: of the output (default 25) or of the scan."
)
@click.option("--columns", type=FieldNames(), metavar="A,B,C", help="Fields to show, or `all`.")
@click.option("--once", is_flag=True, help="Print the rows as a table and exit.")
@click.option("--json", "shape", flag_value="json", help="Print the rows as JSON, one per line, and exit.")
@click.option("--csv", "shape", flag_value="csv", help="Print comma-separated values with a header line and exit.")
@client_options
def top(
    list_name: str | None,
    filter_text: str | None,
    order_by: str | None,
    limit: int | None,
    columns: list[str] | None,
    once: bool,
    shape: str | None,
    client: Client,
) -> None:
    """Show the lists live, beginning with LIST or the custom scan of --filter and --order-by; `?` shows the keys.

    If the input or the output is not a terminal, LIST or the scan is printed once, as with --once.
    """
    is_once = once or shape is not None or not is_interactive()
    if list_name is None and filter_text is None and order_by is None and not is_once:
        list_name = FIRST_LIST
    request = make_request(list_name, filter_text, order_by, limit)
    if is_once:
        print_once(client, request, limit or 25, columns, shape)
        return
    run_app(client, request, limit, columns)


def is_interactive() -> bool:
    """True where a screen can be drawn and keys be read."""
    # Textual draws on the standard error.
    return (
        all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def print_once(
    client: Client, request: "ListRequest", limit: int, columns: list[str] | None, shape: str | None
) -> None:
    """Prints the rows; why there is none on the standard error."""
    from services.cli.lists.columns import default_columns, mentioned
    from services.cli.lists.output import Output, wants_colours, write_rows
    from services.kit.runtime.clock import new_york_time

    ranked = asyncio.run(first_rows(client, request))
    del ranked.rows[limit:]
    texts = (getattr(request, "filter", ""), getattr(request, "order_by", ""))
    shown = columns or list(dict.fromkeys((*mentioned(texts), *default_columns(ranked.list))))
    write_rows(ranked, Output(shape or "table", shown, columns is not None, wants_colours()))  # type: ignore[arg-type]
    if shape is None:
        time = new_york_time(ranked.timestamp.ToNanoseconds())
        click.echo(f"{time:%Y-%m-%d %H:%M:%S} New York, change {ranked.sequence} of {ranked.epoch}")
    if not ranked.rows and shape is None:
        sys.stdout.flush()
        click.echo(f"{ranked.list} has no rows now", err=True)


async def first_rows(client: Client, request: "ListRequest") -> "scanner_pb2.RankedList":
    """Returns the list as it is now; raises as `follow` does."""
    from contextlib import aclosing

    from tradeul.v1 import scanner_pb2

    from services.kit.lists.list_client import ListCopy

    copy = ListCopy()
    async with aclosing(follow(client, request, copy)) as responses:
        await anext(followed async for followed in responses if copy.is_loaded)
    ranked = scanner_pb2.RankedList(list=copy.list, epoch=copy.epoch, sequence=copy.sequence, rows=copy.rows())
    ranked.timestamp.FromNanoseconds(copy.timestamp_ns)
    return ranked


def run_app(client: Client, request: "ListRequest", limit: int | None, columns: Sequence[str] | None) -> None:
    """Runs the lists in the terminal until they are left."""
    from tradeul.v1 import scanner_pb2

    from services.cli.terminal.app import TopApp, list_sheet, scan_sheet
    from services.cli.terminal.feed import MOST_ROWS
    from services.cli.terminal.saved import saved_path
    from services.kit.lists.definitions import load_lists

    if not os.environ.get("NO_COLOR"):
        # Empty means unset (https://no-color.org); Textual takes it for set.
        os.environ.pop("NO_COLOR", None)
    names = [definition.name for definition in load_lists()]
    if isinstance(request, scanner_pb2.WatchScanRequest):
        scan = scan_sheet(request.filter, request.order_by, limit or MOST_ROWS, columns or ())
        sheets, active = [*(list_sheet(name) for name in names), scan], len(names)
    else:
        if request.list not in names:
            names.insert(0, request.list)
        sheets, active = [list_sheet(name) for name in names], names.index(request.list)
        sheets[active].columns = list(columns or sheets[active].columns)
    TopApp(client, sheets, saved_path(), active).run()
