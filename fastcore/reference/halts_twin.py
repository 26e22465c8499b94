"""A symbol's halts in the plainest way: every report is kept, and the state computed from all of them each time."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

SAME_HALT: Final = 2_000_000_000
TRADE_AFTER: Final = 1_000_000_000


class Listed(NamedTuple):
    """An item of the trade-halt feed as last listed; no resumption is None, no reason the empty text."""

    halted_at: int
    resumes_at: int | None
    reason: str


@dataclass
class HaltState:
    """The state of a halt after the words up to a time."""

    halted: bool | None = None
    reason: str | None = None
    halted_at: int | None = None
    resumes_at: int | None = None
    count: int = 0


@dataclass
class HaltsTwin:
    """Times in ns; `start` is 04:00. Each method is a message; state_at(now) is the row's at any later time."""

    start: int
    # (time, order of arrival, whether trading stops, what it comes from)
    limits: list[tuple[int, int, bool]] = field(default_factory=list)
    listed: dict[int, tuple[int, Listed]] = field(default_factory=dict)
    resumptions: dict[int, tuple[int, int]] = field(default_factory=dict)
    trades_after: list[tuple[int, int]] = field(default_factory=list)
    newest_trade: int = -1
    most: int = 0
    order: int = 0

    def limit(self, time: int, is_halt: bool, now: int) -> None:
        self.state_at(now)
        self.limits.append((time, self._next(), is_halt))
        self._traded(self.newest_trade, now)

    def list_item(self, item: Listed, now: int) -> None:
        self.state_at(now)
        order = self.listed[item.halted_at][0] if item.halted_at in self.listed else self._next()
        self.listed[item.halted_at] = (order, item)
        if item.resumes_at is None:
            self.resumptions.pop(item.halted_at, None)
        elif self.resumptions.get(item.halted_at, (0, None))[1] != item.resumes_at:
            self.resumptions[item.halted_at] = (self._next(), item.resumes_at)
        self._traded(self.newest_trade, now)

    def trade(self, time: int, now: int) -> None:
        """One that may set the price."""
        self.newest_trade = max(self.newest_trade, time)
        self._traded(time, now)

    def state_at(self, now: int) -> HaltState | None:
        """Returns the state at `now`; None while nothing has been reported."""
        if not self.limits and not self.listed:
            return None
        state = self._fold(now)
        state.count = self.most = max(self.most, state.count)
        return state

    def is_due(self, before: int, now: int) -> bool:
        """True if a word takes effect after `before`, up to now."""
        times = [*self.listed, *(time for _, time in self.resumptions.values())]
        return any(before < time <= now for time in times)

    def _next(self) -> int:
        self.order += 1
        return self.order

    def _traded(self, time: int, now: int) -> None:
        state = self._fold(time)
        if state.halted and state.halted_at is not None and time > state.halted_at + TRADE_AFTER:
            if all(time != other for other, _ in self.trades_after):
                self.trades_after.append((time, self._next()))
        self.most = max(self.most, self._fold(now).count)

    def _fold(self, now: int) -> HaltState:
        state = HaltState()
        # (time, order, whether it stops, reason of an item, whether it announces when trading goes on)
        words: list[tuple[int, int, bool, str | None, bool]] = [
            *((time, order, is_halt, None, True) for time, order, is_halt in self.limits),
            *((item.halted_at, order, True, item.reason, False) for order, item in self.listed.values()),
            *((time, order, False, None, True) for order, time in self.resumptions.values()),
            *((time, order, False, None, False) for time, order in self.trades_after),
        ]
        for time, _, stops, reason, announces in sorted(words, key=lambda word: word[:2]):
            if time > now:
                break
            if stops and not state.halted:
                if state.halted_at is None or time > state.halted_at + SAME_HALT:
                    state.halted_at, state.reason = time, None
                    state.count += time >= self.start
                state.halted, state.resumes_at = True, None
            if stops and reason is not None:
                state.reason = reason or None
            if not stops:
                if announces and state.halted_at is not None and state.resumes_at is None:
                    state.resumes_at = time
                state.halted = False
        if state.halted_at is not None and state.resumes_at is None:
            announced = [
                time for begun, (_, time) in self.resumptions.items() if time > now and state.halted_at <= begun <= now
            ]
            state.resumes_at = min(announced, default=None)
        return state
