"""`python -m tests.robustness.faults`: the real mesh under faults; see docs/guarantees.md."""

import asyncio
import itertools
import json
import logging
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import configure
from services.kit.runtime.settings import Settings
from tests.robustness.faults.report import text_of
from tests.robustness.faults.rig import Kind
from tests.robustness.faults.run import Outcome, run_round
from tests.robustness.faults.table import FAULTS, Fault

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--seed", type=int, help="Of the market, and of the faults' order and times; by default a random one.")
@click.option("--minutes", type=float, default=40.0, show_default=True, help="No fault begins after that.")
@click.option("--only", multiple=True, help="Faults whose names contain this, once each; several are allowed.")
@click.option("--small", is_flag=True, help="Once the faults of the short run.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), default=Path("build/robustness.json"), show_default=True
)
@click.option("--list", "is_list", is_flag=True, help="Print the faults and end.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where data and logs are; by default removed at the end."
)
def main(
    seed: int | None, minutes: float, only: tuple[str, ...], small: bool, path: Path, is_list: bool, folder: Path | None
) -> None:
    """Inflicts faults on the mesh, and checks that nothing is lost, repeated or wrong; exit code 1 if something was."""
    faults = [each for each in FAULTS if not only or any(part in each.name for part in only)]
    if small:
        faults = [each for each in faults if each.is_small]
    if is_list:
        for each in faults:
            click.echo(f"{each.name:48} {each.does}")
        return
    if not faults:
        raise click.UsageError(f"expected --only to name a fault, was {', '.join(only)}")
    seed = secrets.randbelow(10**6) if seed is None else seed
    configure(Settings(), "robustness")
    for name in ("websockets", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    click.echo(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="tradeul-faults-") as temporary:
        outcomes: list[Outcome] = []
        is_whole = False
        try:
            is_once = small or bool(only)
            asyncio.run(_run(faults, seed, minutes, folder or Path(temporary), outcomes, is_once=is_once))
            is_whole = True
        finally:
            click.echo(text_of(outcomes, is_whole=is_whole))
            path.parent.mkdir(parents=True, exist_ok=True)
            report = {"seed": seed, "outcomes": [asdict(outcome) for outcome in outcomes]}
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if any(outcome.problems for outcome in outcomes):
        sys.exit(1)


async def _run(
    faults: Sequence[Fault], seed: int, minutes: float, folder: Path, outcomes: list[Outcome], *, is_once: bool
) -> None:
    """Rounds of faults, each with a mesh of its own, in turn of each kind of mesh."""
    until = monotonic() + 60 * minutes
    kinds = [kind for kind in get_args(Kind) if any(fault.kind == kind for fault in faults)]
    for number in itertools.count():
        kind = kinds[number % len(kinds)]
        chosen = [fault for fault in faults if fault.kind == kind]
        await run_round(chosen, seed + number, folder / f"round-{number + 1}", until, outcomes, kind)
        if monotonic() > until or (is_once and number + 1 == len(kinds)):
            return


if __name__ == "__main__":
    main()
