"""The files that are installed with the code, in a checkout and in an installed package alike."""

import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from services.kit.runtime.errors import StartError

AGAIN: Final = "install tradeul again (in a checkout: make install)"


class Packaged(NamedTuple):
    """A file of a package, or with `pattern` a folder that holds such files."""

    package: str
    name: str
    pattern: str = ""

    def path(self) -> Path:
        """Returns the path; raises StartError when it is missing, or when the folder holds no file of the pattern."""
        try:
            path = Path(str(files(self.package) / self.name))
        except ModuleNotFoundError as error:
            raise StartError(f"expected the package {self.package} with {self.name}, was missing; {AGAIN}") from error
        if not path.exists():
            raise StartError(f"expected {self.name} of {self.package} at {path}, was missing; {AGAIN}")
        if self.pattern and not any(path.glob(self.pattern)):
            raise StartError(f"expected {self.pattern} in {path}, was none; {AGAIN}")
        return path


LISTS: Final = Packaged("services.kit.lists", "lists.toml")
ALERTS: Final = Packaged("services.kit.alerts", "alerts.toml")
NYSE: Final = Packaged("services.market", "nyse.toml")
MIGRATIONS: Final = Packaged("services.kit.stores", "migrations", "*.sql")
GATEWAY_TEMPLATE: Final = Packaged("gateway", "envoy.yaml")
# Envoy transcodes by the first, and serves the second at /openapi.json.
DESCRIPTOR_SET: Final = Packaged("gateway", "tradeul.binpb")
OPENAPI: Final = Packaged("gateway", "openapi.json")
# Envoy's Lua filter, below tables of the routes.
REST_FILTER: Final = Packaged("gateway", "rest.lua")
# Envoy's Lua filter for tickets, where keys are required.
TICKET_FILTER: Final = Packaged("gateway", "ticket.lua")
# The dashboard, which the gateway serves at /; built from gateway/web.
SITE: Final = Packaged("gateway", "site", "index.html")
# Swagger UI, which the gateway serves at /docs.
API_DOCS: Final = Packaged("gateway", "docs", "index.html")
# Read when the OpenAPI document is made.
OPENAPI_EXTRAS: Final = Packaged("gateway", "openapi.toml")

FOR_THE_MESH: Final = (
    *(
        LISTS,
        ALERTS,
        NYSE,
        MIGRATIONS,
        GATEWAY_TEMPLATE,
        REST_FILTER,
        TICKET_FILTER,
        DESCRIPTOR_SET,
        OPENAPI,
        SITE,
        API_DOCS,
    ),
)
COMPILED: Final = "fastcore.market"


def check_installed() -> None:
    """Raises StartError naming what the mesh needs and the installation lacks."""
    for file in FOR_THE_MESH:
        file.path()
    if importlib.util.find_spec(COMPILED) is None:
        raise StartError(f"expected the compiled core ({COMPILED}), was missing; {AGAIN}")


def checkout() -> Path:
    """Returns the checkout that this code is run from, for tools that write into it; raises StartError without one."""
    root = GATEWAY_TEMPLATE.path().parent.parent
    if not (root / "protos" / "buf.yaml").exists():
        raise StartError(f"expected to be run from a checkout, was in {root}")
    return root
