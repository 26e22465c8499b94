"""A dry run of minute bars beside the slow twin, which gets the same frames and looks at everything."""

import math
import random
from pathlib import Path

import pytest
from tradeul.v1 import alerts_pb2, frame_pb2

from fastcore.alert_rules import AlertRule
from fastcore.reference.alerts_twin import AlertsTwin, TwinAlert
from fastcore.reference.lists_twin import ListsTwin
from fastcore.reference.market_twin import MarketTwin
from services.dry_run.core import EPOCH, RuleRun
from services.market.calendar import Calendar
from services.replay.prepare import prepare
from tests.support.alert_frames import RULES
from tests.support.dry_runs import LISTS, calendar_of_day, loaded_market
from tests.support.flat_trades import BAR_COLUMNS, ns_at, write_rows

BY_NAME = {rule.name: rule for rule in RULES}
NAMES = ("above", "steps", "held_time", "rearmed")


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    return calendar_of_day()


def bars_file(folder: Path) -> Path:
    chance = random.Random(17)
    rows = []
    for number in range(8):
        price = chance.uniform(3, 60)
        for minute in range(36):
            if chance.random() < 0.3:
                continue
            low, high = price * (1 - chance.random() / 60), price * (1 + chance.random() / 60)
            close = chance.uniform(low, high)
            prices = ",".join(f"{each:.4f}" for each in (price, close, high, low))
            start = ns_at("09:15:00") + minute * 60 * 10**9
            rows.append(f"S{number:03d},{chance.randrange(500, 90_000)},{prices},{start},10")
            price = close * (1 + chance.gauss(0.002, 0.01))
    return write_rows(folder / "2025-11-24.csv.gz", BAR_COLUMNS, rows)


async def run(rule: AlertRule, file: Path, calendar: Calendar) -> tuple[list[alerts_pb2.Alert], list[TwinAlert]]:
    """The alerts of the dry run, and the twin's."""
    twin = AlertsTwin(ListsTwin(LISTS, MarketTwin()))
    expected: list[TwinAlert] = []
    sequence = 0

    def follow(body: str, content: bytes) -> None:
        nonlocal sequence
        sequence += 1
        frame = frame_pb2.Frame()
        frame.position.epoch, frame.position.sequence = EPOCH, sequence
        getattr(frame, body).MergeFromString(content)
        expected.extend(twin.apply(frame.SerializeToString()))

    events = prepare(file, file.parent / "days")
    market = await loaded_market(rule, events, calendar, follow)
    found: list[bytes] = []
    for _ in market.play(events, RuleRun(rule, found.append, 10**6, frozenset())):
        pass
    return [alerts_pb2.Alert.FromString(each) for each in found], expected


def near(value: float, expected: float | None) -> bool:
    """Sums in another order differ in their last bits; absent is 0 in a message."""
    return math.isclose(value, expected or 0.0, rel_tol=1e-9)


@pytest.mark.parametrize("name", NAMES)
async def test_minute_bars_have_the_twins_alerts(name: str, tmp_path: Path, calendar: Calendar) -> None:
    found, expected = await run(BY_NAME[name], bars_file(tmp_path), calendar)
    assert expected
    assert [(each.symbol, each.time.ToNanoseconds()) for each in found] == [
        (each.symbol, each.time_ns) for each in expected
    ]
    for alert, twin in zip(found, expected, strict=True):
        assert near(alert.level, twin.level) and near(alert.quality, twin.quality)
        assert near(alert.quality_rank, twin.quality_rank)
