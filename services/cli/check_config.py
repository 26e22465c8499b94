"""`tradeul check-config`: the settings that hold, each with its meaning."""

import asyncio
import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import click
from pydantic import BaseModel

from services.cli.arguments import examples
from services.cli.local.tokens import check_issuer, check_jwks
from services.kit.runtime.certificates import check_authority, check_certificate, check_mesh_certificate
from services.kit.runtime.environment import FILE_VARIABLES
from services.kit.runtime.errors import SettingsError, StartError
from services.kit.runtime.logging import configure
from services.kit.runtime.redaction import without_passwords
from services.kit.runtime.settings import VARIABLES, Settings

PREFIX = "TRADEUL_"


class Setting(NamedTuple):
    """One environment variable, or the one that names its file. `is_set`: the environment sets it."""

    name: str
    value: str
    meaning: str
    is_set: bool


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Returns a line for each variable in the environment that is no setting."""
    known = [*VARIABLES.values(), *FILE_VARIABLES.values()]
    lines = []
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            lines.append(f"{name}: no such setting" + (f"; did you mean {nearest[0]}?" if nearest else ""))
    return lines


def shown(name: str, value: object) -> str:
    """The value as it may be seen: no key, no password."""
    if name in ("api_key", "s3_key", "s3_secret"):
        return "(hidden)" if value else ""
    if name.endswith("_url") and isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return "" if value is None else str(value)


def describe(settings: Settings, environment: Mapping[str, str]) -> Iterator[Setting]:
    """Every setting with the value that holds."""
    for path, variable in VARIABLES.items():
        *groups, name = path
        if groups == ["addresses"]:
            value: object = settings.address(name)
            meaning = f"the address at which {name} listens and is found"
        else:
            branch: BaseModel = getattr(settings, groups[0]) if groups else settings
            value = shown(name, getattr(branch, name))
            meaning = (type(branch).model_fields[name].description or "").removeprefix(f"{variable}: ")
        file_variable = FILE_VARIABLES.get(variable, "")
        if file := environment.get(file_variable):
            yield Setting(file_variable, file, f"{meaning}; read from this file", True)
        else:
            yield Setting(variable, str(value), meaning, bool(environment.get(variable)))


def wrong_files(settings: Settings) -> list[str]:
    """Returns a line for each setting whose certificate, key or key set cannot be used."""
    tls, mesh, jwt = settings.tls, settings.mesh_tls, settings.jwt
    checks: list[Callable[[], None]] = []
    if tls.cert_file is not None and tls.key_file is not None:
        checks.append(partial(check_certificate, tls.cert_file, tls.key_file))
    if tls.ca_file is not None:
        checks.append(partial(check_authority, "TRADEUL_TLS_CA_FILE", tls.ca_file))
    if mesh.is_on:
        checks.append(partial(check_mesh_certificate, mesh))
    if jwt.jwks_file is not None:
        checks.append(partial(check_jwks, jwt.jwks_file))
    lines = []
    for check in checks:
        try:
            check()
        except StartError as error:
            lines.append(str(error))
    return lines


@click.command(epilog=examples("tradeul check-config", "tradeul check-config --connect"))
@click.option(
    "--connect",
    is_flag=True,
    help="Also test the key and each subscription with the vendor, over a running mesh's connection if there is one,"
    " and read the public keys of the token issuer.",
)
def check_config(connect: bool) -> None:
    """Print the effective settings, or every error.

    The output is an environment file in which settings that the environment
    does not set are commented out. Keys and passwords are hidden; for one that is
    read from a file (NAME_FILE), the name of the file is shown.
    """
    problems = unknown_variables(os.environ)
    try:
        settings = Settings.load()
    except SettingsError as error:
        raise SettingsError("\n  ".join([str(error), *problems])) from error
    problems += wrong_files(settings)
    if problems:
        raise SettingsError("\n  ".join(["wrong settings:", *problems]))
    for setting in describe(settings, os.environ):
        click.echo(f"# {setting.meaning}\n{'' if setting.is_set else '# '}{setting.name}={setting.value}\n")
    if connect:
        from services.cli.feed_check import check_feed

        # The outcome is a line of its own.
        configure(settings.model_copy(update={"log_level": "error"}), "check-config")
        if url := settings.jwt.jwks_url:
            asyncio.run(check_issuer(url))
        for line in asyncio.run(check_feed(settings)):
            click.echo(f"# {line}")
