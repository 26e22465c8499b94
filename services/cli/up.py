"""`tradeul up`: the whole mesh on this machine, supervised."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import click

from services.cli.check_config import unknown_variables
from services.cli.data_directory import locked, market_directory
from services.cli.local import mesh
from services.cli.local.process import LineSink
from services.cli.local.supervisor import Supervisor
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.settings import Settings

log = get_logger(__name__)

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command()
def up() -> None:
    """Run the whole mesh (stores, services and gateway) until Ctrl-C; a second Ctrl-C kills it."""
    began = monotonic()
    settings = Settings.load()
    configure(settings, "up")
    for problem in unknown_variables(os.environ):
        log.warning("in the environment", problem=problem)
    if settings.requires_keys and (names := mesh.open_services(settings)):
        log.warning("only the gateway checks keys: TRADEUL_GATEWAY_ADDRESS opens it alone", open=", ".join(names))
    with locked(market_directory(settings)):
        mesh.check_ports(mesh.ports_of(settings))
        asyncio.run(run(settings, began))


async def run(settings: Settings, began: float) -> None:
    """Runs the mesh until a signal; raises StartError when it cannot start or continue, after all is stopped."""
    supervisor = Supervisor(mesh.specs_of(settings), line_sink(settings))
    stop_requested = stop_event(supervisor)
    living = asyncio.create_task(_live(supervisor, settings, began), name="up.live")
    stop = asyncio.create_task(stop_requested.wait(), name="up.stop")
    try:
        await asyncio.wait({living, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (living, stop):
            task.cancel()
        (outcome, _) = await asyncio.gather(living, stop, return_exceptions=True)
        log.info("stopping")
        await supervisor.stop()
        log.info("stopped")
    if isinstance(outcome, Exception):
        raise outcome


async def _live(supervisor: Supervisor, settings: Settings, began: float) -> None:
    await supervisor.start()
    click.echo(welcome(settings, monotonic() - began))
    await supervisor.wait()


def stop_event(supervisor: Supervisor) -> asyncio.Event:
    """Set at the first signal; another one kills every child."""
    event = asyncio.Event()

    def request_stop() -> None:
        if event.is_set():
            log.warning("killing")
            supervisor.kill()
        event.set()

    for each in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(each, request_stop)
    return event


def line_sink(settings: Settings) -> LineSink:
    """Writes children's lines to stderr: with their name for people, as they are for machines."""
    names = settings.log_format == "console"

    def write(name: str, line: str) -> None:
        sys.stderr.write(f"{name:>14} | {line}\n" if names else f"{line}\n")

    return write


def welcome(settings: Settings, seconds: float) -> str:
    """Returns the text that shows where to look, once everything serves."""
    gateway = f"http{'s' if settings.tls.cert_file else ''}://{settings.address('gateway')}"
    if settings.is_replay:
        replay = settings.replay
        speed = replay.speed if replay.speed == "max" else f"{replay.speed:g} times its speed"
        market = f"{replay.date} once more, from {replay.file or 'its stored minute bars'}, at {speed}"
    elif settings.uses_simulator:
        sim = settings.sim
        market = f"the simulator's: {sim.symbols:,} symbols, seed {sim.seed}; set POLYGON_API_KEY for the real one"
    else:
        market = settings.polygon.ws_url
    keys, header = "", ""
    if settings.requires_keys:
        keys = f"Requests need a key (TRADEUL_KEYS): {tradeul_program()} keys create NAME --right read\n"
        header = '-H "x-api-key: $TRADEUL_API_KEY" '
    return f"""
Tradeul is ready after {seconds:.1f} s: {gateway}
The market is {market}
The data are {mesh.stores_of(settings)}
{keys}
  curl {gateway}/health
  curl {header}{gateway}/api/session/current
  curl {header}"{gateway}/api/v1/scanner/lists/gappers_up?limit=5"
  curl {header}-N "{gateway}/api/v1/scanner/lists/gappers_up:watch?min_interval_ms=500"
  {tradeul_program()} top gappers_up

Ctrl-C stops everything.
"""


def tradeul_program() -> str:
    """Returns the command as it is called from this folder."""
    program = Path(sys.executable).with_name("tradeul")
    if not program.exists():
        return f"{os.path.relpath(sys.executable)} -m services.cli.main"
    return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)
