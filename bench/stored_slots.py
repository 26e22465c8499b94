"""Volume by time of day, stored as the nightly task leaves it: a measured mesh then has its reference data in seconds.

Without it, a mesh with the simulator requests 30 days of bars of each of 12,000 symbols, which takes minutes of both
processors. The means are over the last days before DAY only: making them must not take minutes either.

As a process of its own: `python -m bench.stored_slots DATA_DIR SYMBOLS`.
"""

import asyncio
import atexit
import datetime
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from bench.observer import DETAILS_AT_ONCE, settled
from bench.report import Report
from services.kit.runtime.settings import SIMULATOR
from tests.support.mesh import Mesh

# A Friday. Its reference data are those of the Sunday after it, too.
DAY: Final = datetime.date(2026, 3, 6)
SUNDAY: Final = datetime.date(2026, 3, 8)
MEAN_OF_DAYS: Final = 4
# What the means count as.
DAYS: Final = 30


def simulated(symbols: int, start: str, day: datetime.date = DAY) -> dict[str, str]:
    """Settings of a mesh with the simulator that begins at a time of day, HH:MM."""
    return {"TRADEUL_SIM_SYMBOLS": str(symbols), "TRADEUL_SIM_START": f"{day}T{start}", **DETAILS_AT_ONCE}


@contextmanager
def data_directory(symbols: int) -> Iterator[Path]:
    """A new data directory for a mesh, whose PostgreSQL has the means of DAY and SUNDAY."""
    with tempfile.TemporaryDirectory() as directory:
        # With the owners, since PostgreSQL has one of its own where this is root.
        subprocess.run(("cp", "-a", f"{_filled(symbols)}/.", directory), check=True)
        yield Path(directory)


@cache
def _filled(symbols: int) -> Path:
    """The directory that all are copied from, made once."""
    folder = _kept()
    directory = folder / str(symbols)
    command = (sys.executable, "-m", "bench.stored_slots", str(directory), str(symbols))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return directory


@cache
def _kept() -> Path:
    folder = tempfile.mkdtemp(prefix="tradeul-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder).chmod(0o755)
    return Path(folder)


@asynccontextmanager
async def simulated_mesh(report: Report, symbols: int, start: str, day: datetime.date = DAY) -> AsyncIterator[Mesh]:
    """A mesh with the simulator that has loaded its reference data."""
    report.step("storing volume by time of day")
    with data_directory(symbols) as directory:
        report.step(f"starting a mesh with {symbols:,} simulated symbols")
        # Above the ports of the services, which the dashboard's load is read at.
        settings = {**simulated(symbols, start, day), "TRADEUL_METRICS_PORT_OFFSET": "4000"}
        async with Mesh(directory, settings) as mesh:
            report.step("waiting until reference data are loaded")
            await settled(mesh)
            yield mesh


def volumes(symbols: int) -> tuple[list[str], NDArray[np.float64]]:
    """The simulator's symbols, and their shares and trades: [volume and trades, day, symbol, slot]."""
    from services.kit.runtime.setting_groups import SimSettings
    from services.market.volume_slots import SLOTS
    from services.simulator.flat_files import minute_bars
    from services.simulator.market import Market

    start = datetime.datetime.combine(DAY, datetime.time(4))
    market = Market(SimSettings(symbols=symbols, start=start))
    today = market.day.number
    found = np.zeros((2, MEAN_OF_DAYS, symbols, SLOTS))
    for at, number in enumerate(range(today - MEAN_OF_DAYS, today)):
        plan = market.plans.get(number)
        assert plan is not None, "the market's history is longer"
        bars = minute_bars(market, plan)
        slot = (bars["window_start"] - plan.day.start_ns) // (300 * 1_000_000_000)
        index = bars["symbol"] * SLOTS + slot
        for row, name in enumerate(("volume", "transactions")):
            counts = np.bincount(index, weights=bars[name], minlength=symbols * SLOTS)
            found[row, at] = counts.reshape(symbols, SLOTS)
    return list(market.universe.tickers), found


async def fill(directory: Path, symbols: int) -> None:
    from services.historical.history_store import HistoryStore, baseline_records
    from services.kit.stores.database import open_pool
    from services.market.volume_slots import SymbolBaseline
    from tests.support.stores import running_stores

    names, found = volumes(symbols)
    volume, trades = found.cumsum(axis=3)
    means, mean_trades, sd = volume.mean(axis=0), trades.mean(axis=0), trades.std(axis=0, ddof=1)

    async def records() -> AsyncIterator[bytes]:
        for row, name in enumerate(names):
            baseline = SymbolBaseline(DAYS, means[row], mean_trades[row], sd[row])
            yield baseline_records(name, baseline, DAY)

    async with running_stores(directory / SIMULATOR) as stores:
        pool: asyncpg.Pool = await open_pool(stores.database_url)
        try:
            rows = await HistoryStore(pool).replace_baselines(records)
        finally:
            await pool.close()
    if rows != means.size:
        raise AssertionError(f"expected {means.size} rows of volume_slots, was {rows}")


def main() -> None:
    directory, symbols = sys.argv[1:]
    Path(directory).mkdir(parents=True, exist_ok=True)
    asyncio.run(fill(Path(directory), int(symbols)))


if __name__ == "__main__":
    main()
