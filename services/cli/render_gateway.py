"""`tradeul render-gateway`: the gateway's files for an Envoy that somebody else runs."""

import shutil
from pathlib import Path
from typing import Final

import click

from services.cli.arguments import examples
from services.cli.local.gateway import write_gateway
from services.kit.runtime.packaged import GATEWAY_TEMPLATE
from services.kit.runtime.settings import Settings

CONFIGURATION: Final = "envoy.yaml"
FILES: Final = "files"


@click.command(epilog=examples("tradeul render-gateway /etc/tradeul/gateway"))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def render_gateway(directory: Path) -> None:
    """Write everything that the gateway's Envoy reads to DIRECTORY.

    The settings are those of the mesh. Run Envoy with `--config-path DIRECTORY/envoy.yaml`; it has to find the
    directory at the same path and be able to write to it.
    """
    directory = directory.absolute()
    settings = Settings.load().model_copy(update={"data_dir": directory})
    package = GATEWAY_TEMPLATE.path().parent

    def place(path: Path) -> Path:
        copy = directory / FILES / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(path, copy))

    write_gateway(settings, directory / CONFIGURATION, place=place)
    click.echo(f"wrote {directory / CONFIGURATION}")
