"""`tradeul migrate`: brings the tables up to date, and notes whose data they hold."""

import asyncio

import click

from services.kit.runtime.settings import Settings


@click.command()
def migrate() -> None:
    """Bring the tables of TRADEUL_DATABASE_URL up to date. `up` does this by itself.

    The first time it also notes there, and in TRADEUL_REDIS_URL, whose market's data they hold (TRADEUL_MARKET);
    from then on it refuses another market.
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
