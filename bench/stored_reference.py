"""Companies and volume by time of day, stored as the nightly tasks leave them, for meshes that are measured.

Without them, a mesh with the simulator requests 30 days of bars and the details of each of 12,000 symbols, which takes
minutes of both processors. The means are over the last days before DAY only: making them must not take minutes either.

As a process of its own: `python -m bench.stored_reference DATA_DIR SYMBOLS`.
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
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from bench.observer import DETAILS_AT_ONCE, settled
from bench.report import Report
from services.kit.runtime.settings import SIMULATOR
from tests.support.mesh import Mesh

if TYPE_CHECKING:
    from services.simulator.market import Market

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
    command = (sys.executable, "-m", "bench.stored_reference", str(directory), str(symbols))
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
    report.step("storing companies and volume by time of day")
    with data_directory(symbols) as directory:
        report.step(f"starting a mesh with {symbols:,} simulated symbols")
        # Above the ports of the services, which the dashboard's load is read at.
        settings = {**simulated(symbols, start, day), "TRADEUL_METRICS_PORT_OFFSET": "4000"}
        async with Mesh(directory, settings) as mesh:
            report.step("waiting until reference data are loaded")
            await settled(mesh)
            yield mesh


def simulated_market(symbols: int) -> "Market":
    """The simulator's, on the morning of DAY."""
    from services.kit.runtime.setting_groups import SimSettings
    from services.simulator.market import Market

    return Market(SimSettings(symbols=symbols, start=datetime.datetime.combine(DAY, datetime.time(4))))


def volumes(market: "Market") -> NDArray[np.float64]:
    """The shares and trades of the simulator's symbols: [volume and trades, day, symbol, slot]."""
    from services.market.volume_slots import SLOTS
    from services.simulator.flat_files import minute_bars

    symbols, today = market.universe.count, market.day.number
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
    return found


def companies(market: "Market") -> list[dict[str, Any]]:
    """Columns of ticker_metadata, so that a mesh has nothing to request of any symbol."""
    import msgspec

    from fastcore.fields import SECTORS
    from services.kit.runtime.setting_groups import SimSettings
    from services.kit.vendor.companies import metadata_columns
    from services.kit.vendor.models import TickerDetails
    from services.simulator.companies import Companies

    known = Companies(market.universe, SimSettings().seed)
    rows = []
    for symbol in range(market.universe.count):
        price = market.price(symbol)
        details = known.details(symbol, price, market.plans.factor(symbol, market.day.number), f"{DAY}T00:00:00Z")
        row = metadata_columns(msgspec.convert(details, TickerDetails))
        # The vendor has no sector and no market value of a fund.
        of_fund = {"sector": SECTORS[0], "industry": "Funds", "market_cap": price * row["shares_outstanding"]}
        rows.append(row | {name: value for name, value in of_fund.items() if row[name] is None})
    return rows


async def fill(directory: Path, symbols: int) -> None:
    from services.historical.history_store import HistoryStore, baseline_records
    from services.kit.stores.database import open_pool
    from services.market.volume_slots import SymbolBaseline
    from tests.support.stores import running_stores

    market = simulated_market(symbols)
    volume, trades = volumes(market).cumsum(axis=3)
    means, mean_trades, sd = volume.mean(axis=0), trades.mean(axis=0), trades.std(axis=0, ddof=1)

    async def records() -> AsyncIterator[bytes]:
        for row, name in enumerate(market.universe.tickers):
            baseline = SymbolBaseline(DAYS, means[row], mean_trades[row], sd[row])
            yield baseline_records(name, baseline, DAY)

    async with running_stores(directory / SIMULATOR) as stores:
        pool: asyncpg.Pool = await open_pool(stores.database_url)
        try:
            store = HistoryStore(pool)
            rows = await store.replace_baselines(records)
            await store.write_metadata(companies(market), (), DAY)
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
