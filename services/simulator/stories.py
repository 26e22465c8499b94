"""Stories: what news does to a symbol for a day: gaps, runs, reversals, halts, after-hours moves."""

import bisect
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from services.simulator.calendar import OPEN_MINUTE
from services.simulator.hashing import B1, F4, F8, I8, Rekeyed
from services.simulator.shapes import DayShapes, bridge, cumulative, way_through

GAP_AND_GO, GAP_AND_FADE, GAP_DOWN, GAP_DOWN_BOUNCE, RUNNER, FADER, QUIET = range(7)
SHARES: Final = (0.22, 0.24, 0.17, 0.17, 0.12, 0.08)
# The chance of so many halts or fewer, from none on.
HALTS: Final = (0.5, 0.76, 0.9, 1.0)
# So few that what is worked out between takes little memory.
DAYS_AT_ONCE: Final = 64
# Of each kind: how its move goes from open to close.
FADES: Final = np.array([kind in (GAP_AND_FADE, GAP_DOWN_BOUNCE) for kind in range(7)])
RUNS: Final = np.array([kind in (RUNNER, FADER) for kind in range(7)])


class Story(NamedTuple):
    """One symbol's news. gap and day are log returns: overnight, and from the open to the close.

    `after_hours`: the news came after the close of the day before, which already moved then. A QUIET one
    is an ordinary day whose close is followed by the next day's news.
    """

    symbol: int
    kind: int
    gap: float
    day: float
    after_hours: bool


class Halt(NamedTuple):
    """Minutes since 04:00: no trade in [first, last)."""

    first: int
    last: int


class OwnDay(NamedTuple):
    """A symbol's day that is not from the libraries.

    sigma: how much the symbol moves on an ordinary day. next_gap: how far the next day's news moves it after the close.
    """

    day_index: int
    story: Story
    sigma: float
    next_gap: float


class OwnShapes(NamedTuple):
    """The rows of some symbols' days, in order: curves and paths (relative to the previous close), as in DayShapes."""

    curves: F8
    paths: F4
    halts: list[tuple[Halt, ...]]


class Stories:
    """A day's stories: parallel arrays, and `get` for one symbol's."""

    def __init__(self, rng: np.random.Generator, candidates: I8, count: int) -> None:
        count = min(count, len(candidates))
        self.symbols: I8 = candidates[rng.choice(len(candidates), count, replace=False)] if count else candidates[:0]
        self.kinds: I8 = rng.choice(len(SHARES), count, p=SHARES)
        size = np.minimum(0.04 + rng.exponential(0.10, count), 0.80)
        part = rng.uniform(0.3, 0.85, count)
        some = rng.uniform(0.02, 0.2, count)
        self.volumes: F8 = np.exp(rng.normal(14.3, 1.1, count)).clip(250_000.0, 60_000_000.0)
        self.after_hours: B1 = (rng.random(count) < 0.45) & (self.kinds < RUNNER)
        up, down, none = np.log1p(size), np.log1p(-np.minimum(size, 0.6)), np.zeros(count)
        self.gaps: F8 = np.choose(self.kinds, [up, up, down, down, none, none])
        self.days: F8 = np.choose(
            self.kinds, [some, -up * part, -some * 0.6, -down * part, 0.05 + some * 2.0, -0.05 - some]
        )
        # Where in the arrays a symbol's story is.
        self.place = {symbol: place for place, symbol in enumerate(self.symbols.tolist())}

    def __contains__(self, symbol: int) -> bool:
        return symbol in self.place

    def get(self, symbol: int) -> Story | None:
        """The symbol's story of the day, if it has one."""
        if (place := self.place.get(symbol)) is None:
            return None
        return Story(
            symbol,
            int(self.kinds[place]),
            float(self.gaps[place]),
            float(self.days[place]),
            bool(self.after_hours[place]),
        )


def _halts(rng: np.random.Generator, shapes: DayShapes, story: Story) -> tuple[Halt, ...]:
    """LULD pauses of five minutes or ten, mostly early; now and then a long one for news pending."""
    if rng.random() < 0.05:
        first = int(rng.integers(60, shapes.close - 60))
        return (Halt(first, min(first + int(rng.integers(60, 200)), shapes.close - 5)),)
    if abs(story.gap) + abs(story.day) < 0.12:
        return ()
    halts: list[Halt] = []
    at = OPEN_MINUTE
    for _ in range(bisect.bisect(HALTS, rng.random())):
        first = at + 2 + int(rng.exponential(35.0))
        last = first + (10 if rng.random() < 0.2 else 5)
        if last > shapes.close - 10:
            break
        halts.append(Halt(first, last))
        at = last
    return tuple(halts)


def own_shapes(seed: int, shapes: DayShapes, days: Sequence[OwnDay]) -> OwnShapes:
    """The rows of days that are all full, or all early closes.

    What each day draws is keyed by its symbol and date, so that it is the same in whatever company it is made.
    """
    some = [_own_shapes(seed, shapes, days[i : i + DAYS_AT_ONCE]) for i in range(0, len(days), DAYS_AT_ONCE)]
    if len(some) == 1:
        return some[0]
    columns = np.zeros((0, shapes.end + 1))
    return OwnShapes(
        np.concatenate([columns, *(each.curves for each in some)]),
        np.concatenate([columns.astype(np.float32), *(each.paths for each in some)]),
        [halts for each in some for halts in each.halts],
    )


def _own_shapes(seed: int, shapes: DayShapes, days: Sequence[OwnDay]) -> OwnShapes:
    close, end, count = shapes.close, shapes.end, len(days)
    regular, post = close - OPEN_MINUTE, end - close
    early_steps = np.empty((count, OPEN_MINUTE))
    later_steps = np.empty((count, regular + post + end))
    news, late = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    way_parameters = np.empty((count, 2))
    halts: list[tuple[Halt, ...]] = []
    generators = Rekeyed()
    for place, (day_index, story, _, next_gap) in enumerate(days):
        rng = generators.of(seed, 7, day_index, story.symbol)
        # Some news is of the morning.
        if not story.after_hours and rng.random() >= 0.5:
            news[place] = rng.integers(30, 240)
        rng.standard_normal(out=early_steps[place])
        way_parameters[place] = _draw_way(rng, story.kind)
        rng.standard_normal(out=later_steps[place])
        if next_gap:
            late[place] = close + 5 + int(rng.integers(0, 40))
        halts.append(() if story.kind == QUIET else _halts(rng, shapes, story))

    def column(values: list[float]) -> F8:
        return np.array(values)[:, None]

    kinds = np.array([day.story.kind for day in days], dtype=np.int64)
    is_quiet = kinds == QUIET
    way = _regular_ways(kinds, way_parameters[:, 0], way_parameters[:, 1], regular)
    gap, move = column([day.story.gap for day in days]), column([day.story.day for day in days])
    lively = 0.25 * (np.abs(gap) + np.abs(move)) + 0.01
    wild = np.where(is_quiet[:, None], column([day.sigma for day in days]), lively)
    rest = column([0.2 if day.story.after_hours else 0.6 for day in days])
    paths = np.zeros((count, end + 1))
    since = np.arange(OPEN_MINUTE + 1, dtype=np.float64) - news[:, None]
    came = np.where(since < 0.0, 0.0, 1.0 - rest * np.exp(-since / 12.0))
    paths[:, : OPEN_MINUTE + 1] = gap * came / came[:, -1:] + 0.5 * wild * bridge(early_steps)
    paths[:, OPEN_MINUTE : close + 1] = gap + move * way + wild * bridge(later_steps[:, :regular])
    walk = np.cumsum(later_steps[:, regular : regular + post], axis=1)
    paths[:, close + 1 :] = paths[:, close : close + 1] + 0.3 * wild * walk / post**0.5
    weights = shapes.weights * np.exp(np.where(is_quiet[:, None], 0.35, 0.5) * later_steps[:, regular + post :])
    speed = np.abs(np.diff(paths[:, OPEN_MINUTE : close + 1], axis=1))
    faster = 1.0 + 2.5 * speed / speed.mean(axis=1, keepdims=True)
    minute = np.arange(end + 1, dtype=np.float64)
    arrived, attention = 1.0 - np.exp(-minute / 10.0), np.exp(-minute[:-1] / 40.0)
    for place, (_, story, _, next_gap) in enumerate(days):
        path, weight = paths[place], weights[place]
        if story.kind < RUNNER:
            weight[news[place] : OPEN_MINUTE] *= 6.0
        if story.kind != QUIET:
            weight[OPEN_MINUTE:close] *= faster[place]
        if next_gap:
            at = int(late[place])
            path[at:] += 0.8 * next_gap * arrived[: end + 1 - at]
            weight[at:] += weight.sum() * 0.35 * attention[: end - at] / 40.0
        for first, last in halts[place]:
            path[first : last + 1] = path[first]
            weight[last : last + 2] += 0.25 * weight[first:last].sum()
            weight[first:last] = 0.0
    return OwnShapes(cumulative(weights), paths.astype(np.float32), halts)


def _draw_way(rng: np.random.Generator, kind: int) -> tuple[float, float]:
    """The parameters of `_regular_ways`."""
    if FADES[kind]:
        return rng.uniform(3.0, 12.0), 0.0
    if RUNS[kind]:
        return rng.uniform(0.05, 0.8), rng.uniform(25.0, 90.0)
    return rng.uniform(0.4, 1.0), 0.0


def _regular_ways(kinds: I8, first: F8, second: F8, count: int) -> F8:
    """Returns the part of each day's move that is done, by minute from the open."""
    x = way_through(count)
    ways = np.empty((len(kinds), count + 1))
    is_fading, is_running = FADES[kinds], RUNS[kinds]
    ways[is_fading] = 1.0 - np.exp(-x * first[is_fading, None])
    running = 1.0 / (1.0 + np.exp(-(x - first[is_running, None]) * second[is_running, None]))
    ways[is_running] = running - running[:, :1]
    is_other = ~(is_fading | is_running)
    ways[is_other] = x ** first[is_other, None]
    ways /= ways[:, -1:].copy()
    return ways
