"""Epochs, the numberings of the stream: how the next one is named, and when it begins while the stream runs."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastcore.market import Market
from services.data_ingest.journal import Journal
from services.data_ingest.stream.sequencer import MarketCopy, Sequencer
from services.kit.lists.definitions import load_lists
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import fresh_epoch, wall_seconds
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

FILE: Final = "sequencer.epoch"


async def next_epoch(data_dir: Path, after: int = 0) -> int:
    """Returns the wall clock's next second, or one more than the last epoch when that is later.

    The last one is kept in `data_dir`; where nothing can be kept the clock alone decides. `after`: the last epoch by
    the lease of several sequencers, which nobody else follows with another one, so that no second has to pass.
    """
    path = data_dir / FILE
    epoch = max(after + 1, wall_seconds()) if after else await fresh_epoch()
    epoch = max(epoch, read_last(path) + 1)
    try:
        write_last(path, epoch)
    except OSError as error:
        log.warning("the epoch cannot be kept, the clock must not go back", path=str(path), error=reason_of(error))
    return epoch


def read_last(path: Path) -> int:
    """Returns the last epoch, 0 when there is none; a file without a number counts as none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        log.warning("the last number cannot be read", path=str(path), error=reason_of(error))
        return 0


def write_last(path: Path, epoch: int) -> None:
    """Keeps the last epoch, by one rename, so that the file is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(str(epoch), encoding="ascii")
    os.replace(fresh, path)


def renewed(market: MarketCopy) -> Callable[[int], MarketCopy]:
    """Returns a function that makes the market of another epoch which continues with the same rows."""
    assert isinstance(market, Market)
    return lambda epoch: Market.of_state(load_lists(), epoch, market.state, encode_deltas=False)


class EpochRenewal:
    """Begins a new epoch at the first change of day after one is due: positions have 32 bits.

    Args:
        data_dir: where the last epoch is kept.
        progress: gives what the new epoch's journal begins with: the last batch of polygon_ws that is in the stream,
            and by what duplicates of its latest trades are recognised.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        journal: Journal | None,
        data_dir: Path,
        progress: Callable[[], tuple[Position | None, bytes]],
    ) -> None:
        self._sequencer = sequencer
        self._journal = journal
        self._data_dir = data_dir
        self._progress = progress
        self._is_due = asyncio.Event()

    def day_began(self) -> None:
        """The stream is in another day: the time for a new epoch, when one is due."""
        if self._sequencer.is_epoch_due:
            self._is_due.set()

    async def run(self) -> None:
        """Begins the epochs that are due, until cancelled."""
        while True:
            await self._is_due.wait()
            self._is_due.clear()
            epoch = await next_epoch(self._data_dir)
            if self._journal is None:
                self._begin(epoch)
                self._sequencer.announce_epoch()
                continue
            self._journal.hurry()
            async with self._journal.beginning:
                self._begin(epoch)
                stored = self._journal.begin(*self._progress())
                self._sequencer.announce_epoch()
                await stored

    def _begin(self, epoch: int) -> None:
        log.info("a new epoch begins: positions have 32 bits", epoch=epoch, ended=str(self._sequencer.position))
        self._sequencer.begin_epoch(epoch, renewed(self._sequencer.market))
