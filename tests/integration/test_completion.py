"""The completion scripts in fish and zsh themselves; test_cli.py has bash's."""

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.kit.runtime.clock import monotonic
from tests.support.javascript import leave_out

# A line as it is typed, and what is offered for its last word.
LINES = {
    "tradeul wat": ["watch"],
    "tradeul watch gappers_": ["gappers_down", "gappers_up"],
    "tradeul query 'price > 5 AND chg_1": ["price > 5 AND chg_10m", "price > 5 AND chg_15m", "price > 5 AND chg_1m"],
    "tradeul top --columns price,rv": ["price,rvol", "price,rvol_slot"],
    "tradeul time --jump ": ["04:00", "09:30", "16:00"],
    "tradeul serve sc": ["scanner"],
    "tradeul replay day": ["day.csv.gz"],
}


# A zsh that is typed into. Tab accepts a completion, another Tab the next one in its place; Ctrl-G hands the line over.
ZSH_SETUP = """
autoload -Uz compinit
compinit -u -D
source <(tradeul completion zsh)
setopt menu_complete
hand_over() { print -r -- "$BUFFER" >> lines; BUFFER= }
zle -N hand_over
bindkey '^G' hand_over
"""
ANSWER_SECONDS = 60.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a shell in `tmp_path` that finds `tradeul` and a file of a day."""
    program = tmp_path / "tradeul"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m services.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "day.csv.gz").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))}
    return {
        **kept,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def test_fish_completes_commands_lists_fields_and_files(tmp_path: Path, environment: dict[str, str]) -> None:
    if (fish := shutil.which("fish")) is None:
        leave_out("fish", "no fish in the PATH")
    script = "; ".join(
        ["tradeul completion fish | source", *(f"complete -C{shlex.quote(line)}; echo" for line in LINES)]
    )
    result = subprocess.run(
        [fish, "--no-config", "-c", script],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # A value and its meaning in each line; an empty one ends an answer.
    answers = result.stdout.rstrip("\n").split("\n\n")
    offered = [sorted(line.partition("\t")[0] for line in answer.splitlines()) for answer in answers]
    assert offered == list(LINES.values())


def test_zsh_completes_commands_lists_fields_and_files(tmp_path: Path, environment: dict[str, str]) -> None:
    if (zsh := shutil.which("zsh")) is None:
        leave_out("zsh", "no zsh in the PATH")
    (tmp_path / "setup").write_text(ZSH_SETUP)
    with typed_into([zsh, "-f", "-i"], tmp_path, environment) as shell:
        shell.type(". ./setup\n")
        for line, values in LINES.items():
            completed = [shell.line_after(line + "\t" * tabs) for tabs in range(1, len(values) + 1)]
            assert sorted(shlex.split(each)[-1] for each in completed) == values, shell.output


class Shell:
    """A shell on a terminal; it hands lines over in the file `lines`."""

    def __init__(self, terminal: int, handed_over: Path) -> None:
        self.output = ""
        self._terminal = terminal
        self._handed_over = handed_over
        self._lines = 0

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def line_after(self, text: str) -> str:
        """Returns the line as it is once `text` has been typed; fails if that takes long."""
        self.type(f"{text}\x07")
        deadline = monotonic() + ANSWER_SECONDS
        while monotonic() < deadline:
            # Read, or a full terminal would stop the shell.
            if select.select([self._terminal], [], [], 0.05)[0]:
                self.output += os.read(self._terminal, 65536).decode(errors="replace")
            lines = self._handed_over.read_text().splitlines() if self._handed_over.exists() else []
            if len(lines) > self._lines:
                self._lines = len(lines)
                return lines[-1]
        raise AssertionError(f"no line after {text!r}: {self.output}")


@contextmanager
def typed_into(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Shell]:
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        command, stdin=its_end, stdout=its_end, stderr=its_end,
        env={**environment, "TERM": "dumb"}, cwd=folder, start_new_session=True,
    )  # fmt: skip
    try:
        os.close(its_end)
        yield Shell(terminal, folder / "lines")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
