"""`tradeul migrate`: brings the tables up to date, and notes whose data they hold."""

import asyncio

import click

from services.kit.runtime.settings import Settings


@click.command()
def migrate() -> None:
    """Migrate the tables of TRADEUL_DATABASE_URL, which `tradeul up` also does.

    The first migration marks this database, and TRADEUL_REDIS_URL, as holding the data of one market (TRADEUL_MARKET);
    from then on, another market is refused.
    """
    asyncio.run(run(Settings.load()))


async def run(settings: Settings) -> None:
    """Raises StartError when the database is away, or a store holds another market's data."""
    from services.kit.stores import database, migrate, redis

    names = await migrate.migrate(settings.database_url)
    for name in names:
        click.echo(f"applied {name}")
    if not names:
        click.echo("tables are up to date")
    await database.claim_market(settings.database_url, settings.market)
    if settings.redis_url and not settings.is_replay:
        await redis.claim_market(settings.redis_url, settings.market)
