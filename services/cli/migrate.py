"""`tradeul migrate`: brings the tables up to date."""

import click

from services.kit.settings import Settings


@click.command()
def migrate() -> None:
    """Bring the tables of TRADEUL_DATABASE_URL up to date. `up` does this by itself."""
    from services.kit import database

    url = Settings.load().database_url
    names = database.migrate(url)
    for name in names:
        click.echo(f"applied {name}")
    if not names:
        click.echo("tables are up to date")
