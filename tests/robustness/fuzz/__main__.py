"""`python -m tests.robustness.fuzz`: gives the compiled core inputs by the million; see CONTRIBUTING.md.

`make fuzz` builds what it needs, and loads the library of the sanitizers and of the fuzzer before Python.
"""

import base64
import binascii
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from tests.robustness.fuzz import corpus
from tests.robustness.fuzz.targets import NAMES

INPUTS, CRASHES, LOGS = Path("inputs"), Path("crashes"), Path("logs")
# One input that takes longer, or more memory, is a failure as well.
LONGEST_SECONDS: Final = 60
MOST_MEGABYTES: Final = 3000
LAST_LINES: Final = 60
# Of compiled modules that tell which branches were taken.
COUNTERS: Final = "inline 8-bit counters"


@click.command()
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--seconds", default=60, show_default=True, help="In all, shared out among the targets; 0: the corpus alone."
)
@click.option(
    "--compare-every",
    "every",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Compare one of so many inputs with what the twin makes of it; the others only run under the sanitizers, "
    "about twice as fast. What reached new branches is compared at the end.",
)
@click.option("--seed", default=0, help="Of the fuzzer's random numbers; 0, the default, for another each time.")
@click.option("--input", "given", help="Run this input alone, in base64, as a failure prints it.")
@click.option("--save", is_flag=True, help="Minimise what has been found, and write it to the repository's corpus.")
@click.option("--corpus", "folder", type=click.Path(path_type=Path), help="Where --save writes it.")
def main(
    names: tuple[str, ...],
    seconds: int,
    every: int,
    seed: int,
    given: str | None,
    save: bool,
    folder: Path | None,
) -> None:
    """Fuzzes each TARGET, by default all; exit code 1 if one broke a promise."""
    for name in names:
        if name not in NAMES:
            raise click.UsageError(f"expected a target, one of {', '.join(NAMES)}; was {name}")
    if "fuzzer" not in os.environ.get("LD_PRELOAD", ""):
        raise click.UsageError("expected the fuzzer's library to be loaded before Python: use `make fuzz`")
    for path in (CRASHES, LOGS):
        path.mkdir(exist_ok=True)
    names = names or NAMES
    if given is not None:
        sys.exit(max(run_one(name, given) for name in names))
    broken = [name for name in names if not fuzz_and_compare(name, seconds // len(names), every, seed)]
    if save:
        for name in names:
            minimise(name, folder or corpus.FOLDER)
    if broken:
        click.echo(f"broken: {', '.join(broken)}")
        sys.exit(1)


def start(name: str, arguments: Sequence[str], log: Path, every: int = 1) -> int:
    """Runs the fuzzer's process with its output in `log`; returns its exit code."""
    command = [sys.executable, "-m", "tests.robustness.fuzz.process", name, str(every), *arguments]
    with log.open("wb") as output:
        return subprocess.run(command, stdout=output, stderr=output, check=False).returncode


def fuzz_and_compare(name: str, seconds: int, every: int, seed: int) -> bool:
    """Fuzzes a target, then compares all inputs that were kept, if not each was; returns True when all was well."""
    return fuzz(name, seconds, every, seed) and (every == 1 or not seconds or fuzz(name, 0, 1, seed))


def fuzz(name: str, seconds: int, every: int, seed: int) -> bool:
    """Fuzzes a target for so long, beginning with its corpus; prints the outcome, returns True when all was well."""
    folder = INPUTS / name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(CRASHES.iterdir())
    flags = [
        f"-timeout={LONGEST_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}",
        f"-artifact_prefix={CRASHES}/{name}-", f"-seed={seed}", "-print_final_stats=1", "-reload=0",
        f"-max_total_time={seconds}" if seconds else "-runs=0",
    ]  # fmt: skip
    log = LOGS / f"{name}.log"
    code = start(name, [*flags, str(folder)], log, every)
    text = log.read_text(encoding="utf-8", errors="replace")
    click.echo(f"{name:10} {summary(text)}")
    if COUNTERS not in text:
        click.echo("The core was compiled without coverage: nothing guides the fuzzer.")
        return False
    if not code:
        return True
    click.echo("\n".join(text.splitlines()[-LAST_LINES:]))
    for path in sorted(set(CRASHES.iterdir()) - before):
        click.echo(f"\nkept as {path.absolute()}; to run it again:")
        click.echo(f"make fuzz TARGET={name} ARGS='--input {base64.b64encode(path.read_bytes()).decode()}'")
    return False


def run_one(name: str, given: str) -> int:
    """Runs a target with one input, and shows all that the process says; returns its exit code."""
    try:
        data = base64.b64decode(given, validate=True)
    except binascii.Error as error:
        raise click.UsageError(f"expected --input in base64: {error}") from error
    path, log = CRASHES / "given", LOGS / "given.log"
    path.write_bytes(data)
    code = start(name, [f"-timeout={LONGEST_SECONDS}", str(path)], log)
    click.echo(log.read_text(encoding="utf-8", errors="replace"))
    return code


def minimise(name: str, folder: Path) -> None:
    """Writes the fewest and smallest inputs that reach what all together do."""
    merged = INPUTS / f"{name}.merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    if start(name, ["-merge=1", str(merged), str(INPUTS / name)], LOGS / f"{name}.merge.log"):
        raise click.ClickException(f"{name}: the corpus was not minimised, see {LOGS.absolute()}/{name}.merge.log")
    inputs = [path.read_bytes() for path in merged.iterdir()]
    click.echo(f"{name:10} {corpus.write(name, inputs, folder)} of {len(inputs)} inputs written")


def summary(log: str) -> str:
    """Inputs, how many a second, and the coverage at the beginning and the end."""
    units = re.findall(r"number_of_executed_units: (\d+)", log)
    speed = re.findall(r"average_exec_per_sec: +(\d+)", log)
    cover = re.findall(r"cov: (\d+)", log)
    if not units or not speed or not cover:
        return "ended early"
    return (
        f"{int(units[-1]):>12,} inputs, {int(speed[-1]):>7,} a second; {int(cover[0]):,} to {int(cover[-1]):,} branches"
    )


if __name__ == "__main__":
    main()
