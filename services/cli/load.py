"""`tradeul load`: history into the database, with its progress."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Final

import click

from services.cli.arguments import examples
from services.cli.progress import progress
from services.historical.core import Kind, Request, make_request
from services.kit.runtime.errors import ServiceError, StartError
from services.kit.runtime.logging import configure
from services.kit.runtime.settings import Settings

# Of a load in this process; the vendor's pauses are not for somebody who waits.
ATTEMPTS: Final = 5
SHOW_SECONDS: Final = 0.25
SHOWN_PROBLEMS: Final = 20
FAILED: Final = 1


@click.command(epilog=examples("tradeul load ohlc", "tradeul load slots --source /data/flatfiles --from 2025-10-01"))
@click.argument("kind", type=click.Choice([str(kind) for kind in Kind]))
@click.option("--from", "first", metavar="DATE", default="", help="First day; the default depends on the kind.")
@click.option("--to", "last", metavar="DATE", default="", help="Last day; default: the newest complete day.")
@click.option("--source", metavar="rest|PATH|s3://...", default="rest", show_default=True, help="Where to load from.")
@click.option("--no-splits", is_flag=True, help="For slots: treat the days as if there were no splits.")
@click.option("--again", is_flag=True, help="Also load stored data again.")
@click.option("--service", is_flag=False, flag_value="", default=None, metavar="HOST:PORT",
              help="Run the load in the historical service; default: the one in the settings.")  # fmt: skip
def load(kind: str, first: str, last: str, source: str, no_splits: bool, again: bool, service: str | None) -> None:
    """Load historical data into the database. Stored data are skipped, so a stopped load continues where it left off.

    PATH is a directory with the layout us_stocks_sip/minute_aggs_v1/YYYY/MM/YYYY-MM-DD.csv.gz.
    """
    try:
        request = make_request(kind, source, first, last, no_splits, again)
        settings = Settings.load()
        # Errors only: the rest is in the bar and the summary.
        configure(settings.model_copy(update={"log_level": "error"}), "load")
        run = _here(settings, request) if service is None else _there(settings, request, service)
        sys.exit(asyncio.run(_show(run)))
    except ServiceError as error:
        raise click.ClickException(error.message) from error
    except KeyboardInterrupt:
        click.echo("what is loaded stays, and the next load goes on from there", err=True)
        raise click.Abort from None


class Shown:
    """Progress as the bar shows it, wherever the load runs."""

    def __init__(self) -> None:
        self.step = "starting"
        self.total = self.done = self.skipped = self.failed = 0
        self.rows = self.set_aside = 0.0
        self.rate: float | None = None
        self.left: float | None = None
        self.state = ""
        self.error = ""
        self.problems: list[tuple[str, int, str]] = []


async def _show(run: AsyncIterator[Shown]) -> int:
    """Draws until the load has ended; returns the exit status."""
    shown = Shown()
    with progress("load") as report:
        async with contextlib.aclosing(run) as updates:  # type: ignore[type-var]
            async for shown in updates:
                report.update(shown.step, shown.done + shown.skipped + shown.failed, shown.total, speed(shown))
    for place, line, reason in shown.problems[:SHOWN_PROBLEMS]:
        click.echo(f"{place}:{line}: {reason}" if line else f"{place}: {reason}", err=True)
    if (more := len(shown.problems) - SHOWN_PROBLEMS) > 0:
        click.echo(f"... and {more} more", err=True)
    click.echo(summary(shown))
    return 0 if shown.state == "SUCCEEDED" else FAILED


def speed(shown: Shown) -> str:
    """Rate and time left."""
    if shown.rate is None or shown.left is None:
        return ""
    minutes, seconds = divmod(round(shown.left), 60)
    rate = f"{shown.rate:.1f}/s" if shown.rate >= 1 else f"{60 * shown.rate:.1f}/min"
    return f"{rate}, {minutes}:{seconds:02d} left"


def summary(shown: Shown) -> str:
    """One line: what it came to."""
    parts = [
        f"{shown.state.lower()}: {shown.done} of {shown.total} loaded",
        f"{shown.skipped} were there",
        f"{shown.failed} failed",
        f"{shown.rows:,.0f} rows",
        f"{shown.set_aside:,.0f} set aside",
    ]
    return ", ".join(parts) + (f"; {shown.error}" if shown.error else "")


def database_url(settings: Settings) -> str:
    """The settings' database, else the embedded one of a mesh that runs on this machine."""
    from services.cli.data_directory import market_directory
    from services.cli.local.embedded import postgres_url

    return settings.database_url or postgres_url(market_directory(settings))


async def _here(settings: Settings, request: Request) -> AsyncIterator[Shown]:
    from services.historical.context import LoadContext
    from services.historical.service import open_runner
    from services.kit.runtime.clock import monotonic
    from services.kit.stores.database import OtherMarketError, claim_market

    shown, contexts = Shown(), list[LoadContext]()
    url = database_url(settings)

    def begun(job_id: int, context: LoadContext) -> None:
        contexts.append(context)

    try:
        await claim_market(url, settings.market)
        context = open_runner(settings, url, ATTEMPTS)
        runner = await context.__aenter__()
    except OtherMarketError:
        raise
    except StartError as error:
        raise StartError(f"{error}; a load needs the database: `tradeul up`, or TRADEUL_DATABASE_URL") from error
    try:
        began = monotonic()
        task = asyncio.create_task(runner.run(request, begun))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=SHOW_SECONDS)
                if contexts:
                    now = contexts[0].progress
                    for name in ("step", "total", "done", "skipped", "failed", "rows", "set_aside"):
                        setattr(shown, name, getattr(now, name))
                    seconds = monotonic() - began
                    shown.rate, shown.left = now.rate(seconds), now.seconds_left(seconds)
                    yield shown
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        shown.state, shown.error = contexts[0].state, contexts[0].error or ""
        shown.problems = [(each.place, each.line, each.reason) for each in contexts[0].problems]
        yield shown
    finally:
        await context.__aexit__(None, None, None)


async def _there(settings: Settings, request: Request, address: str) -> AsyncIterator[Shown]:
    import grpc.aio
    from tradeul.v1 import historical_pb2, historical_pb2_grpc

    from services.kit.rpc.channel import open_channel

    start = historical_pb2.StartLoadRequest(
        kind=request.kind,
        source=request.source,
        to=str(request.last or ""),
        no_splits=request.is_raw,
        again=request.again,
    )
    # A keyword of Python.
    setattr(start, "from", str(request.first or ""))
    try:
        async with open_channel(address or settings.address("historical")) as channel:
            stub = historical_pb2_grpc.HistoricalServiceStub(channel)
            job = await stub.StartLoad(start)
            try:
                async for answer in stub.WatchLoad(historical_pb2.WatchLoadRequest(job_id=job.job_id)):
                    kind = answer.WhichOneof("response")
                    if kind in ("job", "ended"):
                        yield _of_message(getattr(answer, kind))
            except asyncio.CancelledError:
                await asyncio.shield(stub.CancelLoad(historical_pb2.CancelLoadRequest(job_id=job.job_id)))
                raise
    except grpc.aio.AioRpcError as error:
        raise click.ClickException(f"{error.code().name}: {error.details()}") from error


def _of_message(job: "historical_pb2.LoadJob") -> Shown:  # type: ignore[name-defined]  # noqa: F821
    from tradeul.v1 import historical_pb2

    shown = Shown()
    for name in ("step", "total", "done", "skipped", "failed", "rows", "error"):
        setattr(shown, name, getattr(job, name))
    shown.set_aside = job.rows_set_aside
    if job.HasField("units_per_second"):
        shown.rate, shown.left = job.units_per_second, job.seconds_left
    shown.state = historical_pb2.LoadState.Name(job.state).removeprefix("LOAD_STATE_")
    shown.problems = [(each.place, int(each.line), each.reason) for each in job.problems]
    return shown
