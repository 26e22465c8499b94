"""`tradeul serve`: one or several services in this process; `tradeul list-targets`: their table."""

import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import click
from click.shell_completion import CompletionItem

from services.cli.arguments import examples
from services.cli.signals import stop_event
from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.garbage import collect_rarely
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.open_files import allow_many
from services.kit.runtime.priority import work_in_short_turns, work_in_the_background
from services.kit.runtime.settings import Settings
from services.kit.runtime.watchdog import notify
from services.modules import GATEWAY_AFTER, GATEWAY_PORT, MODULES, REPLAY, Module, by_name

if TYPE_CHECKING:
    from services.kit.rpc.server import Host
    from services.kit.runtime.lifecycle import Service

log = get_logger(__name__)


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the services whose names begin so."""
    return [CompletionItem(each.name, help=each.does) for each in MODULES if each.name.startswith(incomplete)]


@click.command(
    epilog=examples(
        "tradeul serve scanner",
        "TRADEUL_DATA_INGEST_ADDRESS=feed.example.com:8001 tradeul serve scanner websocket_server",
    )
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_names)
def serve(names: tuple[str, ...]) -> None:
    """Run the named services in this process until SIGTERM or Ctrl-C."""
    modules = in_order(names)
    # What a service writes, such as the journal, is for this user only.
    os.umask(0o077)
    allow_many()
    settings = Settings.load()
    configure(settings, "+".join(module.name for module in modules))
    turns = {module.turn for module in modules}
    if "tape" in turns:
        work_in_short_turns()
    elif turns == {"background"}:
        work_in_the_background()
    import uvloop

    try:
        uvloop.run(run(modules, settings))
    except (SettingsError, StartError):
        raise
    except Exception:
        log.exception("a service failed")
        sys.exit(1)


@click.command(epilog=examples("tradeul list-targets"))
def list_targets() -> None:
    """Print the services with their ports, dependencies and purposes."""
    rows = [(module.name, str(module.port), ", ".join(module.needs) or "-", module.does) for module in MODULES]
    rows.append(("gateway", str(GATEWAY_PORT), ", ".join(GATEWAY_AFTER), "Envoy, the gateway; `up` starts it"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, port, needs, does in rows:
        click.echo(f"{name:<{widths[0]}}  {port:>{widths[1]}}  {needs:<{widths[2]}}  {does}")


def in_order(names: Sequence[str]) -> list[Module]:
    """The modules, each after what it needs; raises click.UsageError for an unknown or repeated name."""
    try:
        chosen = [by_name(name) for name in names]
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error
    if len(set(chosen)) != len(chosen):
        raise click.UsageError(f"expected each service once, was {' '.join(names)}")
    return sorted(chosen, key=(REPLAY, *MODULES).index)


def create(module: Module, settings: Settings) -> "Service":
    """Loads the service's code and makes it."""
    name, _, factory = module.factory.partition(":")
    return cast("Service", getattr(importlib.import_module(name), factory)(settings))


async def run(modules: Sequence[Module], settings: Settings) -> None:
    """Starts them in order, serves until a signal, stops them in reverse.

    Raises the error of a service that failed, after all are stopped.
    """
    from services.kit.rpc.server import Host

    stop_requested = stop_event()
    hosts: list[Host] = []
    try:
        for module in modules:
            host = Host(create(module, settings), serve_grpc=module.protocol == "grpc")
            if not await _unless_stopped(host, stop_requested):
                return
            hosts.append(host)
        collect_rarely()
        working = [asyncio.create_task(host.wait()) for host in hosts]
        stop = asyncio.create_task(stop_requested.wait())
        notifying = asyncio.create_task(notify(), name="notify")
        try:
            done, _ = await asyncio.wait([*working, stop], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*working, stop, notifying):
                task.cancel()
            await asyncio.gather(*working, stop, notifying, return_exceptions=True)
    finally:
        for host in reversed(hosts):
            await host.stop()


async def _unless_stopped(host: "Host", stop_requested: asyncio.Event) -> bool:
    """Starts `host`; returns False if a stop was requested before it had started."""
    start = asyncio.create_task(host.start())
    stop = asyncio.create_task(stop_requested.wait())
    await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not start.done():
        # It waits for something else: it releases what it has.
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        return False
    await start
    return True
