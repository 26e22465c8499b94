"""How long readers wait for a standby sequencer: `python -m bench.takeover_bench --runs 5`.

The time is that between two frames of one reader, over which the sequencer was killed (-9), stopped (SIGSTOP), or
lost its lease to nobody, which runs out. Trades come all the while, and are counted at the end.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from services.kit.runtime.logging import configure
from services.kit.runtime.settings import Settings
from tests.support.stores import Stores, running_stores
from tests.support.two_sequencers import Copy, TwoSequencers, two_sequencers, until

LOSE = "UPDATE sequencer_lease SET holder = 'nobody', fencing_number = fencing_number + 1"
HOWS = ("kill -9", "SIGSTOP", "lease lost")


async def take_over(two: TwoSequencers, copy: Copy, old: str, how: str) -> float:
    """Returns the seconds without a frame."""
    position = copy.position
    assert position is not None
    copy.longest_seconds = 0.0
    if how == "lease lost":
        await two.lease(LOSE)
    else:
        two.send(old, signal.SIGKILL if how == "kill -9" else signal.SIGSTOP)
    await until(lambda: copy.position is not None and copy.position.epoch > position.epoch)
    return copy.longest_seconds


async def measure(stores: Stores, folder: Path, how: str, runs: int) -> list[float]:
    """Takes over again and again, from one to the other."""
    found = []
    async with two_sequencers(folder, stores) as (two, _, copy, _):
        old, new = "a", "b"
        for _ in range(runs):
            await asyncio.sleep(1.0)
            found.append(await take_over(two, copy, old, how))
            if how == "SIGSTOP":
                two.send(old, signal.SIGCONT)
            await two.until_ended(old)
            seen = len(two.log(old))
            await two.start(old)
            await two.until_stands_by(old, seen)
            old, new = new, old
    return found


async def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running_stores(Path(folder) / "stores") as stores:
            for number, how in enumerate(HOWS):
                work = Path(folder) / str(number)
                work.mkdir()
                seconds = await measure(stores, work, how, runs)
                sys.stdout.write(
                    f"{how}: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of {runs}\n"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    configure(Settings.load({"TRADEUL_LOG_LEVEL": "error"}), "takeover")
    asyncio.run(main(arguments.runs))
