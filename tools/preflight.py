"""Looks for what the first `make` needs, before anything is downloaded or built; prints a line for what is missing.

Any Python 3 can run it.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig

OLDEST = (3, 11)
# The newest that all wheels exist for.
NEWEST = (3, 14)


def compiler() -> str:
    """The C compiler that setuptools would call."""
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def missing() -> list:  # type: ignore[type-arg]  # list[str] is no expression of old Pythons
    """A line for each thing that is missing and what to do about it."""
    version = "{}.{}".format(*sys.version_info)
    if sys.version_info < OLDEST:
        return ["expected Python 3.11 or newer, was " + version + "; make PYTHON=python3.12 names another"]
    lines = []
    if importlib.util.find_spec("ensurepip") is None:
        lines.append("expected Python with venv and pip; on Debian and Ubuntu: apt install python" + version + "-venv")
    if shutil.which(compiler()) is None:
        lines.append("expected a C compiler, found no " + compiler() + "; on Debian and Ubuntu: apt install gcc")
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        lines.append("expected Python.h; on Debian and Ubuntu: apt install python" + version + "-dev")
    return lines


def main() -> int:
    lines = missing()
    sys.stderr.write("".join("make: " + line + "\n" for line in lines))
    if not lines and sys.version_info[:2] > NEWEST:
        sys.stderr.write("make: Python is newer than 3.14: what has no wheel for it yet is built, which may fail\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
