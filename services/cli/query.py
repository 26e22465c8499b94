"""`tradeul query`: the symbols that match a filter now, once."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from services.cli.arguments import FieldNames, FilterText, Order, examples
from services.cli.lists.client import Client, client_options, refusal

if TYPE_CHECKING:
    from tradeul.v1 import scanner_pb2

ANSWER_SECONDS = 10.0
EXAMPLES = examples(
    "tradeul query 'gap_percent > 4 AND float_shares < 20000000' --order-by 'rvol desc'",
    "tradeul query 'halted' --json | jq -r .symbol",
    "tradeul query 'price < 5 AND chg_5m > 2' --columns price,chg_5m,vol_5m --csv > movers.csv",
)


@click.command(epilog=EXAMPLES)
@click.argument("filter_text", metavar="FILTER", type=FilterText())
@click.option("--order-by", "--order", default="", type=Order(), metavar="ORDER",
              help="Order, e.g. 'chg_5m desc'; default: by symbol.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="Maximum number of rows.")
@click.option("--columns", type=FieldNames(), metavar="A,B,C", help="Fields to print, or `all`.")
@click.option("--json", "shape", flag_value="json", help="Print the rows as JSON, one per line.")
@click.option("--csv", "shape", flag_value="csv", help="Print comma-separated values with a header line.")
@client_options
def query(
    filter_text: str, order_by: str, limit: int, columns: list[str] | None, shape: str | None, client: Client
) -> None:
    """Print the symbols of the whole market that match FILTER now.

    FILTER and ORDER are written in the language of docs/filters.md, with the fields of docs/fields.md.
    """
    from services.cli.lists.columns import DEFAULT, mentioned
    from services.cli.lists.output import Output, wants_colours, write_rows

    ranked = asyncio.run(ask(client, filter_text, order_by, limit))
    shown = columns or list(dict.fromkeys((*mentioned((filter_text, order_by)), *DEFAULT)))
    write_rows(ranked, Output(shape or "table", shown, columns is not None, wants_colours()))  # type: ignore[arg-type]
    if not ranked.rows and shape is None:
        sys.stdout.flush()
        click.echo("no symbol matches the filter now", err=True)


async def ask(client: Client, filter_text: str, order_by: str, limit: int) -> "scanner_pb2.RankedList":
    """Returns the rows; raises click.ClickException in one line when they cannot be had."""
    import grpc.aio
    from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

    request = scanner_pb2.QueryScanRequest(filter=filter_text, order_by=order_by, limit=limit)
    async with client.open_channel() as channel:
        stub = scanner_pb2_grpc.ScannerServiceStub(channel)
        try:
            ranked: scanner_pb2.RankedList = await stub.QueryScan(
                request, metadata=client.metadata, timeout=ANSWER_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise refusal(error, client) from error
    return ranked
