"""Dry runs: how many processes they take, what a killed service leaves, and which watermarks a day needs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.dry_run.core import with_looks
from services.kit.runtime.settings import Settings
from services.replay.core import Cut
from services.ticker import dry_runs
from services.ticker.dry_runs import DIRECTORY, MOST_PROCESSES, DryRuns, usual_processes

SECOND = 10**9


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    settings = Settings.load({"TRADEUL_DATA_DIR": str(tmp_path)})
    folder = settings.market_dir / DIRECTORY
    # No process has this number: it is beyond the largest that Linux gives.
    gone, ours = folder / "4194305-abc", folder / f"{os.getpid()}-abc"
    for each in (gone, ours):
        (each / "2026-03-10").mkdir(parents=True)
    DryRuns(settings).remove_leftovers()
    assert (gone.exists(), ours.exists()) == (False, True)


@pytest.mark.parametrize("limit, count", [("max", 8), ("5000000000", 4), ("2500000000", 2), ("1000", 1)])
def test_processes_are_as_many_as_there_is_memory_for(
    limit: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(dry_runs, "MEMORY_LIMIT", tmp_path / "memory.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert usual_processes() == min(count, MOST_PROCESSES)


def cuts(*times: float) -> Iterator[Cut]:
    """A quiet watermark at each time, and events at negative ones."""
    for time in times:
        ns = round(abs(time) * SECOND)
        yield Cut(0, 1, ns, ns) if time < 0 else Cut(0, 0, ns, ns)


def test_watermarks_at_which_nothing_is_looked_at_are_left_out() -> None:
    kept = with_looks(cuts(-8.2, 9, 10, 11, 12, -12.3, 13, 14, -15.1, 16, 20, 21, 30, 31))
    # Those of the grid, the one that begins the second of the next events, and the last.
    assert [cut.time_ns / SECOND for cut in kept] == [8.2, 10, 12, 12.3, 15.1, 20, 30, 31]
