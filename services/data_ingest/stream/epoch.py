"""The number of a new epoch: greater than any before, whatever became of the clock in between."""

import os
from pathlib import Path
from typing import Final

from services.kit.runtime.clock import fresh_epoch
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

FILE: Final = "sequencer.epoch"


async def next_epoch(data_dir: Path) -> int:
    """The wall clock's next second, or one more than the last epoch when that is later.

    The last one is kept in `data_dir`; where nothing can be kept the clock alone decides.
    """
    path = data_dir / FILE
    epoch = max(await fresh_epoch(), read_last(path) + 1)
    try:
        write_last(path, epoch)
    except OSError as error:
        log.warning("the epoch cannot be kept, the clock must not go back", path=str(path), error=reason_of(error))
    return epoch


def read_last(path: Path) -> int:
    """0 when there is none; what is no number counts as none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        log.warning("the last epoch cannot be read", path=str(path), error=reason_of(error))
        return 0


def write_last(path: Path, epoch: int) -> None:
    """By one rename, so that it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(str(epoch), encoding="ascii")
    os.replace(fresh, path)
