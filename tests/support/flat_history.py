"""Flat files made by hand, and what they come to in plain Python: the slow, obvious way."""

import csv
import datetime
import gzip
import io
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
HEADER = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")
SLOTS = 192


class Minute(NamedTuple):
    """A minute bar; `start` is seconds since 1970 UTC."""

    symbol: str
    start: int
    volume: float
    trades: int


class SymbolDay(NamedTuple):
    """Cumulative since 04:00 at the end of each slot."""

    volume: list[float]
    trades: list[int]


def seconds(day: datetime.date, hour: int, minute: int = 0) -> int:
    """Of a New York time of day."""
    return int(datetime.datetime.combine(day, datetime.time(hour, minute), NEW_YORK).timestamp())


def cells(bar: Minute, price: float = 10.0) -> tuple[object, ...]:
    """The bar as a line of the vendor's file."""
    high, low = price * 1.01, price * 0.99
    return (bar.symbol, bar.volume, price, price, high, low, bar.start * 1_000_000_000, bar.trades)


def text(rows: Iterable[Sequence[object]], header: Sequence[str] = HEADER) -> bytes:
    """CSV as the vendor writes it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode()


def path_of(folder: Path, day: datetime.date, kind: str = "minute_aggs_v1") -> Path:
    """Where a day's file is below `folder`."""
    return folder / "us_stocks_sip" / kind / f"{day:%Y}" / f"{day:%m}" / f"{day}.csv.gz"


def write(folder: Path, day: datetime.date, content: bytes, kind: str = "minute_aggs_v1") -> Path:
    """Writes a day's file."""
    path = path_of(folder, day, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content))
    return path


def random_day(rng: random.Random, day: datetime.date, symbols: Sequence[str], end_hour: int) -> list[Minute]:
    """Some minutes of some symbols from 04:00 to the end, both included; now and then a minute comes again."""
    bars = []
    first, last = seconds(day, 4), seconds(day, end_hour) - 60
    for symbol in symbols:
        minutes = {first, last} if rng.random() < 0.3 else set()
        minutes |= {first + 60 * rng.randrange((last - first) // 60) for _ in range(rng.randint(1, 60))}
        bars += [
            Minute(symbol, at, rng.randint(1, 9) * 100 + rng.choice((0, 0.25)), rng.randint(1, 9))
            for at in sorted(minutes)
        ]
        if rng.random() < 0.2:
            bars.append(bars[-1]._replace(volume=777.0, trades=7))
    return bars


def twin_day(bars: Iterable[Minute], day: datetime.date) -> dict[str, SymbolDay]:
    """Of a repeated minute the last counts."""
    kept = {(bar.symbol, bar.start): bar for bar in bars}
    days: dict[str, SymbolDay] = {}
    for symbol in {bar.symbol for bar in kept.values()}:
        volume, trades = [0.0] * SLOTS, [0] * SLOTS
        for bar in kept.values():
            if bar.symbol == symbol:
                slot = (bar.start - seconds(day, 4)) // 300
                volume[slot] += bar.volume
                trades[slot] += bar.trades
        for slot in range(1, SLOTS):
            volume[slot] += volume[slot - 1]
            trades[slot] += trades[slot - 1]
        days[symbol] = SymbolDay(volume, trades)
    return days


def twin_baselines(
    days: Mapping[datetime.date, Mapping[str, SymbolDay]], factor: Callable[[str, datetime.date], float]
) -> dict[str, tuple[int, list[float], list[float], list[float]]]:
    """By symbol: days, mean volume, mean and sample sd of trades at each slot's end; not of fewer than 3 days."""
    found = {}
    for symbol in {symbol for day in days.values() for symbol in day}:
        held = [(factor(symbol, date), day[symbol]) for date, day in days.items() if symbol in day]
        if len(held) >= 3:
            found[symbol] = (
                len(held),
                [statistics.fmean(each.volume[slot] * split for split, each in held) for slot in range(SLOTS)],
                [statistics.fmean(each.trades[slot] for _, each in held) for slot in range(SLOTS)],
                [statistics.stdev(each.trades[slot] for _, each in held) for slot in range(SLOTS)],
            )
    return found
