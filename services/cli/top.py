"""`tradeul top`: a ranked list as a live table in the terminal, over gRPC."""

import asyncio
from collections.abc import AsyncIterator

import click
import grpc
import grpc.aio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.list_client import ListCopy, ListRequest, follow_list
from services.kit.runtime.clock import monotonic, new_york_time
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings

# Longer than a service takes to come back.
FIRST_ANSWER_SECONDS = 5.0
INTERVAL_MS = 250
PLAIN_WIDTH = 200
HALTS = "halts"
COLUMNS: tuple[tuple[str, str], ...] = (
    ("price", "price"),
    ("change_percent", "chg %"),
    ("gap_percent", "gap %"),
    ("chg_5m", "5m %"),
    ("volume_today", "volume"),
    ("rvol", "rvol"),
    ("vwap", "vwap"),
    ("price_from_intraday_high", "from high %"),
    ("float_shares", "float"),
)
# Of the list `halts`: why, since when, until when.
HALT_COLUMNS: tuple[tuple[str, str], ...] = (
    ("price", "price"),
    ("change_percent", "chg %"),
    ("volume_today", "volume"),
    ("halt_reason", "reason"),
    ("halted_at", "halted"),
    ("resumes_at", "resumes"),
    ("halts_today", "halts"),
)
TIMES = frozenset({"halted_at", "resumes_at"})
TEXTS = frozenset({"halt_reason"})
PERCENTS = frozenset({"change_percent", "gap_percent", "chg_5m", "price_from_intraday_high"})
COUNTS = frozenset({"volume_today", "float_shares", "halts_today"})


@click.command()
@click.argument("list_name", metavar="LIST", required=False)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Gateway or scanner to connect to; default: the gateway, or the scanner if the gateway has TLS.",
)
@click.option("--limit", type=click.IntRange(1, 500), default=25, show_default=True, help="Number of rows.")
@click.option("--filter", "filter_text", metavar="TEXT", help="Filter of a custom scan, instead of LIST.")
@click.option("--order", "order_by", metavar="TEXT", help="Order of the custom scan, e.g. 'chg_5m desc'.")
def top(list_name: str | None, address: str | None, limit: int, filter_text: str | None, order_by: str | None) -> None:
    """Show LIST, or the custom scan of --filter and --order, live until Ctrl-C (once if there is no terminal)."""
    request = make_request(list_name, filter_text, order_by, limit)
    settings = Settings.load()
    target = address or str(settings.address("scanner" if settings.tls.cert_file else "gateway"))
    title = list_name or " ".join(part for part in (filter_text, order_by and f"by {order_by}") if part)
    try:
        asyncio.run(show(target, request, title, limit, make_console(), settings.api_key))
    except KeyboardInterrupt:
        return
    except grpc.aio.AioRpcError as error:
        is_key_missing = error.code() is grpc.StatusCode.UNAUTHENTICATED
        hint = "; TRADEUL_API_KEY is the key that is sent" if is_key_missing else ""
        raise click.ClickException(f"{error.code().name}: {error.details()}{hint}") from error


def make_console() -> Console:
    """The terminal; where there is none, lines are as long as the table needs."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def make_request(list_name: str | None, filter_text: str | None, order_by: str | None, limit: int) -> ListRequest:
    """Returns the request to the scanner; raises click.UsageError when it is neither a list nor a custom scan."""
    is_custom = filter_text is not None or order_by is not None
    if (list_name is None) != is_custom:
        raise click.UsageError("expected either LIST or --filter and --order")
    if list_name is not None:
        return scanner_pb2.WatchListRequest(list=list_name, min_interval_ms=INTERVAL_MS)
    return scanner_pb2.WatchScanRequest(
        filter=filter_text or "", order_by=order_by or "", limit=limit, min_interval_ms=INTERVAL_MS
    )


async def show(target: str, request: ListRequest, title: str, limit: int, console: Console, api_key: str = "") -> None:
    """Draws the list until cancelled, or once where there is no terminal.

    Raises grpc.aio.AioRpcError when the request is refused for good, StartError when nobody answers at first.
    """
    copy = ListCopy()
    copy.unhealthy_reason = f"connecting to {target}"
    updates = _updates(target, request, copy, api_key)
    if not console.is_terminal:
        await anext(update async for update in updates if update.is_loaded)
        console.print(render(copy, title, limit))
        return
    with Live(render(copy, title, limit), console=console, auto_refresh=False, screen=True) as live:
        async for _ in updates:
            live.update(render(copy, title, limit), refresh=True)


async def _updates(target: str, request: ListRequest, copy: ListCopy, api_key: str) -> AsyncIterator[ListCopy]:
    """Yields the copy after each change; a list that was there once is waited for, however long it is away."""
    began, was_loaded = monotonic(), False
    async for update in follow_list(target, request, copy, api_key):
        was_loaded = was_loaded or update.is_loaded
        if not was_loaded and monotonic() - began > FIRST_ANSWER_SECONDS:
            raise StartError(f"no list from {target}: {update.unhealthy_reason}; is the mesh running (tradeul up)?")
        yield update


def render(copy: ListCopy, title: str, limit: int) -> RenderableType:
    """The table and a line that says how current it is."""
    table = Table(title=Text(title), expand=False)
    table.add_column("#", justify="right")
    table.add_column("symbol", style="bold")
    columns = HALT_COLUMNS if title == HALTS else COLUMNS
    for _, heading in columns:
        table.add_column(heading, justify="right")
    table.add_column("company", overflow="ellipsis", no_wrap=True, max_width=32)
    for row in copy.rows()[:limit]:
        cells = [cell(row, name) for name, _ in columns]
        table.add_row(str(row.rank), row.symbol, *cells, Text(row.company_name))
    return Group(table, status_line(copy))


def status_line(copy: ListCopy) -> Text:
    """Time of the list, its position, or what is wrong."""
    if copy.unhealthy_reason:
        return Text(copy.unhealthy_reason, style="yellow")
    if not copy.is_loaded:
        return Text("waiting for the list", style="dim")
    time = new_york_time(copy.timestamp_ns)
    return Text(f"{time:%Y-%m-%d %H:%M:%S} New York, change {copy.sequence} of {copy.epoch}", style="dim")


def cell(row: TickerRow, name: str) -> Text:
    """One value; an absent one is a dash."""
    if not row.HasField(name):  # type: ignore[arg-type]
        return Text("-", style="dim")
    if name in TIMES:
        # With its date: some halts last for days.
        return Text(f"{new_york_time(getattr(row, name).ToNanoseconds()):%m-%d %H:%M:%S}")
    if name in TEXTS:
        return Text(getattr(row, name))
    value: float = getattr(row, name)
    if name in PERCENTS:
        return Text(f"{value:+.2f}", style="green" if value > 0 else "red" if value < 0 else "")
    if name in COUNTS:
        return Text(short_count(value))
    return Text(f"{value:.2f}")


def short_count(value: float) -> str:
    """1234567 -> 1.23M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.2f}{letter}"
    return f"{value:.0f}"
