"""`tradeul simulate-flat-files`: days of the simulated market as the vendor's flat files."""

from datetime import date, datetime, timedelta
from pathlib import Path

import click

from services.cli.arguments import examples
from services.cli.signals import ctrl_c_is_an_interrupt
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.market.flat_files import DAILY_BARS_KIND, MINUTE_BARS_KIND

KINDS = {"minutes": MINUTE_BARS_KIND, "days": DAILY_BARS_KIND}


@click.command(
    epilog=examples("tradeul simulate-flat-files /tmp/flat --from 2025-11-17 --to 2025-11-21 --kind minutes")
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), required=True, help="First day.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last day; default: the first day.")
@click.option("--kind", "kinds", type=click.Choice(list(KINDS)), multiple=True, help="Kind of bars; default: both.")
def simulate_flat_files(folder: Path, first: datetime, last: datetime | None, kinds: tuple[str, ...]) -> None:
    """Write bars of the simulated market (TRADEUL_SIM_*) below FOLDER, in the vendor's layout."""
    from services.simulator import flat_files
    from services.simulator.calendar import FIRST_DATE
    from services.simulator.market import Market

    if (last or first) < first:
        raise click.BadParameter(f"expected --from at or before --to, was {first:%Y-%m-%d} to {last:%Y-%m-%d}")
    if first.date() < FIRST_DATE:
        raise click.BadParameter(f"expected --from on or after {FIRST_DATE}, was {first:%Y-%m-%d}")
    dates = span(first.date(), (last or first).date())
    market = Market(Settings.load().sim)
    if not any(market.calendar.index_of(each) is not None for each in dates):
        raise click.ClickException(f"expected a trading day, had none from {dates[0]} to {dates[-1]}")
    try:
        with ctrl_c_is_an_interrupt():
            for path in flat_files.write(market, folder, dates, [KINDS[kind] for kind in kinds or KINDS]):
                click.echo(str(path))
    except ValueError as error:
        raise click.ClickException(reason_of(error)) from error
    except OSError as error:
        raise StartError(f"cannot write to {folder.absolute()}: {error.strerror or reason_of(error)}") from error


def span(first: date, last: date) -> list[date]:
    """The dates from `first` to `last`."""
    return [first + timedelta(offset) for offset in range((last - first).days + 1)]
