"""A small disk of its own for data, which can be filled; only root may mount it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILLER: Final = "filler"
NEEDS_ROOT: Final = "a small disk of its own can only be mounted by root, where mounting is allowed"


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """A disk at `folder`, which is made; False where it cannot be mounted, and the folder is an ordinary one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "tradeul-small", str(folder))
    is_mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(("umount", "--lazy", str(folder)), check=True)


def fill(disk: Path) -> None:
    """Nothing is left of the disk."""
    with (disk / FILLER).open("wb") as file:
        # Others write meanwhile, and what they free is taken, too.
        while free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)


def make_room(disk: Path) -> None:
    """What fill() took is there again."""
    (disk / FILLER).unlink(missing_ok=True)
