"""`tradeul keys`: who may use the gateway where keys are required (docs/security.md)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.cli.arguments import examples
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings

if TYPE_CHECKING:
    import asyncpg

Result = TypeVar("Result")
MAX_REQUESTS_PER_S = 1_000_000
MAX_STREAMS = 10_000


@click.group(epilog=examples("tradeul keys create web --right read", "tradeul keys list", "tradeul keys revoke web"))
def keys() -> None:
    """Create, list and revoke keys to the gateway. A change takes effect within seconds, without a restart."""


@keys.command()
@click.argument("name")
@click.option(
    "--right", type=click.Choice(["read", "admin"]), required=True, help="What the key may do; admin includes read."
)
@click.option(
    "--requests-per-s",
    type=click.IntRange(1, MAX_REQUESTS_PER_S),
    help="Requests per second, opened streams included; default: TRADEUL_KEY_REQUESTS_PER_S, 100.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, MAX_STREAMS),
    help="Streams open at the same time, at each service; default: TRADEUL_KEY_STREAMS, 50.",
)
@click.option(
    "--scans",
    type=click.IntRange(0, MAX_STREAMS),
    help="Custom scans open at the same time, among its streams; default: TRADEUL_KEY_SCANS, 20.",
)
def create(name: str, right: str, requests_per_s: int | None, streams: int | None, scans: int | None) -> None:
    """Create the key NAME and print it. Only its hash is stored, so it is never shown again."""
    from services.access import key_store
    from services.access.methods import Right

    limits = (requests_per_s, streams, scans)
    key = on_database(lambda connection: key_store.create(connection, name, Right[right.upper()], *limits))
    click.echo(
        f"The key {name!r} with the right {right!r}, shown this once: send it as the header x-api-key.", err=True
    )
    click.echo(key)


@keys.command("list")
def list_keys() -> None:
    """Print all keys with their rights and limits, including revoked ones."""
    from services.access import key_store

    rows = [("name", "right", "requests/s", "streams", "scans", "created", "revoked")]
    defaults = Settings.load().key
    for key in on_database(key_store.all_keys):
        limits = (
            str(key.requests_per_s or defaults.requests_per_s),
            str(key.streams or defaults.streams),
            str(defaults.scans if key.scans is None else key.scans),
        )
        rows.append((key.name, key.access_right, *limits, time_text(key.created_at), time_text(key.revoked_at)))
    print_table(rows)


@keys.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke the key NAME for good: requests with it are refused within seconds."""
    from services.access import key_store

    revoked = on_database(lambda connection: key_store.revoke(connection, name))
    click.echo(f"The key {name!r} is revoked since {time_text(revoked)}.")


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Prints rows, the first of which is the heading, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def time_text(time: datetime | None) -> str:
    """Returns a time in UTC to the second; a dash for none."""
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%SZ}"


def on_database(action: "Callable[[asyncpg.Connection[Any]], Awaitable[Result]]") -> Result:
    """Returns the result of an action on the mesh's database, which is also the embedded one of a mesh that runs here.

    Raises StartError, in one line, when the database is away or not migrated.
    """
    from services.cli.data_directory import market_directory
    from services.cli.local.embedded import postgres_url

    settings = Settings.load()
    url = settings.database_url or postgres_url(market_directory(settings))
    return asyncio.run(_connected(url, action))


async def _connected(url: str, action: "Callable[[asyncpg.Connection[Any]], Awaitable[Result]]") -> Result:
    import asyncpg

    from services.kit.runtime.redaction import reason_of, without_passwords
    from services.kit.stores.database import DATABASE_ERRORS

    try:
        connection = await asyncpg.connect(url, timeout=10, command_timeout=10)
        try:
            return await action(connection)
        finally:
            await connection.close()
    except asyncpg.UndefinedTableError as error:
        raise StartError(f"database at {without_passwords(url)} has no table of keys yet: `tradeul migrate`") from error
    except DATABASE_ERRORS as error:
        raise StartError(
            f"database at {without_passwords(url)}: {reason_of(error)}; keys are kept in it: `tradeul up`, or"
            " TRADEUL_DATABASE_URL"
        ) from error
