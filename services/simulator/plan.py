"""What every symbol does on a day, from the day before's close to its own: the coarsest grid.

The days follow each other from the calendar's first one, so a date looks the same wherever the
market was started. Prices are kept without splits; `Splits` turns them into the shares of a day.
"""

import datetime
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from services.simulator.calendar import TradingCalendar, TradingDay
from services.simulator.hashing import F4, F8, I8, U8, generator, key, spread
from services.simulator.shapes import Shapes
from services.simulator.stories import QUIET, Story, StoryShape, draw, shape
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
    """On `index` (a trading day) `old` shares became `new` ones."""

    index: int
    symbol: int
    old: int
    new: int

    @property
    def ratio(self) -> float:
        return self.new / self.old


class DayPlan(NamedTuple):
    """One trading day. Log prices without splits, trades of the day, stories by symbol.

    `late` are symbols that the next day's news moves after this day's close, with the log return.
    """

    day: TradingDay
    before: F4
    open: F4
    close: F4
    trades: F4
    stories: dict[int, Story]
    late: dict[int, float]

    @property
    def own_shapes(self) -> list[int]:
        """The symbols that do not take their day from the libraries, in order."""
        return sorted({*self.stories, *self.late})


class Plans:
    """The days up to the current one, and all splits; `advance()` goes on by a day."""

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
        self._factor = np.ones(universe.count)
        self._candidates = np.flatnonzero((universe.types == CS) | (universe.types == ADRC))
        # The names that everybody knows keep the prices that everybody expects.
        self._splitting = self._candidates[self._candidates >= len(KNOWN)]
        self._next_stories = self._stories(0)
        self._next = 0
        while self._next <= last:
            self.advance()

    @property
    def current(self) -> DayPlan:
        return self._days[-1]

    @property
    def first_index(self) -> int:
        """The oldest trading day that is known."""
        return self._days[0].day.index

    def get(self, index: int) -> DayPlan | None:
        """The plan of a trading day; None when it is too old or still to come."""
        at = index - self._days[0].day.index
        return self._days[at] if 0 <= at < len(self._days) else None

    def advance(self) -> DayPlan:
        """Plans the next trading day, which becomes the current one."""
        index = self._next
        day = self.calendar.day(index)
        universe = self.universe
        stories = self._next_stories
        self._next_stories = self._stories(index + 1)
        rng = generator(self.seed, 5, index)
        normal = rng.standard_normal((3, universe.count), dtype=np.float32).astype(np.float64)
        before = self._log
        gap = 0.45 * universe.sigma * normal[0] - REVERSION * (before - self._base)
        move = 0.9 * universe.sigma * normal[1]
        trades = universe.trades * np.exp(0.22 * normal[2] - 0.024) * self._factor
        if day.is_early:
            trades *= 0.6
        mean_size = self.shapes.sizes.mean_size[universe.size_row]
        for story in stories.values():
            at = story.symbol
            gap[at] = story.gap or gap[at]
            move[at] = story.day
            wanted = max(story.volume / mean_size[at], 5.0 * trades[at])
            trades[at] = max(min(wanted, MAX_STORY_TRADES), 1.5 * trades[at])
        late = {story.symbol: story.gap for story in self._next_stories.values() if story.after_hours}
        for at in late:
            if at not in stories:
                trades[at] = min(max(1.4 * trades[at], 400_000.0 / mean_size[at]), MAX_STORY_TRADES)
        self._split(index, before - np.log(self._factor))
        opening = before + gap
        self._log = opening + move
        plan = DayPlan(
            day,
            before.astype(np.float32),
            opening.astype(np.float32),
            self._log.astype(np.float32),
            trades.astype(np.float32),
            stories,
            late,
        )
        self._days.append(plan)
        self._next += 1
        return plan

    def factors(self, index: int) -> F8:
        """How many of the shares of a trading day one share of the first day is."""
        factors = np.ones(self.universe.count)
        for split in self.splits:
            if split.index <= index:
                factors[split.symbol] *= split.ratio
        return factors

    def factor(self, symbol: int, index: int) -> float:
        """`factors` of one symbol."""
        factor = 1.0
        for split in self._splits_of.get(symbol, ()):
            if split.index <= index:
                factor *= split.ratio
        return factor

    def bits(self, plan: DayPlan, symbols: I8) -> U8:
        """64 random bits of the day for each symbol."""
        return spread(key(self.seed, 11, plan.day.index), symbols)

    def own_shape(self, plan: DayPlan, symbol: int) -> StoryShape:
        """The rows of one of `own_shapes`."""
        before, opening, close = float(plan.before[symbol]), float(plan.open[symbol]), float(plan.close[symbol])
        story = plan.stories.get(symbol) or Story(symbol, QUIET, 0.0, 0.0, 0.0, False)
        story = story._replace(gap=opening - before, day=close - opening)
        shapes = self.shapes.of(plan.day.is_early)
        sigma = float(self.universe.sigma[symbol])
        return shape(self.seed, plan.day.index, shapes, story, sigma, plan.late.get(symbol, 0.0))

    def split_date(self, split: Split) -> datetime.date:
        return self.calendar.day(split.index).date

    def _stories(self, index: int) -> dict[int, Story]:
        rng = generator(self.seed, 6, index)
        count = round(STORY_SHARE * self.universe.count)
        return {story.symbol: story for story in draw(rng, self._candidates, count)}

    def _split(self, index: int, raw: F8) -> None:
        """Splits of the day: of dear shares into more, of cheap ones into fewer."""
        rng = generator(self.seed, 8, index)
        if not len(self._splitting):
            return
        for _ in range(int(rng.poisson(SPLITS_PER_DAY * self.universe.count / FULL_UNIVERSE))):
            at = int(rng.choice(self._splitting))
            price = float(np.exp(raw[at]))
            if price > 60.0:
                old, new = 1, int(rng.choice((2, 3, 4, 5, 10)))
            elif price < 5.0:
                old, new = int(rng.choice((5, 8, 10, 20, 25))), 1
            else:
                continue
            split = Split(index, at, old, new)
            self.splits.append(split)
            self._splits_of.setdefault(at, []).append(split)
            self._factor[at] *= new / old
