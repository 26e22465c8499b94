"""The stores' passwords are replaced as docs/cluster.md says, while connections with the old ones go on."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from redis.exceptions import RedisError

from services.kit.runtime.errors import StartError
from services.kit.runtime.packaged import checkout
from services.kit.stores.database import open_pool
from services.kit.stores.migrate import migrate
from services.kit.stores.redis import open_redis
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer

OLD, NEW = "the old password", "the new password"
# Instead of tradeul, as which the tests' PostgreSQL has its superuser.
OWNER = "owner"


def documented(language: str) -> list[str]:
    """The blocks of this language in the section about passwords."""
    section = (checkout() / "docs" / "cluster.md").read_text(encoding="utf-8").split("## Rotating secrets")[1]
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    return [block.replace("'NEW'", f"'{NEW}'").replace("tradeul", OWNER) for block in blocks]


def url_of(server: PostgresServer, role: str, password: str) -> str:
    """The URL of the database `rotated`, over the server's socket."""
    folder = re.search(r"host=([^&]+)", server.url)
    assert folder is not None
    return f"postgresql://{role}:{quote(password)}@/rotated?host={folder[1]}"


def add_rule(file: Path) -> None:
    """Lets nobody into the database without a password; the first rule that fits holds."""
    file.write_text("local rotated all scram-sha-256\n" + file.read_text())


async def ask_passwords(server: PostgresServer) -> None:
    """Makes the role OWNER, its database, and a password needed to get in there."""
    administrator = await asyncpg.connect(server.url)
    try:
        await administrator.execute(f"CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{OLD}'")
        await administrator.execute(f"CREATE DATABASE rotated OWNER {OWNER}")
        add_rule(Path(await administrator.fetchval("SHOW hba_file")))
        await administrator.execute("SELECT pg_reload_conf()")
    finally:
        await administrator.close()


async def test_postgresql(tmp_path: Path) -> None:
    begin, end = documented("sql")
    async with PostgresServer(tmp_path) as server:
        await ask_passwords(server)
        before = url_of(server, OWNER, OLD)
        with pytest.raises(StartError, match="password authentication failed"):
            await open_pool(url_of(server, OWNER, NEW))
        await migrate(before)
        async with await open_pool(before) as old, await open_pool(server.url) as administrator:
            await administrator.execute(begin)
            after = url_of(server, f"{OWNER}2", NEW)
            await migrate(after)
            async with await open_pool(after) as new:
                await new.execute("CREATE TABLE later (a int)")
                owners = await new.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
                assert [each["tableowner"] for each in owners] == [OWNER]
                # Both ways in are open, for services that have been restarted and those that have not.
                async with await open_pool(before) as another:
                    await another.execute("INSERT INTO later VALUES (1)")
                await administrator.execute(end)
                await old.execute("INSERT INTO later VALUES (2)")
                assert await new.fetchval("SELECT count(*) FROM later") == 2
                # A restore makes a database.
                await new.execute("CREATE DATABASE another")
            with pytest.raises(StartError, match="refuses"):
                await open_pool(before)


async def test_redis(tmp_path: Path) -> None:
    add, remove = documented("text")[0].strip().splitlines()
    async with RedisServer(tmp_path) as server:
        await server.redis.execute_command("ACL", "SETUSER", "default", f">{OLD}")

        def url(password: str) -> str:
            return server.url.replace("unix://", f"unix://:{quote(password)}@")

        old: Any = await open_redis(url(OLD))
        await old.execute_command(*add.replace("NEW", NEW).split(" ", 3))
        new: Any = await open_redis(url(NEW))
        await new.execute_command(*remove.replace("OLD", OLD).split(" ", 3))
        # A connection that is open stays open.
        assert await old.ping() and await new.ping()
        await old.connection_pool.disconnect()
        with pytest.raises(RedisError, match="invalid username-password pair"):
            await old.ping()
        await old.aclose()
        await new.aclose()
