"""Files that tools write: how each of these is called."""

import argparse
import sys
from pathlib import Path

from services.kit.runtime.packaged import checkout


def keep_current(tool: str, does: str | None, file: Path, content: str, arguments: list[str] | None) -> int:
    """Writes `content` to `file` unless it is there, or with `--check` says where it is not; the status to exit with.

    `tool` is the name of its module, `does` its docstring.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {tool}", description=does)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is not current")
    is_current = file.exists() and file.read_text(encoding="utf-8") == content
    if parser.parse_args(arguments).check:
        if not is_current:
            shown = file.relative_to(checkout()) if file.is_relative_to(checkout()) else file
            sys.stderr.write(f"expected {shown} to be current; run `python -m {tool}`\n")
            return 1
    elif not is_current:
        file.write_text(content, encoding="utf-8")
    return 0
