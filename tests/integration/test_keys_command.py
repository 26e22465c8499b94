"""`tradeul keys` on a real PostgreSQL: what it prints, what it stores, and what it says when something is wrong."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import click.testing
import pytest

from services.access.core import hash_of
from services.cli.keys import keys
from services.kit.runtime.errors import StartError
from tests.support.stores import Stores, module_stores


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


def run(database_url: str, *arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(keys, arguments, env={"TRADEUL_DATABASE_URL": database_url})


def rows(database_url: str) -> dict[str, Any]:
    async def read() -> list[Any]:
        connection = await asyncpg.connect(database_url)
        try:
            return list(await connection.fetch("SELECT * FROM api_keys"))
        finally:
            await connection.close()

    return {row["name"]: row for row in asyncio.run(read())}


def test_a_key_is_shown_once_and_stored_as_a_hash(stores: Stores) -> None:
    url = stores.database_url
    result = run(url, "create", "web-1", "--right", "read", "--requests-per-s", "5", "--streams", "7", "--scans", "0")
    assert result.exit_code == 0, result.output
    # Alone on stdout, for scripts.
    (key,) = result.stdout.splitlines()
    assert key.startswith("tradeul_")
    assert "shown this once" in result.stderr
    row = rows(url)["web-1"]
    assert (row["hash"], row["access_right"], row["requests_per_s"]) == (hash_of(key), "read", 5)
    assert not [value for value in row.values() if key in str(value)]
    assert run(url, "create", "boss", "--right", "admin").exit_code == 0
    assert [rows(url)["boss"][limit] for limit in ("requests_per_s", "streams", "scans")] == [None] * 3
    listed = run(url, "list").output
    assert key not in listed
    lines = {line.split()[0]: line.split()[1:] for line in listed.splitlines()}
    assert lines["web-1"][:4] == ["read", "5", "7", "0"]
    assert lines["boss"][:4] == ["admin", "100", "50", "20"]
    assert lines["boss"][-1] == "-"


def test_a_revoked_key_stays_in_the_list(stores: Stores) -> None:
    url = stores.database_url
    run(url, "create", "gone", "--right", "read")
    result = run(url, "revoke", "gone")
    assert (result.exit_code, result.output.startswith("The key 'gone' is revoked since 20")) == (0, True)
    # Again is no error, and changes nothing.
    assert run(url, "revoke", "gone").output == result.output
    (line,) = [line for line in run(url, "list").output.splitlines() if line.startswith("gone ")]
    assert not line.endswith("-")


def test_wrong_input_is_an_error_of_one_line(stores: Stores) -> None:
    url = stores.database_url
    run(url, "create", "taken", "--right", "read")
    run(url, "revoke", "taken")
    for arguments, words in (
        (("create", "taken", "--right", "read"), "there is or was a key 'taken' already"),
        (("create", "Upper Case", "--right", "read"), "expected a name of at most 63 lower-case letters"),
        (("create", "x" * 64, "--right", "read"), "expected a name of at most 63"),
        (("revoke", "nobody"), "there is no key 'nobody'"),
    ):
        result = run(url, *arguments)
        assert isinstance(result.exception, StartError), result.output
        assert words in str(result.exception)
        assert len(str(result.exception).splitlines()) == 1
    for options in ((), ("--right", "write"), ("--right", "read", "--requests-per-s", "0")):
        assert run(url, "create", "any", *options).exit_code == 2
    assert "any" not in rows(url)


def test_a_database_that_is_away_or_not_migrated(stores: Stores) -> None:
    away = run("postgresql://me:hunter2@127.0.0.1:1/none", "list")
    assert isinstance(away.exception, StartError)
    assert "keys are kept in it: `tradeul up`, or TRADEUL_DATABASE_URL" in str(away.exception)
    assert "hunter2" not in str(away.exception)
    empty = run(re.sub(r"/\w+\?", "/postgres?", stores.database_url), "list")
    assert isinstance(empty.exception, StartError)
    assert str(empty.exception).endswith("has no table of keys yet: `tradeul migrate`")
