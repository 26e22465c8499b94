"""Secrets in the environment: read from a variable or a file, and passed on only to the children that use them.

`NAME_FILE` names a file that holds the value of `NAME`, for each variable of SECRETS. The value is then in no process's
environment.
"""

import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from services.modules import Secret

# What the names of our settings begin with.
PREFIXES: Final = ("TRADEUL_", "POLYGON_", "FMP_")
SUFFIX: Final = "_FILE"
# The variables of each secret. URLs are secret because they may hold a password.
SECRETS: Final[Mapping[Secret, tuple[str, ...]]] = {
    "redis": ("TRADEUL_REDIS_URL",),
    "postgres": ("TRADEUL_DATABASE_URL",),
    "vendor": ("POLYGON_API_KEY",),
    "fmp": ("FMP_API_KEY",),
    "flat_files": ("TRADEUL_FLAT_FILES_S3_KEY", "TRADEUL_FLAT_FILES_S3_SECRET"),
    "gateway": ("TRADEUL_API_KEY",),
}
FILE_VARIABLES: Final[Mapping[str, str]] = {
    variable: variable + SUFFIX for variables in SECRETS.values() for variable in variables
}
# PostgreSQL's client library reads it where the URL has no password.
DATABASE_PASSWORD: Final = "PGPASSWORD"
LONGEST_BYTES: Final = 65_536


def read_secret_files(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Returns the values of the variables whose `..._FILE` is set, and a line for each that is wrong."""
    values, errors = {}, []
    for variable, file_variable in FILE_VARIABLES.items():
        if not (name := environment.get(file_variable)):
            continue
        try:
            if environment.get(variable):
                raise ValueError(f"expected one of {variable} and {file_variable}, were both set")
            values[variable] = read_line(Path(name))
        except ValueError as error:
            errors.append(f"{file_variable}: {error}")
    return values, errors


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without our settings, for programs that are not ours."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(PREFIXES) and name != DATABASE_PASSWORD
    }


def settings_for(environment: Mapping[str, str], secrets: Collection[Secret]) -> dict[str, str]:
    """Returns our settings in the environment: of the secrets only these, as variables or as names of files."""
    dropped = {
        name
        for secret, variables in SECRETS.items()
        if secret not in secrets
        for variable in variables
        for name in (variable, FILE_VARIABLES[variable])
    }
    kept = {name: value for name, value in environment.items() if name.startswith(PREFIXES) and name not in dropped}
    if "postgres" in secrets and (password := environment.get(DATABASE_PASSWORD)):
        kept[DATABASE_PASSWORD] = password
    return kept


def read_line(path: Path) -> str:
    """Returns the file's text without a newline at its end; raises ValueError when that is not one line."""
    try:
        # A pipe would wait for a writer, and could be read only once.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"expected a regular file, was {path}")
        with path.open("rb") as file:
            content = file.read(LONGEST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"expected a file that can be read, was {path}: {error.strerror}") from error
    if len(content) > LONGEST_BYTES:
        raise ValueError(f"expected at most {LONGEST_BYTES:,} bytes in {path}, were more")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"expected UTF-8 in {path}, was something else") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise ValueError(f"expected a value in {path}, was empty")
    if len(text.splitlines()) > 1 or "\0" in text:
        raise ValueError(f"expected one line in {path}, were several")
    return text
