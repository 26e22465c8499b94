"""The `tradeul` command. Each subcommand is loaded when it is used, so that services start quickly."""

import importlib
import os
import sys
from typing import Final, NoReturn

import click

from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.redaction import described, location_of, redact

# sysexits.h EX_CONFIG, by which the supervisor knows that starting again would not help.
EXIT_CONFIG: Final = 78

HELP_WIDTH: Final = 120

COMMANDS: Final = {
    "up": "services.cli.up:up",
    "serve": "services.cli.serve:serve",
    "top": "services.cli.top:top",
    "list-targets": "services.cli.serve:list_targets",
    "replay": "services.cli.replay:replay",
    "record": "services.cli.record:record",
    "load": "services.cli.load:load",
    "simulate-flat-files": "services.cli.simulate_flat_files:simulate_flat_files",
    "check-config": "services.cli.check_config:check_config",
    "keys": "services.cli.keys:keys",
    "render-gateway": "services.cli.render_gateway:render_gateway",
    "migrate": "services.cli.stores:migrate",
    "adopt-data": "services.cli.stores:adopt_data",
    "psql": "services.cli.stores:psql",
    "redis-cli": "services.cli.redis_cli:redis_cli",
}


class LazyGroup(click.Group):
    """A group whose commands are `module:attribute`, imported when they are used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (target := COMMANDS.get(cmd_name)) is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), target
        return command


@click.group(cls=LazyGroup)
@click.version_option(package_name="tradeul", message="%(prog)s %(version)s")
def cli() -> None:
    """A live scanner of the US stock market, as a mesh of services."""


def main() -> None:
    """The console script: wrong settings end with status 78, what is missing to start with 1."""
    # Read by gRPC when it is loaded. Services start programs, which forget gRPC; none uses it after a fork,
    # and its handlers can end the child before it becomes the program.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        # Help as wide as the terminal, up to this; 80 columns are only what click takes for a pipe.
        width = None if sys.stdout.isatty() else HELP_WIDTH
        options = {"terminal_width": width, "max_content_width": HELP_WIDTH}
        sys.exit(cli(prog_name="tradeul", standalone_mode=False, **options))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "tradeul"
        fail(f"{error.format_message().rstrip('.')} ({command} --help)", error.exit_code)
    except click.ClickException as error:
        fail(error.format_message(), error.exit_code)
    except click.Abort:
        fail("stopped")
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
