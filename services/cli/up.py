"""`tradeul up`: the whole mesh on this machine, supervised."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import click

from services.cli.arguments import examples
from services.cli.check_config import unknown_variables
from services.cli.data_directory import locked, market_directory
from services.cli.local import mesh
from services.cli.local.process import LineSink
from services.cli.local.standby import name_standby
from services.cli.local.supervisor import Phase, Supervisor
from services.cli.local.tokens import check_issuer
from services.cli.progress import LINE_SECONDS, LineBelow, start_line
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.open_files import allow_many
from services.kit.runtime.settings import Settings

log = get_logger(__name__)

SHOW_SECONDS: Final = 0.25
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(
    epilog=examples(
        "tradeul up",
        "TRADEUL_SIM_START=2025-11-24T09:31 tradeul up",
        "TRADEUL_STANDBY=sync tradeul up --standby",
        "POLYGON_API_KEY_FILE=/run/secrets/polygon tradeul up",
    )
)
@click.option(
    "--standby",
    is_flag=True,
    help="Also run a second sequencer, which takes over when the first one dies; TRADEUL_STANDBY says how.",
)
def up(standby: bool) -> None:
    """Run the whole mesh (stores, services and gateway) until Ctrl-C; a second Ctrl-C kills it."""
    began = monotonic()
    settings = Settings.load()
    if standby:
        settings = name_standby(settings)
    stay_below_logs()
    # The gateway has this limit from here.
    allow_many()
    configure(settings, "up")
    for problem in unknown_variables(os.environ):
        log.warning("in the environment", problem=problem)
    if settings.requires_keys and (names := mesh.open_services(settings)):
        log.warning(
            "ports that check neither keys nor certificates: TRADEUL_GATEWAY_ADDRESS opens the gateway alone",
            open=", ".join(names),
        )
    with locked(market_directory(settings)):
        mesh.check_ports(settings, has_standby=standby)
        asyncio.run(run(settings, began, has_standby=standby))


async def run(settings: Settings, began: float, *, has_standby: bool = False) -> None:
    """Runs the mesh until a signal; raises StartError when it cannot start or continue, after all is stopped."""
    specs = mesh.specs_of(settings, has_standby=has_standby)
    supervisor = Supervisor(specs, line_sink(settings), settings.hung_seconds)
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


def stay_below_logs() -> None:
    """Makes the standard error of a terminal one whose last line can show the progress of the start."""
    if sys.stderr.isatty():
        sys.stderr = LineBelow(sys.stderr)


async def _live(supervisor: Supervisor, settings: Settings, began: float) -> None:
    meanwhile = [asyncio.create_task(_show_start(supervisor), name="up.progress")]
    if url := settings.jwt.jwks_url:
        meanwhile.append(asyncio.create_task(_warn_of_issuer(url), name="up.issuer"))
    try:
        await supervisor.start()
    finally:
        for task in meanwhile:
            task.cancel()
        await asyncio.gather(*meanwhile, return_exceptions=True)
    click.echo(welcome(settings, monotonic() - began))
    await supervisor.wait()


async def _warn_of_issuer(url: str) -> None:
    """Warns when tokens could not be verified now. The issuer may come later; what is wrong is then shown here only."""
    try:
        await check_issuer(url)
    except StartError as error:
        log.warning("tokens are refused until the public keys of their issuer can be read", problem=str(error))


async def _show_start(supervisor: Supervisor) -> None:
    """Shows which parts are ready: as the last line of a terminal, else in a log line now and then."""
    seconds = 0.0
    try:
        while True:
            await asyncio.sleep(SHOW_SECONDS)
            seconds += SHOW_SECONDS
            phases = supervisor.phases
            ready = sum(phase is Phase.READY for phase in phases.values())
            waiting = [name for name, phase in phases.items() if phase in (Phase.STARTING, Phase.BACKING_OFF)]
            if isinstance(sys.stderr, LineBelow):
                sys.stderr.show(start_line(ready, len(phases), waiting))
            elif seconds >= LINE_SECONDS:
                seconds = 0.0
                log.info("starting", ready=ready, of=len(phases), waiting_for=", ".join(waiting))
    finally:
        if isinstance(sys.stderr, LineBelow):
            sys.stderr.show("")


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
