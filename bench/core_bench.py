"""The compiled core beside numpy and the naive twin: same frames, same machine, same run, same result."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench.numpy_peer import NumpyMarket
from bench.report import Figures, Report
from bench.workload import EPOCH, SECOND, Trades, Workload
from fastcore.market import Market
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import load_lists


class Size(NamedTuple):
    symbols: int
    batches: int
    rows: int
    twin_batches: int
    rounds: int
    refreshes: int
    rows_between: int


FULL = Size(symbols=12_000, batches=200, rows=5_000, twin_batches=8, rounds=3, refreshes=200, rows_between=1_000)
SMALL = Size(symbols=1_000, batches=20, rows=1_000, twin_batches=2, rounds=1, refreshes=20, rows_between=200)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of this process's own time: all contestants work in one thread, and what else runs counts little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def apply_all(apply: Callable[[Any], object], items: Sequence[Any]) -> None:
    for item in items:
        apply(item)


def numpy_market(workload: Workload) -> NumpyMarket:
    curve = np.linspace(1 / 192, 1, 192) ** 1.2 * 0.4
    baseline = workload.avg_volume[:, None] * curve
    order = np.argsort(np.argsort(np.array(workload.symbols)))
    return NumpyMarket(workload.prev_close, workload.avg_volume, baseline, baseline / 120, baseline / 600, order)


def check_equal(market: Market, peer: NumpyMarket, what: str) -> None:
    """Both came to the same columns, or the figures mean nothing."""
    for name, column in {"price": peer.price, "volume_today": peer.volume, "trades_today": peer.count}.items():
        ours = np.asarray(market.state.column(name))
        # A symbol that has not traded is absent here and 0 there.
        traded = peer.count > 0
        if not np.array_equal(ours[traded], column[traded], equal_nan=True):
            raise AssertionError(f"{what}: column {name} differs from numpy's")


def apply_figures(size: Size) -> Figures:
    """Trades per second applied, frame parsing included, by each contestant; medians of interleaved rounds."""
    workload = Workload(size.symbols)
    startup = list(workload.startup_frames())
    batches: list[Trades] = list(workload.trades(size.batches, size.rows))
    frames = [workload.frame(trades=batch.message()) for batch in batches]
    mark = workload.watermark(int(max(batch.time_ns.max() for batch in batches)))
    ours, peers = [], []
    for _ in range(size.rounds):
        market = Market(load_lists(), EPOCH)
        peer = numpy_market(workload)
        for frame in startup:
            market.apply(frame)
        # Tenths in turn, so that a slow moment of the machine hits both.
        step = size.batches // 10
        spent = [0.0, 0.0]
        for first in range(0, size.batches, step):
            part = slice(first, first + step)
            spent[0] += timed(partial(apply_all, market.apply, frames[part]))
            spent[1] += timed(partial(apply_all, peer.apply, batches[part]))
        market.apply(mark)
        check_equal(market, peer, "apply")
        ours.append(size.batches * size.rows / spent[0])
        peers.append(size.batches * size.rows / spent[1])
    twin = MarketTwin()
    for frame in startup:
        twin.apply(frame)
    twin_seconds = timed(partial(apply_all, twin.apply, frames[: size.twin_batches]))
    return {
        "core_apply_per_s": {
            "value": round(statistics.median(ours)),
            "unit": f"trades/s of processor time, on one core, {size.symbols:,} symbols, batches of {size.rows:,}",
            "peers": {
                "numpy": round(statistics.median(peers)),
                "naive twin": round(size.twin_batches * size.rows / twin_seconds),
            },
        }
    }


def refresh_figures(size: Size) -> Figures:
    """Milliseconds from a watermark to all lists ranked and compared, 1,000 new trades between two."""
    workload = Workload(size.symbols)
    market = Market(load_lists(), EPOCH)
    peer = numpy_market(workload)
    for frame in workload.startup_frames():
        market.apply(frame)
    for batch in workload.trades(100, size.rows * 2):
        market.apply(workload.frame(trades=batch.message()))
        peer.apply(batch)
    start = workload.start_ns
    workload.start_ns += 100 * size.rows * 2 * 20_000
    batches = list(workload.trades(size.refreshes, size.rows_between))
    now = np.maximum.accumulate([int(batch.time_ns.max()) for batch in batches])
    steps = [
        (workload.frame(trades=b.message()), workload.watermark(int(t))) for b, t in zip(batches, now, strict=True)
    ]
    ours: list[float] = []
    peers: list[float] = []
    updates = 0
    # Tenths in turn: neither finds its memory driven out of the caches by the other each time.
    for first in range(0, size.refreshes, size.refreshes // 10):
        part = slice(first, first + size.refreshes // 10)
        for trades, mark in steps[part]:
            market.apply(trades)
            begin = time.perf_counter()
            updates += len(market.apply(mark))
            ours.append(time.perf_counter() - begin)
        for batch in batches[part]:
            peer.apply(batch)
            begin = time.perf_counter()
            peer.refresh()
            peers.append(time.perf_counter() - begin)
    # Within a second rows that did not change stay as they are: at the next one all are as of now, as the peer's.
    peer.now = (int(now[-1]) // SECOND + 1) * SECOND
    market.apply(workload.watermark(peer.now))
    lists = peer.refresh()
    workload.start_ns = start
    check_equal(market, peer, "refresh")
    check_lists(market, lists, workload)
    if not updates:
        raise AssertionError("no list ever changed: the benchmark measures nothing")
    return {
        "lists_refresh_ms": {
            "value": round(statistics.median(ours) * 1e3, 4),
            "unit": "ms, all built-in lists ranked, compared and their changes encoded, "
            f"{size.rows_between:,} trades between",
            "peers": {"numpy": round(statistics.median(peers) * 1e3, 4)},
            "p99": round(float(np.percentile(ours, 99)) * 1e3, 4),
        }
    }


def check_lists(market: Market, lists: dict[str, np.ndarray], workload: Workload) -> None:
    from tradeul.v1 import scanner_pb2

    for name, ids in lists.items():
        ours = [row.symbol for row in scanner_pb2.RankedList.FromString(market.snapshot(name)).rows]
        theirs = [workload.symbols[i] for i in ids]
        if ours != theirs:
            raise AssertionError(f"list {name}: {ours[:5]} ... differs from numpy's {theirs[:5]} ...")


def measure(report: Report, size: Size) -> None:
    report.step(f"trades of {size.symbols:,} symbols, by the core, numpy and the naive twin")
    report.add(apply_figures(size))
    report.step(f"{size.refreshes} watermarks, by the core and numpy")
    report.add(refresh_figures(size))
