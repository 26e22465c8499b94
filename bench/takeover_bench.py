"""What a standby sequencer costs readers: `python -m bench.takeover_bench --runs 5`.

The takeover: the time between two frames of one reader, over which the sequencer was killed (-9), stopped (SIGSTOP), or
lost its lease to nobody, which runs out. Trades come all the while.

The hop: the time from sending a trade at the vendor to its frame at a reader, async and sync in turns.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tradeul.v1 import frame_pb2

from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import Frame
from services.kit.runtime.logging import configure
from services.kit.runtime.settings import Settings
from tests.support.stores import Stores, running_stores
from tests.support.two_sequencers import NAMES, Copy, Tape, TwoSequencers, two_sequencers, until

LOSE: Final = "UPDATE sequencer_lease SET holder = 'nobody', fencing_number = fencing_number + 1"
HOWS: Final = ("kill -9", "SIGSTOP", "lease lost")
MODES: Final = ("async", "sync")
IN_SYNC: Final = "in sync"
HOP_SECONDS: Final = 10.0
# Until all processes have started, and what came meanwhile is worked off.
WARM_UP_SECONDS: Final = 10.0
TRADES: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["trades"].number


async def take_over(two: TwoSequencers, copy: Copy, old: str, new: str, how: str) -> float:
    """Returns the seconds without a frame."""
    copy.longest_seconds = 0.0
    if how == "lease lost":
        await two.lease(LOSE)
    else:
        two.send(old, signal.SIGKILL if how == "kill -9" else signal.SIGSTOP)
    await two.until_leads(new)
    position = copy.position
    await until(lambda: copy.position != position)
    await asyncio.sleep(0.5)
    return copy.longest_seconds


async def until_pair(two: TwoSequencers, leader: str, standby: str, mode: str, seen: Sequence[int]) -> None:
    """Waits until one can take over from the other."""
    await two.until_stands_by(standby, seen[1])
    if mode == "sync":
        await two.until_log(leader, IN_SYNC, seen[0])


async def measure(stores: Stores, folder: Path, mode: str, how: str, runs: int) -> list[float]:
    """Takes over again and again, from one to the other."""
    found = []
    own = {name: {"TRADEUL_STANDBY": mode, "TRADEUL_LOG_LEVEL": "info"} for name in NAMES}
    async with two_sequencers(folder, stores, own) as (two, _, copy, _):
        old, new = NAMES
        await until_pair(two, old, new, mode, (0, 0))
        for _ in range(runs):
            await asyncio.sleep(1.0)
            found.append(await take_over(two, copy, old, new, how))
            if how == "SIGSTOP":
                two.send(old, signal.SIGCONT)
            await two.until_ended(old)
            seen = len(two.log(new)), len(two.log(old))
            await two.start(old)
            await until_pair(two, new, old, mode, seen)
            old, new = new, old
    return found


class Probe(Copy):
    """A reader that notes how old the newest trade is with each frame that has one."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._tape = tape
        self._trades = 0

    def apply(self, frame: Frame) -> None:
        super().apply(frame)
        if frame.kind == TRADES and (trades := self.trades) > self._trades:
            self._trades = trades
            self.seconds.append(self._tape.seconds_since_sent(trades))


async def measure_hop(stores: Stores, folder: Path, mode: str) -> list[float]:
    own = {name: {"TRADEUL_STANDBY": mode, "TRADEUL_LOG_LEVEL": "info"} for name in NAMES}
    async with two_sequencers(folder, stores, own) as (two, tape, _, _):
        await until_pair(two, *NAMES, mode, (0, 0))
        probe = Probe(tape)
        reading = asyncio.create_task(FrameReader(two.reader_addresses, probe, "probe").run())
        await asyncio.sleep(WARM_UP_SECONDS)
        probe.seconds.clear()
        await asyncio.sleep(HOP_SECONDS)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return probe.seconds


async def main(runs: int, hops: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running_stores(Path(folder) / "stores") as stores:
            for turn in range(hops):
                for mode in MODES:
                    work = Path(folder) / f"hop-{turn}-{mode}"
                    work.mkdir()
                    ms = sorted(1000 * each for each in await measure_hop(stores, work, mode))
                    p50, p99 = ms[len(ms) // 2], ms[len(ms) * 99 // 100]
                    sys.stdout.write(f"hop, {mode}: p50 {p50:.2f} ms, p99 {p99:.2f} ms of {len(ms)} frames\n")
                    sys.stdout.flush()
            for mode in MODES if runs else ():
                for how in HOWS:
                    work = Path(folder) / f"{mode}-{how}"
                    work.mkdir()
                    seconds = await measure(stores, work, mode, how, runs)
                    median, longest = statistics.median(seconds), max(seconds)
                    sys.stdout.write(f"{mode}, {how}: median {median:.2f} s, longest {longest:.2f} s of {runs}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--runs", type=int, default=5, help="takeovers of each kind")
    parser.add_argument("--hops", type=int, default=3, help="turns of measuring the hop")
    arguments = parser.parse_args()
    configure(Settings.load({"TRADEUL_LOG_LEVEL": "error"}), "takeover")
    asyncio.run(main(arguments.runs, arguments.hops))
