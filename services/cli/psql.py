"""`tradeul psql`: PostgreSQL's shell on the mesh's database."""

import os
import shutil
import sys
from pathlib import Path

import click

from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings

HERE = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--tradeul-help"]}


@click.command(context_settings=HERE)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS]...")
def psql(arguments: tuple[str, ...]) -> None:
    """Run psql on the mesh's database: tradeul psql -c 'SELECT count(*) FROM daily_ohlc'.

    The database is TRADEUL_DATABASE_URL or, if that is not set, the one that `tradeul up` runs.
    """
    from services.cli.local.data_directory import market_directory
    from services.cli.local.embedded import postgres_url

    settings = Settings.load()
    url = settings.database_url or postgres_url(market_directory(settings))
    program = psql_program()
    sys.stdout.flush()
    os.execv(program, [program, url, *arguments])


def psql_program() -> str:
    """The system's psql, else the one of the embedded PostgreSQL; raises StartError when there is neither."""
    from services.cli.local.embedded import postgres_programs

    if found := shutil.which("psql"):
        return found
    program = Path(postgres_programs()) / "psql"
    if not program.exists():
        raise StartError(f"expected psql in PATH or at {program}, was at neither")
    return str(program)
