"""Flat files to slots and baselines beside plain Python: early closes, clock changes, gaps, listings."""

import datetime
import gzip
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from services.historical.flat_bars import BrokenFile, read_days, read_minutes
from services.historical.slots import SymbolSlots
from services.kit.vendor.models import Split
from services.market.calendar import TradingDay
from services.market.slot_days import baselines
from services.market.splits import SplitTable
from tests.support.flat_history import (
    SLOTS,
    Minute,
    cells,
    path_of,
    random_day,
    seconds,
    text,
    twin_baselines,
    twin_day,
    write,
)

date = datetime.date
# A week around the end of summer time, and an early close.
DAYS = [date(2025, 10, 30), date(2025, 10, 31), date(2025, 11, 3), date(2025, 11, 4), date(2025, 11, 5)]
EARLY = date(2025, 11, 28)
SYMBOLS = ["A", "AAPL", "BACpL", "BRK.A", "BCATrw", "NEW", "OLD", "RARE"]


def unpacked(row: SymbolSlots) -> dict[int, tuple[float, int]]:
    slots = np.frombuffer(row.slots, np.uint8).tolist()
    return dict(
        zip(slots, zip(np.frombuffer(row.volume, "<f8"), np.frombuffer(row.trades, "<u4"), strict=True), strict=True)
    )


def cumulative(row: SymbolSlots) -> tuple[list[float], list[int]]:
    held = unpacked(row)
    volume = np.cumsum([held.get(slot, (0.0, 0))[0] for slot in range(SLOTS)])
    trades = np.cumsum([int(held.get(slot, (0.0, 0))[1]) for slot in range(SLOTS)])
    return volume.tolist(), trades.tolist()


def symbols_of(day: date) -> list[str]:
    """NEW lists on the third day, OLD is gone from the fourth on, RARE trades twice."""
    listed = {"NEW": day >= DAYS[2], "OLD": day < DAYS[3], "RARE": day in DAYS[:2]}
    return [symbol for symbol in SYMBOLS if listed.get(symbol, True)]


@pytest.mark.parametrize("seed", range(4))
def test_days_and_baselines_are_the_twins(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    splits = SplitTable(
        [Split("AAPL", "2025-11-04", 1, 4), Split("BRK.A", "2025-11-06", 10, 1), Split("A", "2025-11-07", 1, 2)],
        date(2025, 11, 6),
        Counter(),
    )
    rows, twins = [], {}
    for day in DAYS:
        bars = random_day(rng, day, symbols_of(day), 20)
        shuffled = rng.random() < 0.5
        if shuffled:
            rng.shuffle(bars)
        file = write(tmp_path, day, text(cells(bar) for bar in bars))
        slots, result = read_minutes(file, "file", TradingDay.by_rule(day))
        assert (result.rows, result.set_aside) == (len(bars), 0)
        twins[day] = twin_day(bars, day)
        assert {row.symbol: cumulative(row) for row in slots} == {
            symbol: (each.volume, each.trades) for symbol, each in twins[day].items()
        }
        rows += [(day, row) for row in slots]
    symbols = sorted({row.symbol for _, row in rows})
    found = baselines(
        np.array([symbols.index(row.symbol) * len(DAYS) + DAYS.index(day) for day, row in rows]),
        np.array([splits.factor(row.symbol, day) for day, row in rows]),
        [row.slots for _, row in rows],
        [row.volume for _, row in rows],
        [row.trades for _, row in rows],
        len(symbols),
        len(DAYS),
    )
    expected = twin_baselines(twins, splits.factor)
    assert {symbol for symbol, each in zip(symbols, found, strict=True) if each is not None} == set(expected)
    assert "RARE" not in expected and {"NEW", "OLD"} <= set(expected)
    for symbol, each in zip(symbols, found, strict=True):
        if each is not None:
            days, volume, trades, sd = expected[symbol]
            assert each.days == days
            np.testing.assert_allclose(each.avg_volume, volume, rtol=1e-12)
            np.testing.assert_allclose(each.avg_trades, trades, rtol=1e-12)
            np.testing.assert_allclose(each.sd_trades, sd, rtol=1e-9, atol=1e-9)


def test_an_early_close_ends_at_five(tmp_path: Path) -> None:
    day = TradingDay.by_rule(EARLY, datetime.time(13))
    bars = [Minute("A", seconds(EARLY, 4), 100, 1), Minute("A", seconds(EARLY, 16, 59), 50, 1)]
    late = Minute("A", seconds(EARLY, 17), 999, 1)
    file = write(tmp_path, EARLY, text(cells(bar) for bar in [*bars, late]))
    slots, result = read_minutes(file, "file", day)
    assert unpacked(slots[0]) == {0: (100.0, 1), 155: (50.0, 1)}
    assert [(each.line, each.reason.split(":")[0]) for each in result.problems] == [(4, "time outside of the day")]


def test_bad_rows_are_told_by_line_and_the_rest_counts(tmp_path: Path) -> None:
    day = date(2025, 11, 3)
    good = [Minute("A", seconds(day, 10, at), 100, 2) for at in range(10)]
    lines = text(cells(bar) for bar in good).decode().splitlines()
    bad = {
        3: "A,x" + lines[2][5:],
        5: "A,100.0,10.0",
        6: lines[5].replace("A,", "123,"),
        7: lines[6].replace("A,100", "A,-1"),
        8: lines[7].replace("10.1,9.9", "9.0,9.9"),
        9: lines[8] + ",more",
        10: "A,100,nan,nan,nan,nan,1,1",
    }
    for line, content in bad.items():
        lines[line - 1] = content
    # Blank lines are none, and count all the same.
    lines.insert(10, "")
    _, result = read_minutes(write(tmp_path, day, "\n".join(lines).encode()), "here", TradingDay.by_rule(day))
    assert [problem.line for problem in result.problems] == sorted(bad)
    assert {problem.place for problem in result.problems} == {"here"}
    assert (result.rows, result.set_aside) == (len(good) - len(bad), len(bad))


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    day = date(2025, 11, 3)
    bar = dict(zip(("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"),
                   cells(Minute("A", seconds(day, 10), 100.5, 2)), strict=True))  # fmt: skip
    names = ["window_start", "further", "transactions", "low", "high", "close", "open", "volume", "ticker"]
    file = write(tmp_path, day, text([[bar.get(name, "x,y") for name in names]], names))
    slots, result = read_minutes(file, "file", TradingDay.by_rule(day))
    assert result.rows == 1 and unpacked(slots[0]) == {72: (100.5, 2)}


@pytest.mark.parametrize("harm", ["cut", "checksum", "header", "empty", "not gzip"])
def test_a_broken_file_is_set_aside_as_a_whole(tmp_path: Path, harm: str) -> None:
    day = date(2025, 11, 3)
    rng = random.Random(1)
    content = text(cells(bar) for bar in random_day(rng, day, [f"S{at}" for at in range(200)], 20))
    file = write(tmp_path, day, content)
    packed = bytearray(file.read_bytes())
    line = 0
    match harm:
        case "cut":
            packed = packed[: len(packed) // 2]
        case "checksum":
            packed[-6] ^= 0xFF
        case "header":
            packed, line = bytearray(gzip.compress(content.replace(b"window_start", b"start", 1))), 1
        case "empty":
            packed, line = bytearray(gzip.compress(b"")), 1
        case "not gzip":
            packed, line = bytearray(b"<html>"), 1
    file.write_bytes(packed)
    with pytest.raises(BrokenFile) as broken:
        read_minutes(file, "file", TradingDay.by_rule(day))
    assert broken.value.line == line if line else broken.value.line > 0


def test_a_market_that_ends_at_noon_is_half_a_file(tmp_path: Path) -> None:
    day = date(2025, 11, 3)
    bars = [Minute(f"S{at:04}", seconds(day, 4 + at % 8), 100, 1) for at in range(1500)]
    with pytest.raises(BrokenFile, match="up to the close"):
        read_minutes(write(tmp_path, day, text(map(cells, bars))), "file", TradingDay.by_rule(day))
    bars.append(Minute("S0000", seconds(day, 15, 58), 100, 1))
    assert len(read_minutes(write(tmp_path, day, text(map(cells, bars))), "file", TradingDay.by_rule(day))[0]) == 1500


def test_daily_bars(tmp_path: Path) -> None:
    day = date(2025, 11, 3)
    rows = [cells(Minute("A", seconds(day, 0), 100, 5)), cells(Minute("B", seconds(day, 0), 1, 1), -1.0)]
    rows.append(cells(Minute("A", seconds(day, 0), 300, 6)))
    bars, result = read_days(write(tmp_path, day, text(rows)), "file", day)
    assert [(bar.symbol, bar.volume, bar.trades) for bar in bars] == [("A", 300.0, 6)]
    assert result.set_aside == 1 and result.problems[0].line == 3
    assert path_of(tmp_path, day).exists()
