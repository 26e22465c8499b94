"""`tradeul redis-cli`: commands for the mesh's Redis."""

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import click

from services.cli.stores import PASSED_ON
from services.kit.runtime.environment import without_settings
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

PROGRAMS: Final = ("valkey-cli", "redis-cli")
# Where they look for the password.
PASSWORDS: Final = ("REDISCLI_AUTH", "VALKEYCLI_AUTH")
# After these the server continues answering.
ENDLESS: Final = ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR")


@click.command(context_settings=PASSED_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND [ARGUMENT]...]")
def redis_cli(arguments: tuple[str, ...]) -> None:
    """Send COMMAND, or each line of the input, to the mesh's Redis: tradeul redis-cli KEYS 'rvol:*'.

    The Redis is TRADEUL_REDIS_URL or, if that is not set, the one that `tradeul up` runs. If valkey-cli or redis-cli is
    installed, it is used, and its own options are accepted, too.
    """
    from services.cli.data_directory import market_directory
    from services.cli.local.embedded import redis_url

    settings = Settings.load()
    url = settings.redis_url or redis_url(market_directory(settings))
    if program := next((found for name in PROGRAMS if (found := shutil.which(name))), None):
        sys.stdout.flush()
        options, password = where(url)
        # Every user can read the command line.
        passwords = dict.fromkeys(PASSWORDS, password) if password else {}
        os.execve(program, [program, *options, *arguments], {**without_settings(os.environ), **passwords})
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(talk(url, [arguments] if arguments else lines()))


def where(url: str) -> tuple[list[str], str]:
    """Returns the URL as redis-cli's options, and its password; empty when there is none."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    user_info, _, host = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    user, password = unquote(user), unquote(password) or query.get("password", [""])[0]
    # It knows no unix://.
    options = ["-s", parts.path] if parts.scheme == "unix" else ["-u", f"{parts.scheme}://{host}{parts.path}"]
    if parts.scheme == "unix" and "db" in query:
        options += ["-n", query["db"][0]]
    return options + (["--user", user] if user and password else []), password


def lines() -> Iterator[Sequence[str]]:
    """The commands of the input, a line each, after a prompt where somebody types them."""
    stdin = sys.stdin
    while True:
        if stdin.isatty():
            click.echo("> ", nl=False)
        if not (line := stdin.readline()):
            return
        try:
            words = shlex.split(line)
        except ValueError as error:
            click.echo(f"(error) {error}")
            continue
        if words:
            yield words


def talk(url: str, commands: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> int:
    """Sends each command and prints its answer; returns 1 when the last one was refused.

    Raises StartError when Redis does not answer.
    """
    from redis import Redis
    from redis.exceptions import RedisError, ResponseError

    from services.kit.runtime.redaction import reason_of, redact

    # The older protocol, whose answers redis-cli shows, and as long as an answer takes: XREAD BLOCK 0.
    client = Redis.from_url(url, protocol=2, socket_connect_timeout=5, socket_timeout=None)
    status = 0
    try:
        connection: Any = client.connection_pool.get_connection()
        for command in commands:
            connection.send_command(*command)
            try:
                _show(connection, is_endless=command[0].upper() in ENDLESS)
                status = 0
            except ResponseError as error:
                click.echo(f"(error) {error}")
                status = 1
    except (RedisError, OSError) as error:
        raise StartError(f"no Redis at {redact(url)}: {reason_of(error)}; is the mesh running (tradeul up)?") from error
    finally:
        client.close()
    return status


def _show(connection: "AbstractConnection", *, is_endless: bool) -> None:
    click.echo(answer_text(connection.read_response(disable_decoding=True)))
    while is_endless:
        click.echo(answer_text(connection.read_response(disable_decoding=True)))


def answer_text(answer: object, indent: str = "") -> str:
    """An answer as redis-cli prints it in a terminal, texts without quotes."""
    match answer:
        case None:
            return "(nil)"
        case bytes():
            return answer.decode(errors="backslashreplace")
        case int():
            return f"(integer) {answer}"
        case dict():
            return answer_text([part for pair in answer.items() for part in pair], indent)
        case list() | tuple() | set():
            if not answer:
                return "(empty array)"
            width = len(str(len(answer)))
            inner = indent + " " * (width + 2)
            parts = (f"{number:>{width}}) {answer_text(each, inner)}" for number, each in enumerate(answer, 1))
            return f"\n{indent}".join(parts)
        case _:
            return str(answer)
