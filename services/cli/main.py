"""The `tradeul` command. Each subcommand is loaded when it is used, so that services start quickly."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn

import click
from click.shell_completion import CompletionItem

from services.cli.arguments import nearest
from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.forks import prepare_for_forks
from services.kit.runtime.grpc_io import wait_in_one_thread
from services.kit.runtime.redaction import described, location_of, redact

# sysexits.h EX_CONFIG, by which the supervisor knows that starting again would not help.
EXIT_CONFIG: Final = 78
# As the shell reports them: 128 + SIGINT, 128 + SIGPIPE.
EXIT_INTERRUPT: Final = 130
EXIT_PIPE: Final = 141

HELP_WIDTH: Final = 120

EXIT_CODES: Final = """\
Exit codes: 0 done, 1 failed or refused, 2 wrong arguments, 78 wrong settings, 130 stopped by Ctrl-C, 141 the reader of
the output has exited."""


class Entry(NamedTuple):
    """A command: `module:attribute`, the group of `tradeul --help` it is in, and its line there."""

    target: str
    group: str
    line: str


LISTS, MESH, DATA, STORES = "Lists", "The mesh", "Days and history", "Stores, keys and shells"
# The lines of `tradeul --help` are here, so that it imports no command.
COMMANDS: Final[Mapping[str, Entry]] = {
    "top": Entry("services.cli.top:top", LISTS, "Show the lists live in the terminal, or one of them once."),
    "query": Entry("services.cli.query:query", LISTS, "Print the symbols that match a filter now."),
    "watch": Entry("services.cli.watch:watch", LISTS, "Print a list's changes as they happen, one per line."),
    "alerts": Entry("services.cli.alerts:alerts", LISTS, "Print what has just happened, one alert per line."),
    "up": Entry("services.cli.up:up", MESH, "Run the whole mesh (stores, services and gateway) until Ctrl-C."),
    "serve": Entry("services.cli.serve:serve", MESH, "Run the named services in this process until SIGTERM or Ctrl-C."),
    "list-targets": Entry("services.cli.serve:list_targets", MESH, "Print the services, their ports and purposes."),
    "check-config": Entry("services.cli.check_config:check_config", MESH, "Print the settings, or every error."),
    "render-gateway": Entry(
        "services.cli.render_gateway:render_gateway", MESH, "Write the gateway's files for another Envoy."
    ),
    "replay": Entry("services.cli.replay:replay", DATA, "Replay a past day through the whole mesh until Ctrl-C."),
    "time": Entry(
        "services.cli.market_time:market_time", DATA, "Show, pause, speed up or advance the market's time."
    ),
    "record": Entry("services.cli.record:record", DATA, "Record the running mesh's day for `tradeul replay`."),
    "dry-run": Entry(
        "services.cli.dry_run:dry_run", DATA, "Print the alerts that a rule would have had on past days."
    ),
    "load": Entry("services.cli.load:load", DATA, "Load historical data into the database."),
    "simulate-flat-files": Entry(
        "services.cli.simulate_flat_files:simulate_flat_files", DATA, "Write simulated days in the vendor's layout."
    ),
    "keys": Entry("services.cli.keys:keys", STORES, "Create, list and revoke keys to the gateway."),
    "webhooks": Entry("services.cli.webhooks:webhooks", STORES, "Create, list and test webhooks for alerts."),
    "migrate": Entry("services.cli.stores:migrate", STORES, "Migrate the tables of TRADEUL_DATABASE_URL."),
    "adopt-data": Entry("services.cli.stores:adopt_data", STORES, "Move the data of an earlier version to a market."),
    "psql": Entry("services.cli.stores:psql", STORES, "Run psql on the mesh's database."),
    "completion": Entry("services.cli.completion:completion", STORES, "Print the completion script for a shell."),
    "redis-cli": Entry("services.cli.redis_cli:redis_cli", STORES, "Send commands to the mesh's Redis."),
}  # fmt: skip


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (entry := COMMANDS.get(cmd_name)) is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), entry.target
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {args[0]!r}{nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=each.line) for name, each in COMMANDS.items() if name.startswith(incomplete)]
        # The group's own options are those of any command; its commands would all be imported.
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
            with formatter.section(group):
                rows = [(f"{name:<{width}}", each.line) for name, each in COMMANDS.items() if each.group == group]
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, epilog=EXIT_CODES)
@click.version_option(package_name="tradeul", message="%(prog)s %(version)s")
def cli() -> None:
    """A live scanner of the US stock market, as a mesh of services."""


def main() -> None:
    """The console script: wrong settings end with status 78, what is missing to start with 1."""
    prepare_for_forks()
    wait_in_one_thread()
    try:
        # Help as wide as the terminal, up to this; 80 columns are only what click takes for a pipe.
        width = None if sys.stdout.isatty() else HELP_WIDTH
        options = {"terminal_width": width, "max_content_width": HELP_WIDTH}
        status = cli(prog_name="tradeul", standalone_mode=False, **options)
        # Here and not at the interpreter's end, so that a reader that has ended is noticed.
        sys.stdout.flush()
        sys.exit(status)
    except BrokenPipeError:
        # The interpreter writes what is left once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "tradeul"
        fail(f"{error.format_message().rstrip('.')} ({command} --help)", error.exit_code)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except click.Abort:
        fail("stopped", EXIT_INTERRUPT)
    except SettingsError as error:
        fail(str(error), EXIT_CONFIG)
    except StartError as error:
        fail(str(error))
    except Exception as error:  # noqa: BLE001  # an operator gets a line, not a traceback
        location = location_of(error)
        fail(described(error) + (f" (at {location})" if location else ""))


def fail(message: str, status: int = 1) -> NoReturn:
    """Ends the process with an error as one line; wrong settings have a line each."""
    click.echo(f"tradeul: {redact(message)}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
