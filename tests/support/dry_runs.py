"""The alerts of a day as a scanner has them, and as a dry run finds them."""

import asyncio
import datetime
from collections.abc import Sequence
from pathlib import Path

from tradeul.v1 import alerts_pb2

from fastcore.alert_rules import AlertRule
from fastcore.trade_rules import fallback_rules
from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.stream.sequencer import FrameListener
from services.dry_run.core import DayMarket, RuleRun
from services.dry_run.recording import RecordedMarket
from services.kit.lists.definitions import load_lists
from services.kit.lists.scan_filters import default_filters
from services.market.calendar import Calendar, nyse_calendar
from services.replay.day_file import DayFile
from tests.support.flat_trades import DAY
from tests.support.running_replay import RunningReplay, ScriptedReference

LISTS = load_lists()
EVERYTHING = 1_000_000


def live_alerts(running: RunningReplay, rule: str) -> list[bytes]:
    """What the scanner holds of a rule, oldest first, without positions: those count the alerts of all rules."""
    found = []
    for held in running.scanner.alerts.newest_first():
        if held.rule == rule:
            alert = alerts_pb2.Alert.FromString(held.encoded)
            alert.epoch = alert.sequence = 0
            found.append(alert.SerializeToString(deterministic=True))
    return found[::-1]


def canonical(encoded: Sequence[bytes]) -> list[bytes]:
    return [alerts_pb2.Alert.FromString(each).SerializeToString(deterministic=True) for each in encoded]


def recorded_alerts(rule: AlertRule, path: Path) -> tuple[list[bytes], RecordedMarket]:
    found: list[bytes] = []
    market = RecordedMarket(rule, LISTS, path)
    for _ in market.play(RuleRun(rule, found.append, EVERYTHING, frozenset())):
        pass
    return canonical(found), market


async def loaded_market(
    rule: AlertRule, events: DayFile, calendar: Calendar, listener: FrameListener | None = None
) -> DayMarket:
    """The market of the replay's day before its first event, as data_ingest makes it there."""
    market = DayMarket(rule, LISTS, calendar, calendar.on(DAY))
    if listener is not None:
        market.sequencer.listen(listener)
    market.begin()
    market.feed.set_trade_rules(fallback_rules(False))
    market.sequencer.set_list_filters(default_filters())
    market.install(is_empty=True)
    reference = ScriptedReference(1)
    reference.opened.set()
    market.feed.set_symbols(events.manifest.symbols)
    await ReferenceFollower(reference, market.sequencer, lambda: calendar).load_all(market.feed.names)
    return market


async def played_alerts(rule: AlertRule, events: DayFile, calendar: Calendar) -> list[bytes]:
    market = await loaded_market(rule, events, calendar)
    found: list[bytes] = []
    for _ in market.play(events, RuleRun(rule, found.append, EVERYTHING, frozenset())):
        await asyncio.sleep(0)
    return canonical(found)


def calendar_of_day() -> Calendar:
    return nyse_calendar(datetime.date(2025, 11, 24))
