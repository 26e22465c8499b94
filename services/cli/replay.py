"""`tradeul replay`: a day once more, through the whole mesh."""

import asyncio
import datetime
import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from services.cli import up
from services.cli.arguments import examples
from services.cli.data_directory import locked, market_directory
from services.cli.local import mesh
from services.cli.progress import progress
from services.cli.signals import ctrl_c_is_an_interrupt
from services.kit.runtime.clock import monotonic, new_york_time
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.settings import Settings
from services.market.flat_files import RECORDINGS, TRADES_KIND, file_name, market_file_beside

log = get_logger(__name__)


def complete_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leaves the names of files to the shell."""
    return [CompletionItem(incomplete, type="file")]


@click.command(
    epilog=examples(
        "tradeul replay 2025-11-24",
        "tradeul replay 2025-11-24 --speed 60 --from 09:25 --until 10:00",
        "tradeul replay us_stocks_sip/trades_v1/2025/11/2025-11-24.csv.gz --speed max",
    )
)
@click.argument("source", metavar="DATE|FILE", shell_complete=complete_files)
@click.option("--speed", default="1", show_default=True, metavar="N|max", help="Speed relative to the original.")
@click.option("--from", "start", metavar="TIME", help="Play everything before TIME as fast as possible.")
@click.option("--until", metavar="TIME", help="Stop at TIME; the mesh stays up.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Directory of recorded days (record's --out).")
def replay(source: str, speed: str, start: str | None, until: str | None, folder: Path | None) -> None:
    """Replay a past day through the whole mesh until Ctrl-C.

    FILE is a flat file of trades or minute bars (trades_v1 or minute_aggs_v1, .csv.gz or .csv). DATE selects that day's
    recorded trades or, if there are none, its minute bars in the database. TIMEs are New York times of that day.
    """
    began = monotonic()
    live = Settings.load()
    configure(live, "replay")
    date, path = find(source, folder or market_directory(live) / RECORDINGS)
    if path is not None:
        date = _prepared_date(path, live)
    assert date is not None, "a day or a file"
    environment = {
        "TRADEUL_REPLAY_DATE": str(date),
        "TRADEUL_REPLAY_FILE": str(path.resolve()) if path is not None else "",
        "TRADEUL_REPLAY_MARKET": str(market_of(path, date) or ""),
        "TRADEUL_REPLAY_SPEED": speed,
        "TRADEUL_REPLAY_START": at(date, start),
        "TRADEUL_REPLAY_UNTIL": at(date, until),
        "TRADEUL_CLOCK": "feed",
    }
    # The services read their environment.
    os.environ.update(environment)
    settings = Settings.load()
    if settings.uses_simulator:
        log.warning(
            "previous closes, averages and baselines that are not stored come from the simulator, not the vendor"
        )
    with locked(market_directory(settings)):
        mesh.check_ports(settings)
        asyncio.run(up.run(settings, began))


def find(source: str, folder: Path) -> tuple[datetime.date | None, Path | None]:
    """Returns the requested day or file; for a day its recorded file, when `folder` has one.

    Raises click.UsageError when it is neither.
    """
    try:
        date = datetime.date.fromisoformat(source)
    except ValueError:
        path = Path(source)
        if not path.is_file():
            raise click.UsageError(f"expected a date like 2025-11-24 or a file, was {source!r}") from None
        return None, path
    recorded = folder / file_name(TRADES_KIND, date)
    return date, recorded if recorded.is_file() else None


def market_of(path: Path | None, date: datetime.date) -> Path | None:
    """Returns the market that a recording began with; None without one, or without a usable one, which is printed."""
    from services.market import recorded_market
    from services.replay.flat_file import TRADES, read_header

    if path is None or not (market := market_file_beside(path.resolve())).is_file():
        return None
    if read_header(path).kind != TRADES:
        click.echo(
            f"{market.name} is left out: a recording's minute bars hold volumes since its beginning only", err=True
        )
        return None
    try:
        head, _ = recorded_market.read(market, date)
    except StartError as error:
        click.echo(f"{error}\n  the replay begins with an empty market: volumes count from the first event", err=True)
        return None
    time = f"{new_york_time(head.now_ns):%H:%M:%S}"
    click.echo(f"{market.name}: begins with {head.symbols:,} symbols as they were at {time}", err=True)
    return market


def at(date: datetime.date, text: str | None) -> str:
    """A time of the day, or a whole ISO time, as the settings want it; raises click.UsageError for anything else."""
    if not text:
        return ""
    try:
        return datetime.datetime.combine(date, datetime.time.fromisoformat(text)).isoformat()
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise click.UsageError(f"expected a time like 09:45 or 09:45:30, was {text!r}") from None


def _prepared_date(path: Path, settings: Settings) -> datetime.date:
    """Prepares the file before anything is started: that may take a minute, and may find that it is none."""
    from services.replay.prepare import prepare
    from services.replay.service import cache_of

    with ctrl_c_is_an_interrupt(), progress(path.name) as report:
        day = prepare(path, cache_of(settings), report.update)
    manifest = day.manifest
    click.echo(f"{path.name}: {manifest.rows:,} {manifest.kind.replace('_', ' ')} of {manifest.date}", err=True)
    for example in manifest.examples:
        click.echo(f"  {example}", err=True)
    if manifest.set_aside:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in manifest.set_aside.items())
        click.echo(f"  set aside: {counts}", err=True)
    if not manifest.rows:
        raise StartError(f"{path}: expected events, had none")
    return manifest.date
