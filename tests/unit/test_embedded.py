"""The embedded parts' files: whose they may be."""

import os
from pathlib import Path

import pytest

from services.cli.local.embedded import private_directory
from services.kit.runtime.errors import StartError


def test_a_directory_is_made_for_this_user_only(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "run"
    private_directory(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    private_directory(directory)


def test_one_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(0o755)
    with pytest.raises(StartError, match=r"expected .*run to be closed to other users \(0700\), was 0755"):
        private_directory(directory)


def test_one_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Also where it is only a link into a directory of ours."""
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    with pytest.raises(StartError, match="to be a directory of this user"):
        private_directory(tmp_path / "link")
    if os.geteuid() != 0:
        return
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(StartError, match="was 12345's"):
        private_directory(theirs)
    private_directory(theirs, 12345)
