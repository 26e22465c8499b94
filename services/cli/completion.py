"""`tradeul completion`: the script by which a shell completes commands, options, lists and fields."""

from typing import Final

import click
from click.shell_completion import FishComplete, add_completion_class, get_completion_class

from services.cli.arguments import examples
from services.kit.runtime.errors import StartError

PROGRAM: Final = "tradeul"
VARIABLE: Final = "_TRADEUL_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")
EXAMPLES = examples(
    "tradeul completion bash > ~/.local/share/bash-completion/completions/tradeul",
    "tradeul completion zsh > ~/.zfunc/_tradeul     (with `fpath+=~/.zfunc` before compinit in ~/.zshrc)",
    "tradeul completion fish > ~/.config/fish/completions/tradeul.fish",
)


class WholeFishComplete(FishComplete):
    """Fish's script as click makes it, for values and descriptions with commas: `price,rvol`."""

    name = "fish"
    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(WholeFishComplete)


@click.command(epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL: commands, options, the built-in lists, fields in filters and columns."""
    from services.cli.main import cli

    script = get_completion_class(shell)
    if script is None:
        raise StartError(f"click has no completion for {shell}")
    click.echo(script(cli, {}, PROGRAM, VARIABLE).source())
