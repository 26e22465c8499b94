"""TRADEUL_DATA_DIR: a directory of its own for each market, so that no market's data are taken for another's.

    .tradeul/simulator/{postgres,redis,journal,sequencer.epoch,flat,replay,gateway,log,lock}
    .tradeul/vendor/...

Directories that are made here are closed to other users, and those that others may change are reported.

Earlier versions kept both markets' data in `.tradeul` itself, without noting whose they were: `tradeul adopt-data`
assigns them before they are used again.
"""

import contextlib
import fcntl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.cli.local.embedded import is_postgres_another_user
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.market.flat_files import RECORDINGS

log = get_logger(__name__)

# What is kept from run to run. Logs and the gateway's configuration are created each time.
KEPT: Final = ("postgres", "redis", "journal", "sequencer.epoch", RECORDINGS, "replay")


def market_directory(settings: Settings) -> Path:
    """The directory of the settings' market; raises StartError while data of an earlier version have no market."""
    if found := earlier_data(settings.data_dir):
        raise StartError(
            f"{settings.data_dir.resolve()} holds {', '.join(found)} of an earlier version, which did not keep the"
            " simulator's and the vendor's data apart: `tradeul adopt-data simulator` or `tradeul adopt-data vendor`"
            " says whose they are, or TRADEUL_DATA_DIR names another directory"
        )
    return settings.market_dir


def earlier_data(data_dir: Path) -> list[str]:
    """Returns the names of what an earlier version kept in the directory itself."""
    return [name for name in KEPT if (data_dir / name).exists()]


def adopt(data_dir: Path, market: str) -> list[str]:
    """Moves what an earlier version kept to the market's directory; returns the names.

    Raises StartError when there is nothing, a mesh is using it, or the market has such data already.
    """
    found = earlier_data(data_dir)
    if not found:
        raise StartError(f"expected data of an earlier version in {data_dir.resolve()}, found none")
    target = data_dir / market
    if taken := [name for name in found if (target / name).exists()]:
        raise StartError(f"expected no {', '.join(taken)} in {target.resolve()} yet: move one of both away first")
    with locked(data_dir):
        target.mkdir(exist_ok=True)
        for name in found:
            (data_dir / name).rename(target / name)
    return found


def make_private(directory: Path) -> None:
    """Makes the market's directory and the one above it for this user only; warns of those that others may change.

    Where PostgreSQL has to run as another user, that one may pass through.
    """
    for each in (directory.parent, directory):
        try:
            each.mkdir(mode=0o711 if is_postgres_another_user() else 0o700, parents=True)
        except FileExistsError:
            mode = each.stat().st_mode
            # Of a sticky one, such as /tmp, each user may change only what is their own.
            if mode & 0o022 and not mode & stat.S_ISVTX:
                log.warning(
                    "other users may change the data of this mesh: chmod go-w",
                    directory=str(each.resolve()),
                    mode=f"{stat.S_IMODE(mode):04o}",
                )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the directory; raises StartError when another mesh does, or when it cannot be made or written."""
    try:
        make_private(directory)
        lock = (directory / "lock").open("a")
    except OSError as error:
        raise StartError(
            f"expected a directory that can be written, was {directory.absolute()}: {error.strerror};"
            " TRADEUL_DATA_DIR names another"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartError(
                f"another mesh is running on {directory.resolve()}; TRADEUL_DATA_DIR names another directory"
            ) from error
        yield
