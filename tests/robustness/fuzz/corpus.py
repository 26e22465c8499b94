"""The corpus of a target, a text file in the repository: one input a line, in base64.

NAME.txt is written by the fuzzer: inputs that together reach what it has reached. NAME.found.txt is written by people:
inputs for which something was wrong once, each below a comment that says what.
"""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "corpus"
# Of one target's file; larger inputs are left out first.
MOST_BYTES: Final = 100_000


def read(name: str) -> list[bytes]:
    """The inputs of a target, those that were found first; none when it has no files."""
    lines: list[str] = []
    for path in (FOLDER / f"{name}.found.txt", FOLDER / f"{name}.txt"):
        if path.exists():
            lines += path.read_text(encoding="ascii").splitlines()
    return [base64.b64decode(line) for line in lines if not line.startswith("#")]


def write(name: str, inputs: Iterable[bytes], folder: Path = FOLDER) -> int:
    """Replaces NAME.txt by these inputs, as many as fit; returns their number."""
    lines: list[str] = []
    size = 0
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        line = base64.b64encode(data).decode("ascii")
        size += len(line) + 1
        if size > MOST_BYTES:
            break
        lines.append(line)
    (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return len(lines)
