"""A day of the whole market's minute bars, and 30 days of them, into volume slots, beside pandas.

The day is the simulator's, written once as the vendor's flat file into build/; the other 29 days are
its slots under other dates. Each contestant reads in its own process, which reports its memory.
"""

import asyncio
import datetime
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import numpy as np

from bench.report import Report

DAY: Final = datetime.date(2025, 11, 20)
SLOTS: Final = 192


class Size(NamedTuple):
    symbols: int
    runs: int
    # Of the day that is added to others.
    added_runs: int

    @property
    def folder(self) -> Path:
        return Path(f"build/flat-files-{self.symbols}")


FULL: Final = Size(symbols=12_000, runs=3, added_runs=1)
LONG: Final = FULL._replace(added_runs=3)
SMALL: Final = Size(symbols=300, runs=1, added_runs=1)


async def measure(report: Report, size: Size) -> None:
    """Seconds, and the most memory of the reading process; PostgreSQL's work is in the seconds."""
    from tests.support.stores import running_stores

    report.step(f"writing a day of {size.symbols:,} symbols, unless it is there")
    await _make_file(size)
    with tempfile.TemporaryDirectory() as directory:
        async with running_stores(Path(directory)) as stores:
            connection = await asyncpg.connect(stores.database_url)
            try:
                await _measure(report, size, connection, stores.database_url)
            finally:
                await connection.close()


async def _measure(report: Report, size: Size, connection: asyncpg.Connection, url: str) -> None:
    ours, peers = [], []
    for turn in range(size.runs):
        report.step(f"a day, by tradeul and pandas, round {turn + 1} of {size.runs}")
        await connection.execute("TRUNCATE slot_days, load_units")
        ours.append(await _child(size, "day", url))
        peers.append(await _child(size, "pandas"))
    await _check(connection, peers[-1]["file"])
    day, peer = _median(ours), _median(peers)
    unit = f"a day of flat minute bars, {size.symbols:,} symbols, {day['rows']:,} rows, csv.gz"
    figure = {
        "value": day["seconds"],
        "unit": f"s, {unit}, to slots stored in PostgreSQL (pandas: in memory)",
        "peers": {"pandas": peer["seconds"]},
        "rss_mb": day["rss_mb"],
        "pandas_rss_mb": peer["rss_mb"],
        "cpu_s": day["cpu_s"],
    }
    report.add({"history_day_s": figure})
    rows = await _fill_month(connection)
    # What the next morning costs: the new day is read, the 29 are there.
    months = []
    for turn in range(size.added_runs):
        report.step(f"a day added to 29 others, round {turn + 1} of {size.added_runs}")
        months.append(await _child(size, "month", url))
    if (baselines := await connection.fetchval("SELECT count(*) FROM volume_slots")) != size.symbols * SLOTS:
        raise AssertionError(f"expected {size.symbols * SLOTS} rows of volume_slots, were {baselines}")
    month = _median(months)
    figure = {
        "value": month["seconds"],
        "unit": f"s, {unit}, added to 29 stored days ({rows:,} symbol days) and volume_slots made anew of all 30",
        "peers": {},
        "rss_mb": month["rss_mb"],
        "cpu_s": month["cpu_s"],
    }
    report.add({"history_next_day_s": figure})


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]


async def _make_file(size: Size) -> None:
    if not _file_in(size.folder).exists():
        command = (
            "services.cli.main",
            "simulate-flat-files",
            str(size.folder),
            "--from",
            str(DAY),
            "--kind",
            "minutes",
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            env={**os.environ, "TRADEUL_SIM_SYMBOLS": str(size.symbols)},
            stdout=asyncio.subprocess.DEVNULL,
        )
        if await process.wait():
            raise AssertionError("simulate-flat-files failed")


def _file_in(folder: Path) -> Path:
    return folder / f"us_stocks_sip/minute_aggs_v1/{DAY:%Y/%m}/{DAY}.csv.gz"


async def _child(size: Size, what: str, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.history_bench", what, str(size.folder), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise AssertionError(f"{what} failed")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


async def _fill_month(connection: asyncpg.Connection) -> int:
    from services.historical.core import baseline_days
    from services.market.calendar import nyse_calendar

    _, days = baseline_days(nyse_calendar(DAY), DAY)
    for day in days:
        await connection.execute(
            "INSERT INTO slot_days SELECT $1, symbol, slots, volume, trades FROM slot_days WHERE date = $2"
            " ON CONFLICT DO NOTHING",
            *(day, DAY),
        )
    rows: int = await connection.fetchval("SELECT count(*) FROM slot_days WHERE date <> $1", DAY)
    return rows


async def _check(connection: asyncpg.Connection, file: str) -> None:
    """Both came to the same slots, or the figures mean nothing."""
    with np.load(file, allow_pickle=True) as kept:
        theirs = dict(kept)
    stored = await connection.fetch("SELECT symbol, slots, volume, trades FROM slot_days ORDER BY symbol")
    if [row["symbol"] for row in stored] != theirs["symbols"].tolist():
        raise AssertionError("other symbols than pandas")
    for at, row in enumerate(stored):
        slots = np.frombuffer(row["slots"], np.uint8)
        for name, kind in (("volume", "<f8"), ("trades", "<u4")):
            ours = np.zeros(SLOTS)
            ours[slots] = np.frombuffer(row[name], kind)
            if not np.array_equal(ours, theirs[name][at]):
                raise AssertionError(f"{row['symbol']}: {name} differs from pandas")


# --- the contestants -----------------------------------------------------------------


async def _load(folder: Path, url: str, what: str) -> int:
    from services.historical.context import LoadContext
    from services.historical.core import Kind, Request
    from services.historical.history_store import HistoryStore
    from services.historical.service import open_runner
    from services.kit.runtime.settings import Settings

    async with open_runner(Settings.load({}), url) as runner:
        request = Request(Kind.SLOTS, str(folder), DAY, DAY, is_raw=True, again=True)
        if what == "month":
            contexts: list[LoadContext] = []
            await runner.run(request, lambda _, context: contexts.append(context))
            return contexts[0].progress.rows
        from services.historical.flat_files import open_source
        from services.historical.load_slots import load_days

        calendar = await runner.calendar()
        store = HistoryStore(runner.pool)
        context = LoadContext(request, runner.settings, calendar, [calendar.on(DAY)], store, runner.vendor, DAY)
        await load_days(context, open_source(request.source, runner.settings.flat_files))
        return context.progress.rows


def _pandas(folder: Path) -> tuple[int, str]:
    """As a good data scientist would: the slots by symbol, a repeated minute's last bar counting."""
    import pandas as pd  # type: ignore[import-untyped]  # without types, and needed only here

    frame = pd.read_csv(_file_in(folder), usecols=["ticker", "volume", "window_start", "transactions"])
    frame = frame.drop_duplicates(["ticker", "window_start"], keep="last")
    start = pd.Timestamp(f"{DAY} 04:00", tz="America/New_York").value
    frame["slot"] = (frame["window_start"] - start) // 300_000_000_000
    table = frame.groupby(["ticker", "slot"])[["volume", "transactions"]].sum().unstack(fill_value=0)
    table = table.reindex(columns=[(name, slot) for name in ("volume", "transactions") for slot in range(SLOTS)])
    values = table.fillna(0).to_numpy(dtype=np.float64)
    file = str(folder / "pandas.npz")
    symbols = table.index.to_numpy(dtype=object)
    np.savez(file, symbols=symbols, volume=values[:, :SLOTS], trades=values[:, SLOTS:])
    return len(frame), file


def main() -> None:
    what, folder, *arguments = sys.argv[1:]
    start, cpu, file = time.perf_counter(), time.process_time(), ""
    if what == "pandas":
        rows, file = _pandas(Path(folder))
    else:
        rows = asyncio.run(_load(Path(folder), arguments[0], what))
    result = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": rows,
        "file": file,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
