"""What the compiled core costs as the market, the trades between two refreshes, and the custom scans grow.

As a process of its own it measures one size, so that its memory is that market's: `python -m bench.scale_core '{...}'`.
"""

import json
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

SYMBOLS: Final = (3_000, 6_000, 12_000, 24_000, 48_000)
TRADES: Final = (10, 100, 1_000, 10_000, 50_000)
SCANS: Final = (0, 50, 200, 800)
# Filters and orders as clients write them, each with numbers of its own: equal scans are one list.
SCAN_TEXTS: Final = (
    ("price < {a} AND volume_today > {c}", "volume_today desc"),
    ("rvol >= {b}", "rvol desc"),
    ("gap_percent > {b} AND volume_today > {c}", "gap_percent desc"),
    ("price >= {b} AND price <= {a} AND trades_today > 10", "change_percent desc"),
)
SCAN_LIMIT: Final = 50
BATCH_ROWS: Final = 5_000


class Size(NamedTuple):
    """One measurement."""

    symbols: int = 12_000
    rows_between: int = 1_000
    scans: int = 0
    refreshes: int = 200
    batches: int = 100


class Cost(NamedTuple):
    apply_per_s: int
    refresh_ms: float
    refresh_p99_ms: float
    memory_mb: float


def measured(size: Size) -> Cost:
    """Measures one size in a process of its own."""
    command = (sys.executable, "-m", "bench.scale_core", json.dumps(size._asdict()))
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return Cost(**json.loads(output))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def scan_texts(count: int) -> list[tuple[str, str]]:
    """So many different filters with their orders."""
    rng, texts = np.random.default_rng(3), []
    for index in range(count):
        text, order = SCAN_TEXTS[index % len(SCAN_TEXTS)]
        numbers = {"a": 10 + index / 10, "b": round(float(rng.uniform(0.5, 4)), 2), "c": 1_000 + index * 1_000}
        texts.append((text.format(**numbers), order))
    return texts


def measure(size: Size) -> Cost:
    """The processor's time of applying trades and of a refresh with all lists and scans, and the market's memory."""
    import time

    from bench.core_bench import apply_all, timed
    from bench.workload import EPOCH, Workload
    from fastcore.filters import compile_filter, compile_order
    from fastcore.market import Market
    from services.kit.lists.definitions import load_lists

    workload = Workload(size.symbols)
    startup = list(workload.startup_frames())
    # One frame at a time: what frames take would hide what the market does.
    before, seconds = resident_bytes(), 0.0
    market = Market(load_lists(), EPOCH)
    apply_all(market.apply, startup)
    for batch in workload.trades(size.batches, BATCH_ROWS):
        frame = workload.frame(trades=batch.message())
        seconds += timed(partial(market.apply, frame))
    memory_bytes = resident_bytes() - before
    workload.start_ns += size.batches * BATCH_ROWS * 20_000
    batches = list(workload.trades(size.refreshes, size.rows_between))
    now = np.maximum.accumulate([int(batch.time_ns.max()) for batch in batches])
    steps = [
        (workload.frame(trades=each.message()), workload.watermark(int(at)))
        for each, at in zip(batches, now, strict=True)
    ]
    for text, order in scan_texts(size.scans):
        market.add_scan(compile_filter(text), compile_order(order), SCAN_LIMIT)
    took, changed = [], 0
    for trades, mark in steps:
        market.apply(trades)
        begin = time.process_time()
        changed += len(market.apply(mark))
        took.append(time.process_time() - begin)
    if not changed:
        raise AssertionError("no list ever changed: nothing was measured")
    # The first ones fill the lists.
    ms = np.array(took[size.refreshes // 10 :]) * 1e3
    return Cost(
        round(size.batches * BATCH_ROWS / seconds),
        round(float(np.median(ms)), 3),
        round(float(np.percentile(ms, 99)), 3),
        round(memory_bytes / 1e6, 1),
    )


def main() -> None:
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(measure(Size(**arguments))._asdict()) + "\n")


if __name__ == "__main__":
    main()
