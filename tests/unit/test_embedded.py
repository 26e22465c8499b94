"""The embedded parts' files: whose they may be."""

import os
import tempfile
from pathlib import Path

import pytest

from services.cli.local.embedded import private_directory, remove_socket_directory, socket_directory
from services.cli.local.mesh import specs_of
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings


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


def test_nothing_is_left_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data with a path that is too long for sockets, once each process has been stopped."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    settings = Settings.load({"TRADEUL_DATA_DIR": str(tmp_path / ("d" * 90))})
    for name in ("redis", "postgres", "services", "gateway"):
        sockets = socket_directory(settings.market_dir.resolve() / name)
        assert sockets.parent == temporary
        private_directory(sockets)
        (sockets / "left.sock").touch()
    for spec in specs_of(settings):
        if spec.clean_up is not None:
            spec.clean_up()
    assert not list(temporary.iterdir())


def test_only_what_was_made_for_sockets_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    short = tmp_path / "s"
    private_directory(socket_directory(short))
    remove_socket_directory(short)
    assert socket_directory(short).exists()
    ours = tmp_path / "ours"
    (ours / "file").mkdir(parents=True)
    long = tmp_path / ("d" * 90)
    link = socket_directory(long)
    link.parent.mkdir()
    link.symlink_to(ours)
    remove_socket_directory(long)
    assert (ours / "file").exists()
    link.unlink()
    remove_socket_directory(long)
