"""Each shipped alert rule on a story that fires it exactly once, and on one that does not."""

import functools
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from tradeul.v1 import frame_pb2, market_data_pb2

from fastcore.alert_rules import AlertRule, rules_message
from fastcore.alert_text import AlertText
from fastcore.market import Market
from services.kit.alerts.definitions import load_alerts
from services.kit.lists.definitions import load_lists
from tests.support.market_stream import EPOCH
from tests.support.small_market import SmallMarket

STORIES: Final = tomllib.loads((Path(__file__).parents[1] / "support/alert_stories.toml").read_text(encoding="utf-8"))
LISTS: Final = load_lists()
RULES: Final = {rule.name: rule for rule in load_alerts([spec.name for spec in LISTS])}
NUMBERS: Final = {
    "PREV_CLOSE": 10.0,
    "PREV_VOLUME": 1e6,
    "AVG_VOLUME_30D": 1e6,
    "ATR": 1.0,
    "FLOAT_SHARES": 5e6,
    "MARKET_CAP": 1e9,
    "PREV_HIGH": 10.3,
    "PREV_LOW": 9.7,
    "HIGH_5D": 10.5,
    "LOW_5D": 9.5,
    "HIGH_20D": 10.8,
    "LOW_20D": 9.2,
    "HIGH_52W": 11.0,
    "LOW_52W": 9.0,
    "SMA_20D": 9.9,
    "SMA_50D": 9.8,
    "SMA_200D": 9.6,
}
SLOTS: Final = 192


class AlertingMarket:
    """A market that collects (rule, text) of its alerts."""

    def __init__(self) -> None:
        self.market = Market(LISTS, EPOCH)
        self.alerts: list[tuple[str, str]] = []

    @property
    def now_ns(self) -> int:
        return self.market.state.now_ns

    def row(self, symbol: str) -> dict[str, Any]:
        return self.market.state.row(symbol)

    def apply(self, frame: bytes) -> None:
        if not self.market.take(frame):
            return
        self.market.refresh()
        for event in self.market.alert_events:
            row = self.row(self.market.state.symbols[event.symbol_id])
            values = row | {"quality": event.quality, "level": event.level}
            self.alerts.append((event.rule, AlertText(RULES[event.rule].text).of(values)))


@functools.cache
def rules_body() -> frame_pb2.AlertRules:
    return frame_pb2.AlertRules.FromString(rules_message(list(RULES.values())))


def alerts_of(lines: list[str], usual: float, per_slot: float = 0) -> list[tuple[str, str]]:
    alerting = AlertingMarket()
    story = SmallMarket(alerting, symbols=("A", "B", "C", "SPY"))
    numbers = [
        frame_pb2.NumberColumn(field=frame_pb2.ReferenceField.Value(name), values=[value])
        for name, value in NUMBERS.items()
    ]
    story.frame(reference=frame_pb2.ReferenceColumns(symbol_id=[0], numbers=numbers))
    story.frame(
        baselines=frame_pb2.VolumeBaselines(
            symbol_id=[0],
            days=[30],
            avg_volume=[usual + per_slot * slot for slot in range(SLOTS)],
            avg_trades=[1.0] * SLOTS,
            sd_trades=[1.0] * SLOTS,
        )
    )
    story.frame(alert_rules=rules_body())
    look(story, "04:00:00")
    for line in lines:
        clock, *words = line.split()
        tell(story, clock if clock.count(":") == 2 else f"{clock}:00", words)
    assert not alerting.market.ignored_alert_rules
    return alerting.alerts


def look(story: SmallMarket, clock: str) -> None:
    story.frame(watermark=frame_pb2.Watermark(event_time_ns=story.at(clock)))


def tell(story: SmallMarket, clock: str, words: list[str]) -> None:
    time = story.at(clock)
    match words:
        case ["bands", upper, lower]:
            limits = market_data_pb2.LimitBatch(
                symbol_id=[0], time_ns=[time], upper=[float(upper)], lower=[float(lower)], indicators=[0]
            )
            story.frame(limits=limits)
        case ["halt", reason]:
            halts = market_data_pb2.HaltBatch(symbol_id=[0], halted_at_ns=[time], resumes_at_ns=[0], reason=[reason])
            story.frame(halts=halts)
        case ["resume"]:
            limits = market_data_pb2.LimitBatch(
                symbol_id=[0], time_ns=[time], upper=[11.0], lower=[9.0], indicators=[1 << 18]
            )
            story.frame(limits=limits)
        case ["quote", bid, ask, *sizes]:
            story.quote(clock, float(bid), float(ask), *map(float, sizes))
        case ["spy", price, size]:
            story.trade(clock, float(price), float(size), symbol="SPY")
        case [price, size, times]:
            for _ in range(int(times.removeprefix("x"))):
                story.trade(clock, float(price), float(size))
        case [price, size]:
            story.trade(clock, float(price), float(size))
        case _:
            raise ValueError(f"expected a line of a story, was {words}")
    look(story, clock)


def test_every_rule_has_its_stories() -> None:
    assert STORIES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_stories(rule: AlertRule) -> None:
    story = STORIES[rule.name]
    volumes = float(story.get("usual", 20_000)), float(story.get("per_slot", 0))
    fired = [text for name, text in alerts_of(story["fires"], *volumes) if name == rule.name]
    assert len(fired) == 1, fired
    assert "n/a" not in fired[0], "a text shows what is known when the rule fires"
    assert not re.search(r"\b(?:down|fell) -|-[\d.]+ % down\b", fired[0]), "what is down by a negative number is up"
    quiet = [text for name, text in alerts_of(story["quiet"], *volumes) if name == rule.name]
    assert quiet == []
