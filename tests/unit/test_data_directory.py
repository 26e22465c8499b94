"""The data directory: for its user only, and a warning of one that others may change."""

import os
from pathlib import Path

import pytest
import structlog

from services.cli.data_directory import locked, make_private
from services.cli.local.embedded import is_postgres_another_user

MADE = 0o711 if is_postgres_another_user() else 0o700


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_it_is_made_for_this_user_only(tmp_path: Path, mask: int) -> None:
    directory = tmp_path / "data" / "simulator"
    before = os.umask(mask)
    try:
        with structlog.testing.capture_logs() as logs, locked(directory):
            pass
    finally:
        os.umask(before)
    assert mode(directory) == mode(directory.parent) == MADE & ~mask
    assert not logs


@pytest.mark.parametrize("which", ["data", "data/simulator"])
@pytest.mark.parametrize(("allowed", "warns"), [(0o755, False), (0o775, True), (0o757, True), (0o1777, False)])
def test_one_that_others_may_change_is_named(tmp_path: Path, which: str, allowed: int, *, warns: bool) -> None:
    directory = tmp_path / "data" / "simulator"
    make_private(directory)
    (tmp_path / which).chmod(allowed)
    with structlog.testing.capture_logs() as logs:
        make_private(directory)
    assert mode(tmp_path / which) == allowed
    expected = {
        "event": "other users may change the data of this mesh: chmod go-w",
        "directory": str(tmp_path / which),
        "mode": f"{allowed:04o}",
        "log_level": "warning",
    }
    assert logs == ([expected] if warns else [])
