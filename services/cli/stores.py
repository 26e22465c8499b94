"""Commands on the mesh's stores: `tradeul migrate`, `tradeul adopt-data` and `tradeul psql`."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import click

from services.cli.arguments import examples
from services.kit.runtime.environment import DATABASE_PASSWORD, without_settings
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import configure
from services.kit.runtime.settings import Settings

# Options go to the program that is run.
PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--tradeul-help"]}
PASSWORD_PARAMETER: Final = re.compile(r"(?<=[?&])password=(?P<password>[^&]*)&?")


@click.command(epilog=examples("TRADEUL_DATABASE_URL=postgresql://tradeul@db.example.com/tradeul tradeul migrate"))
def migrate() -> None:
    """Migrate the tables of TRADEUL_DATABASE_URL, which `tradeul up` also does.

    The first migration marks this database, and TRADEUL_REDIS_URL, as holding the data of one market (TRADEUL_MARKET);
    from then on, another market is refused.
    """
    settings = Settings.load()
    configure(settings, "migrate")
    asyncio.run(migrate_and_claim(settings))


async def migrate_and_claim(settings: Settings) -> None:
    """Brings the tables up to date, and marks the stores as the market's.

    Raises StartError when the database is away, or a store holds another market's data.
    """
    from services.kit.stores import database, migrate, redis

    names = await migrate.migrate(settings.database_url)
    for name in names:
        click.echo(f"applied {name}")
    if not names:
        click.echo("tables are up to date")
    await database.claim_market(settings.database_url, settings.market)
    if settings.redis_url and not settings.is_replay:
        await redis.claim_market(settings.redis_url, settings.market)


@click.command(epilog=examples("tradeul adopt-data simulator"))
@click.argument("market", type=click.Choice(["simulator", "vendor"]))
def adopt_data(market: str) -> None:
    """Move the data of an earlier version in TRADEUL_DATA_DIR to the directory of MARKET.

    Earlier versions stored the simulator's and the vendor's data in one place. Nothing is copied or deleted.
    """
    from services.cli.data_directory import adopt

    data_dir = Settings.load().data_dir
    for name in adopt(data_dir, market):
        click.echo(f"{data_dir / name} is now {data_dir / market / name}")


@click.command(context_settings=PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]...")
def psql(arguments: tuple[str, ...]) -> None:
    """Run psql on the mesh's database: tradeul psql -c 'SELECT count(*) FROM daily_ohlc'.

    The database is TRADEUL_DATABASE_URL or, if that is not set, the one that `tradeul up` runs.
    """
    from services.cli.data_directory import market_directory
    from services.cli.local.embedded import postgres_url

    settings = Settings.load()
    url, password = split_password(settings.database_url or postgres_url(market_directory(settings)))
    program = psql_program()
    sys.stdout.flush()
    environment = without_settings(os.environ)
    if password := password or os.environ.get(DATABASE_PASSWORD, ""):
        # Every user can read the command line.
        environment[DATABASE_PASSWORD] = password
    os.execve(program, [program, url, *arguments], environment)


def split_password(url: str) -> tuple[str, str]:
    """Returns a database's URL without its password, and the password; empty when there is none."""
    if password := urlsplit(url).password or "":
        url = url.replace(f":{password}@", "@", 1)
    elif found := PASSWORD_PARAMETER.search(url):
        password = found["password"]
        url = PASSWORD_PARAMETER.sub("", url).rstrip("?&")
    return url, unquote(password)


def psql_program() -> str:
    """The system's psql, else the one of the embedded PostgreSQL; raises StartError when there is neither."""
    from services.cli.local.embedded import postgres_programs

    if found := shutil.which("psql"):
        return found
    program = Path(postgres_programs()) / "psql"
    if not program.exists():
        raise StartError(f"expected psql in PATH or at {program}, was at neither")
    return str(program)
