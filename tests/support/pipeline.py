"""The vendor's JSON through polygon_ws's batches and the sequencer, without a network, over any trading days."""

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fastcore.market import Market
from fastcore.trade_rules import fallback_rules
from fastcore.wire import only_field
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.lists.definitions import load_lists
from services.market.calendar import Calendar, TradingDay
from services.polygon_ws.core import FeedBuffer
from tests.support.scripted_day import ms_at

EPOCH = 1_790_000_000
MS = 1_000_000
SESSION_ENDS = ("04:00:00", "09:30:00", "16:00:00", "20:00:00")


def trading_day(date: datetime.date) -> TradingDay:
    """A day of usual hours."""
    start, opening, close, end = (ms_at(clock, date) * MS for clock in SESSION_ENDS)
    return TradingDay(date, start, opening, close, end, is_early_close=False)


class Pipeline:
    """polygon_ws's buffer, and the sequencer in feed mode that takes its batches, on the first of `days`.

    A date stands for a day of usual hours.
    """

    def __init__(self, days: Iterable[TradingDay | datetime.date], **options: Any) -> None:
        calendar = Calendar(day if isinstance(day, TradingDay) else trading_day(day) for day in days)
        self.market = Market(load_lists(), EPOCH)
        self.sequencer = Sequencer(EPOCH, self.market, **options)
        self.buffer = FeedBuffer(EPOCH)
        self.feed = FeedInput(self.sequencer, "feed")
        self.feed.days.begin(calendar, calendar.days[0])
        self.feed.set_trade_rules(fallback_rules())
        self._taken = 0

    @property
    def date(self) -> datetime.date:
        return self.sequencer.day.date

    @property
    def rejected(self) -> dict[str, int]:
        """What was set aside, by polygon_ws and by the sequencer."""
        counts = self.feed.rejected
        counts.update(self.buffer.decoder.rejected)
        return {reason: count for reason, count in counts.items() if count}

    def send(self, *events: Mapping[str, Any]) -> None:
        """One message of the vendor's, and all of it sequenced."""
        self.buffer.decode(json.dumps(events).encode())
        self.pump()

    def pump(self) -> None:
        """What has come is a batch; all batches are sequenced."""
        self.buffer.flush()
        while self._taken < self.buffer.ring.newest:
            self._taken += 1
            self.feed.sequence(only_field(self.buffer.ring.get(self._taken))[1], 0)

    def row(self, symbol: str) -> dict[str, Any]:
        """As of a watermark behind everything; empty for an unknown symbol."""
        self.sequencer.add_watermark(0)
        state = self.market.state
        return state.row(symbol) if state.symbol_id(symbol) >= 0 else {}


def trade(symbol: str, clock: str, date: datetime.date, price: float, size: float = 100, **more: Any) -> dict[str, Any]:
    """A trade of the vendor's before the open; `more` are further keys, or others."""
    return {"ev": "T", "sym": symbol, "x": 4, "i": f"{symbol}{clock}", "z": 3, "p": price, "s": size, "c": [12],
            "t": ms_at(clock, date), "q": 1, **more}  # fmt: skip
