"""The completion script in fish itself; test_cli.py has bash's."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_fish_completes_commands_lists_fields_and_files(tmp_path: Path) -> None:
    if (fish := shutil.which("fish")) is None:
        leave_out("fish", "no fish in the PATH")
    program = tmp_path / "tradeul"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m services.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "day.csv.gz").touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRADEUL_", "POLYGON_"))}
    environment = {
        **kept,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
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
