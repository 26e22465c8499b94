"""A day of a dry run: from where its events are to the alerts that the rule would have had."""

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from tradeul.v1 import dry_run_pb2

from fastcore.alert_rules import AlertRule
from fastcore.market_state import MarketState
from services.data_ingest.startup import has_reference
from services.dry_run.core import DayMarket, RuleRun
from services.dry_run.days import PastDays
from services.dry_run.recording import RecordedMarket
from services.dry_run.sources import RECORDING, STORED_MINUTE_BARS, TRADES, DayFound, file_of_day
from services.kit.rpc.wire import timestamp
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.market import recorded_market
from services.market.calendar import Calendar, TradingDay
from services.market.flat_files import market_file_beside
from services.replay.day_file import DayFile
from services.replay.prepare import prepare, prepared
from services.replay.service import cache_of, dump


class Progress(NamedTuple):
    """How far a day is; `reached_ns` is 0 before its first event."""

    date: datetime.date
    step: str
    percent: float = 0.0
    alerts: int = 0
    reached_ns: int = 0

    def message(self) -> dry_run_pb2.DryRunProgress:
        message = dry_run_pb2.DryRunProgress(
            date=str(self.date), step=self.step, percent=round(self.percent, 1), alerts=self.alerts
        )
        if self.reached_ns:
            message.reached.CopyFrom(timestamp(self.reached_ns))
        return message


class DayOutput(Protocol):
    """Takes a day's alerts, encoded, and its progress as often as it changes."""

    def alert(self, encoded: bytes) -> None: ...
    def progress(self, progress: Progress) -> None: ...


class DayRun:
    """`result` is what there is to say of the day, whole once `finished()`."""

    def __init__(
        self,
        rule: AlertRule,
        date: datetime.date,
        folder: Path,
        limit: int,
        symbols: frozenset[str],
        output: DayOutput,
    ) -> None:
        self.result = dry_run_pb2.DryRunDay(date=str(date))
        self._rule = rule
        self._date = date
        self._folder = folder
        self._output = output
        self._limit = limit
        self._found = RuleRun(rule, output.alert, limit, symbols)
        self._reached_ns = 0

    async def run(self, days: PastDays) -> None:
        """Runs the day; raises StartError when there is nothing of it, or it cannot be read, and asyncpg's errors."""
        self._show("reading")
        calendar = await days.calendar()
        if (day := calendar.get(self._date)) is None:
            raise StartError(f"{self._date} is not a trading day")
        found = file_of_day(self._folder, self._date)
        if found is not None and found.source == RECORDING:
            self._play_recording(found, days)
            return
        try:
            await self._play_events(found, days, calendar, day)
        finally:
            shutil.rmtree(days.scratch / str(self._date), ignore_errors=True)

    def finished(self) -> dry_run_pb2.DryRunDay:
        """The result with its counts."""
        result, found = self.result, self._found
        result.alerts = found.count
        if self._reached_ns:
            result.until.CopyFrom(timestamp(self._reached_ns))
        result.returned = min(found.count, self._limit)
        most_first = sorted(found.by_symbol.items(), key=lambda each: (-each[1], each[0]))
        result.symbols.extend(dry_run_pb2.DryRunSymbol(symbol=symbol, alerts=count) for symbol, count in most_first)
        return result

    async def _play_events(self, found: DayFound | None, days: PastDays, calendar: Calendar, day: TradingDay) -> None:
        events = await self._events(found, days)
        if not events.manifest.rows:
            raise StartError(f"{events.manifest.source}: expected events of {self._date}, had none")
        recorded = self._recorded_market(found, day)
        self._show("reference data")
        market = DayMarket(self._rule, days.lists, calendar, day, recorded)
        market.begin()
        await days.set_rules(market)
        market.install(is_empty=recorded is None)
        if recorded is None or not has_reference(recorded, day):
            self.result.lacks.extend(await days.load_reference(market, calendar))
        self.result.events = events.manifest.rows
        first, last = int(events.arrival_ns[0]), int(events.arrival_ns[-1])
        self._follow(market.play(events, self._found), first, max(last - first, 1))

    async def _events(self, found: DayFound | None, days: PastDays) -> DayFile:
        """The day's events in order; raises StartError."""
        scratch = days.scratch / str(self._date)
        scratch.mkdir(parents=True, exist_ok=True)
        if found is not None:
            self.result.source, self.result.file = found.source, str(found.path)
            path = found.path
        else:
            self.result.source = STORED_MINUTE_BARS
            path = scratch / f"{self._date}.csv"
            if not await dump(days.settings.database_url, self._date, path):
                self.result.source = dry_run_pb2.DryRunDay.SOURCE_UNSPECIFIED
                raise StartError(
                    f"there are no data of {self._date}: no recording and no file of trades or minute bars below"
                    f" {self._folder}, and no stored minute bars"
                )
        # A replay may have it in order already.
        events = prepared(path, cache_of(days.settings)) or prepare(path, scratch / "days", self._show)
        if events.manifest.date != self._date:
            raise StartError(f"{path}: expected a file of {self._date}, was of {events.manifest.date}")
        return events

    def _recorded_market(self, found: DayFound | None, day: TradingDay) -> MarketState | None:
        """The market that recorded trades come after; None without one, or without a usable one."""
        if found is None or found.source != TRADES or not (path := market_file_beside(found.path)).is_file():
            return None
        try:
            return recorded_market.read(path, day.date)[1]
        except StartError as error:
            self.result.lacks.append(reason_of(error))
            return None

    def _play_recording(self, found: DayFound, days: PastDays) -> None:
        self.result.source, self.result.file = found.source, str(found.path)
        market = RecordedMarket(self._rule, days.lists, found.path)
        for share in market.play(self._found):
            self.result.events = market.frames
            self._show("events", 100 * share, market.now_ns)
        self._show("events", 100.0, market.now_ns)
        self.result.lacks.extend(market.lacks)

    def _follow(self, times: Iterator[int], first_ns: int, span_ns: int) -> None:
        for reached_ns in times:
            self._show("events", 100 * (reached_ns - first_ns) / span_ns, reached_ns)

    def _show(self, step: str, percent: float = 0.0, reached_ns: int = 0) -> None:
        self._reached_ns = reached_ns or self._reached_ns
        percent = min(100.0, max(0.0, percent))
        self._output.progress(Progress(self._date, step, percent, self._found.count, reached_ns))
