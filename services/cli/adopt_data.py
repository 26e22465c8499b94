"""`tradeul adopt-data`: assigns the data of an earlier version to a market."""

import click

from services.kit.runtime.settings import Settings


@click.command()
@click.argument("market", type=click.Choice(["simulator", "vendor"]))
def adopt_data(market: str) -> None:
    """Move the data of an earlier version in TRADEUL_DATA_DIR to the directory of MARKET.

    Earlier versions stored the simulator's and the vendor's data in one place. Nothing is copied or deleted.
    """
    from services.cli.local.data_directory import adopt

    data_dir = Settings.load().data_dir
    for name in adopt(data_dir, market):
        click.echo(f"{data_dir / name} is now {data_dir / market / name}")
