"""Prints requirements of pyproject.toml, one a line, for pip: `python tools/requirements.py NAME...`.

NAME is `build` (what builds it), `run` (what the services need) or an extra.
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def requirements(*names: str) -> list[str]:
    """The requirements under these names, in their order; raises KeyError for a name that there is not."""
    content = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    project = content["project"]
    known = {"build": content["build-system"]["requires"], "run": project["dependencies"]}
    known |= project["optional-dependencies"]
    return [requirement for name in names for requirement in known[name]]


if __name__ == "__main__":
    sys.stdout.write("".join(f"{requirement}\n" for requirement in requirements(*sys.argv[1:])))
