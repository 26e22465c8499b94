"""The day of every symbol, from the close of the day before to its own: the coarsest grid.

The days follow each other from the calendar's first one, so a date looks the same wherever the
market was started. Prices are kept without splits; `Splits` turns them into the shares of a day.
"""

import datetime
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from services.simulator.calendar import TradingCalendar, TradingDay
from services.simulator.hashing import F4, F8, I8, generator, key
from services.simulator.shapes import ONE_BY_ONE, SIZE_LEVELS, SIZE_ROWS, Shapes
from services.simulator.stories import QUIET, OwnDay, OwnShapes, Stories, Story, own_shapes
from services.simulator.symbols import ADRC, CS, KNOWN, Universe
from services.simulator.tuning import (
    FULL_UNIVERSE,
    HISTORY_DAYS,
    MAX_STORY_TRADES,
    SPLITS_PER_DAY,
    STORY_SHARE,
)

# Prices are drawn back to where they began, a little every day.
REVERSION: Final = 0.01


class Split(NamedTuple):
    """On trading day `number` `old` shares became `new` ones."""

    number: int
    symbol: int
    old: int
    new: int

    @property
    def ratio(self) -> float:
        return self.new / self.old


class DayPlan(NamedTuple):
    """One trading day. Log prices without splits, trades of the day, its stories and those of the next day.

    `key` makes each symbol's random bits of the day. `before` is the day before's `close`.
    """

    day: TradingDay
    key: int
    before: F4
    open: F4
    close: F4
    trades: F4
    stories: Stories
    next_stories: Stories

    def late_gap(self, symbol: int) -> float:
        """Returns the log return by which the next day's news moves it after this day's close; mostly 0."""
        story = self.next_stories.get(symbol)
        return story.gap if story is not None and story.after_hours else 0.0

    def has_own_shape(self, symbol: int) -> bool:
        """True if its day is not from the libraries."""
        if symbol in self.stories.place:
            return True
        return symbol in self.next_stories.place and self.late_gap(symbol) != 0.0

    @property
    def own_shapes(self) -> list[int]:
        """The symbols of which that is true."""
        late = self.next_stories.symbols[self.next_stories.after_hours]
        return sorted({*self.stories.symbols.tolist(), *late.tolist()})


class Plans:
    """The days up to the current one, and all splits; `advance()` adds a day."""

    def __init__(self, seed: int, universe: Universe, shapes: Shapes, calendar: TradingCalendar, last: int) -> None:
        self.seed = seed
        self.universe = universe
        self.calendar = calendar
        self.splits: list[Split] = []
        self._splits_of: dict[int, list[Split]] = {}
        self.shapes = shapes
        self._days: deque[DayPlan] = deque(maxlen=HISTORY_DAYS + 1)
        self._base = np.log(universe.price)
        self._log = self._base.copy()
        self._close = self._log.astype(np.float32)
        self._factor = np.ones(universe.count)
        self._candidates = np.flatnonzero((universe.types == CS) | (universe.types == ADRC))
        # The names that everybody knows keep the prices that everybody expects.
        self._splitting = self._candidates[self._candidates >= len(KNOWN)]
        self._next_stories = self._stories(0)
        self._next = 0
        while self._next <= last:
            if last - self._next < HISTORY_DAYS + 1:
                self.advance()
            else:
                self._plan(is_kept=False)

    @property
    def current(self) -> DayPlan:
        return self._days[-1]

    @property
    def first_index(self) -> int:
        """The oldest trading day that is known."""
        return self._days[0].day.number

    def get(self, index: int) -> DayPlan | None:
        """Returns the plan of a trading day; None when it is too old or in the future."""
        at = index - self._days[0].day.number
        return self._days[at] if 0 <= at < len(self._days) else None

    def between(self, first: int, last: int) -> list[DayPlan]:
        """Returns the plans of the trading days from one to another, as far as they are known."""
        begin = self.first_index
        return list(itertools.islice(self._days, max(first - begin, 0), max(last + 1 - begin, 0)))

    def advance(self) -> DayPlan:
        """Plans the next trading day, which becomes the current one."""
        self._days.append(self._plan(is_kept=True))
        return self.current

    def _plan(self, is_kept: bool) -> DayPlan:
        """The next day; of one that is not kept only what the later ones need is worked out."""
        index = self._next
        day = self.calendar.day(index)
        universe = self.universe
        stories = self._next_stories
        self._next_stories = following = self._stories(index + 1)
        rng = generator(self.seed, 5, index)
        count = universe.count
        normal = rng.standard_normal((3 if is_kept else 2, count), dtype=np.float32).astype(np.float64)
        gap = 0.45 * universe.sigma * normal[0] - REVERSION * (self._log - self._base)
        move = 0.9 * universe.sigma * normal[1]
        at = stories.symbols
        gap[at] = np.where(stories.gaps == 0.0, gap[at], stories.gaps)
        move[at] = stories.days
        trades = np.zeros(0)
        if is_kept:
            trades = universe.trades * np.exp(0.22 * normal[2] - 0.024) * self._factor
            if day.is_early:
                trades *= 0.6
            usual = trades[at]
            wanted = np.maximum(self._trades_for(at, stories.volumes), 5.0 * usual)
            trades[at] = np.maximum(np.minimum(wanted, MAX_STORY_TRADES), 1.5 * usual)
            late = np.setdiff1d(following.symbols[following.after_hours], at)
            wanted = np.maximum(1.4 * trades[late], self._trades_for(late, 400_000.0))
            trades[late] = np.maximum(np.minimum(wanted, MAX_STORY_TRADES), trades[late])
        self._split(index, self._log - np.log(self._factor))
        before, opening = self._close, self._log + gap
        self._log = opening + move
        self._close = self._log.astype(np.float32)
        self._next += 1
        return DayPlan(
            day,
            key(self.seed, 11, index),
            before,
            opening.astype(np.float32),
            self._close,
            trades.astype(np.float32),
            stories,
            following,
        )

    def _trades_for(self, symbols: I8, volume: F8 | float) -> F8:
        """How many trades make a volume; 0 for shares that trade one by one: no news turns over that many of them."""
        row = self.universe.size_row[symbols]
        level = row // SIZE_ROWS
        return np.where(level == SIZE_LEVELS.index(ONE_BY_ONE), 0.0, volume / self.shapes.sizes.mean_size[row])

    def factors(self, index: int) -> F8:
        """Returns the number of shares of a trading day that are one share of the first day."""
        factors = np.ones(self.universe.count)
        for split in self.splits:
            if split.number <= index:
                factors[split.symbol] *= split.ratio
        return factors

    def factor(self, symbol: int, index: int) -> float:
        """`factors` of one symbol."""
        factor = 1.0
        for split in self._splits_of.get(symbol, ()):
            if split.number <= index:
                factor *= split.ratio
        return factor

    def factors_of(self, symbol: int, days: Sequence[DayPlan]) -> F8:
        """`factors` of one symbol on some days."""
        if symbol not in self._splits_of:
            return np.ones(len(days))
        return np.array([self.factor(symbol, plan.day.number) for plan in days])

    def own_shapes(self, is_early: bool, days: Sequence[tuple[DayPlan, int]]) -> OwnShapes:
        """The rows of symbols on days that are not from the libraries; all full days, or all early closes."""
        own = []
        for plan, symbol in days:
            before, opening, close = float(plan.before[symbol]), float(plan.open[symbol]), float(plan.close[symbol])
            story = plan.stories.get(symbol) or Story(symbol, QUIET, 0.0, 0.0, False)
            story = story._replace(gap=opening - before, day=close - opening)
            own.append(OwnDay(plan.day.number, story, float(self.universe.sigma[symbol]), plan.late_gap(symbol)))
        return own_shapes(self.seed, self.shapes.of(is_early), own)

    def split_date(self, split: Split) -> datetime.date:
        return self.calendar.day(split.number).date

    def _stories(self, index: int) -> Stories:
        return Stories(generator(self.seed, 6, index), self._candidates, round(STORY_SHARE * self.universe.count))

    def announced(self) -> list[Split]:
        """The splits of the day after the current one, as `splits` will have them."""
        return self._splits_on(self._next, self._log - np.log(self._factor))

    def _split(self, index: int, raw: F8) -> None:
        for split in self._splits_on(index, raw):
            self.splits.append(split)
            self._splits_of.setdefault(split.symbol, []).append(split)
            self._factor[split.symbol] *= split.ratio

    def _splits_on(self, index: int, raw: F8) -> list[Split]:
        """Splits of a day: of dear shares into more, of cheap ones into fewer; `raw`: log prices the evening before."""
        rng = generator(self.seed, 8, index)
        found: list[Split] = []
        if not len(self._splitting):
            return found
        for _ in range(int(rng.poisson(SPLITS_PER_DAY * self.universe.count / FULL_UNIVERSE))):
            at = int(rng.choice(self._splitting))
            price = float(np.exp(raw[at]))
            if price > 60.0:
                old, new = 1, int(rng.choice((2, 3, 4, 5, 10)))
            elif price < 5.0:
                old, new = int(rng.choice((5, 8, 10, 20, 25))), 1
            else:
                continue
            found.append(Split(index, at, old, new))
        return found
