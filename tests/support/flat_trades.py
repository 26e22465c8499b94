"""Flat files of trades and minute bars in the vendor's layout, made by hand or at random."""

import datetime
import gzip
import random
from collections.abc import Iterable
from pathlib import Path

from services.kit.runtime.clock import NEW_YORK

DAY = datetime.date(2025, 11, 24)
TRADE_COLUMNS = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,size,tape,"
    "trf_id,trf_timestamp"
)
BAR_COLUMNS = "ticker,volume,open,close,high,low,window_start,transactions"


def ns_at(clock: str, date: datetime.date = DAY) -> int:
    """ns since 1970 of a New York time of day, "09:30:00.25"."""
    whole, _, fraction = clock.partition(".")
    time = datetime.datetime.combine(date, datetime.time.fromisoformat(whole), NEW_YORK)
    return int(time.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def trade_row(
    ticker: str,
    time_ns: int,
    price: object,
    size: object = 100,
    conditions: str = "",
    *,
    trade_id: object = "",
    correction: object = 0,
    sequence: object = 1,
) -> str:
    quoted = f'"{conditions}"' if "," in conditions else conditions
    return f"{ticker},{quoted},{correction},4,{trade_id},{time_ns},{price},{sequence},{time_ns},{size},1,0,0"


def write_rows(path: Path, columns: str, rows: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", compresslevel=1) as file:
        file.write(columns + "\n")
        file.writelines(f"{row}\n" for row in rows)
    return path


def random_trades(
    seed: int, symbols: int, count: int, start: str = "09:29:00", end: str = "09:34:00"
) -> list[tuple[str, int, str]]:
    """(ticker, time, row) in order of time: walks that rise and fall, conditions, fractions, cancelled ones."""
    chance = random.Random(seed)
    first, last = ns_at(start), ns_at(end)
    times = sorted(chance.randrange(first, last) for _ in range(count))
    prices = [chance.uniform(2, 200) for _ in range(symbols)]
    drifts = [chance.uniform(-0.002, 0.002) for _ in range(symbols)]
    trades = []
    for number, time in enumerate(times):
        each = min(int(chance.paretovariate(0.7)) - 1, symbols - 1)
        prices[each] *= 1 + drifts[each] + chance.gauss(0, 0.003)
        ticker = f"S{each:03d}"
        row = trade_row(
            ticker,
            time,
            round(prices[each], 4),
            chance.choice((1, 50, 100, 100, 300, 0.25, 5000)),
            chance.choice(("", "", "", "12,37", "14", "10", "41", "52", "999")),
            trade_id=number,
            correction=chance.choice((0,) * 30 + (1, 8, 10)),
            sequence=number + 1,
        )
        trades.append((ticker, time, row))
    return trades


def vendor_file(path: Path, trades: Iterable[tuple[str, int, str]]) -> Path:
    """As the vendor writes them: by ticker, then by time."""
    return write_rows(path, TRADE_COLUMNS, [row for _, _, row in sorted(trades, key=lambda trade: trade[:2])])
