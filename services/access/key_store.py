"""The table api_keys: written by `tradeul keys`, read by the access service. Keys are stored as hashes only."""

import datetime
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import asyncpg

from services.access.core import Key, hash_of, new_key
from services.access.methods import Right
from services.kit.runtime.errors import StartError
from services.kit.runtime.setting_groups import KeySettings

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_COLUMNS: Final = "name, access_right, requests_per_s, streams, scans, created_at, revoked_at"


class StoredKey(NamedTuple):
    """A row as `tradeul keys list` shows it; a limit of None is the default."""

    name: str
    access_right: str
    requests_per_s: int | None
    streams: int | None
    scans: int | None
    created_at: datetime.datetime
    revoked_at: datetime.datetime | None


async def live_keys(connection: asyncpg.Connection, defaults: KeySettings | None = None) -> list[Key]:
    """Returns the keys that are not revoked; `defaults` are the limits of those that have none of their own."""
    defaults = defaults or KeySettings()
    rows = await connection.fetch(
        "SELECT name, hash, access_right, requests_per_s, streams, scans FROM api_keys WHERE revoked_at IS NULL"
    )
    return [
        Key(
            row["name"],
            row["hash"],
            Right[row["access_right"].upper()],
            row["requests_per_s"] or defaults.requests_per_s,
            streams=row["streams"] or defaults.streams,
            scans=defaults.scans if row["scans"] is None else row["scans"],
        )
        for row in rows
    ]


async def revoked_names(connection: asyncpg.Connection) -> list[str]:
    """Returns the names of the keys that are revoked."""
    return [row["name"] for row in await connection.fetch("SELECT name FROM api_keys WHERE revoked_at IS NOT NULL")]


async def create(
    connection: asyncpg.Connection,
    name: str,
    right: Right,
    requests_per_s: int | None = None,
    streams: int | None = None,
    scans: int | None = None,
) -> str:
    """Stores a new key and returns it: this is the only time that it is known. A limit of None is the default.

    Raises StartError for a name that is not one, or that a key has or had.
    """
    if NAME.fullmatch(name) is None:
        raise StartError(
            "expected a name of at most 63 lower-case letters, digits, dots, hyphens and underscores that begins with a"
            f" letter or digit, was {name!r}"
        )
    key = new_key()
    created = await connection.fetchval(
        """INSERT INTO api_keys (name, hash, access_right, requests_per_s, streams, scans)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING RETURNING name""",
        *(name, hash_of(key), right.label, requests_per_s, streams, scans),
    )
    if created is None:
        raise StartError(f"there is or was a key {name!r} already: choose another name, so that logs stay clear")
    return key


async def all_keys(connection: asyncpg.Connection) -> Sequence[StoredKey]:
    """Returns all keys, the revoked ones included, by age."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, name")
    return [StoredKey(*row) for row in rows]


async def revoke(connection: asyncpg.Connection, name: str) -> datetime.datetime:
    """Revokes a key and returns when it was revoked, which may be earlier; raises StartError for an unknown name."""
    revoked: datetime.datetime | None = await connection.fetchval(
        "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, now()) WHERE name = $1 RETURNING revoked_at", name
    )
    if revoked is None:
        raise StartError(f"there is no key {name!r}: `tradeul keys list` shows all")
    return revoked
