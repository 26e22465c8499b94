"""Stories: what news does to a symbol for a day: gaps, runs, reversals, halts, after-hours moves."""

from typing import Final, NamedTuple

import numpy as np

from services.simulator.calendar import OPEN_MINUTE
from services.simulator.hashing import B1, F4, F8, I8, generator
from services.simulator.shapes import DayShapes, bridge, cumulative

GAP_AND_GO, GAP_AND_FADE, GAP_DOWN, GAP_DOWN_BOUNCE, RUNNER, FADER, QUIET = range(7)
SHARES: Final = (0.22, 0.24, 0.17, 0.17, 0.12, 0.08)
LONGEST_HALTS: Final = 3


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


class StoryShape(NamedTuple):
    """A symbol's own rows for the day: curve and path (relative to the previous close), as in DayShapes."""

    curve: F8
    path: F4
    halts: tuple[Halt, ...]


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
        self._place = {symbol: place for place, symbol in enumerate(self.symbols.tolist())}

    def __contains__(self, symbol: int) -> bool:
        return symbol in self._place

    def get(self, symbol: int) -> Story | None:
        """The symbol's story of the day, if it has one."""
        if (place := self._place.get(symbol)) is None:
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
    for _ in range(int(rng.choice(LONGEST_HALTS + 1, p=(0.5, 0.26, 0.14, 0.10)))):
        first = at + 2 + int(rng.exponential(35.0))
        last = first + (10 if rng.random() < 0.2 else 5)
        if last > shapes.close - 10:
            break
        halts.append(Halt(first, last))
        at = last
    return tuple(halts)


def _regular_way(rng: np.random.Generator, kind: int, count: int) -> F8:
    """Returns the part of the day's move that is done, by minute from the open."""
    x = np.linspace(0.0, 1.0, count + 1)
    if kind in (GAP_AND_FADE, GAP_DOWN_BOUNCE):
        way = 1.0 - np.exp(-x * float(rng.uniform(3.0, 12.0)))
    elif kind in (RUNNER, FADER):
        way = 1.0 / (1.0 + np.exp(-(x - float(rng.uniform(0.05, 0.8))) * float(rng.uniform(25.0, 90.0))))
        way -= way[0]
    else:
        way = x ** float(rng.uniform(0.4, 1.0))
    return np.asarray(way / way[-1])


def shape(
    seed: int, day_index: int, shapes: DayShapes, story: Story, sigma: float, next_gap: float = 0.0
) -> StoryShape:
    """The rows of a story; `next_gap` is how far the next day's news moves it after the close.

    `sigma` is how much the symbol moves on an ordinary day.
    """
    rng = generator(seed, 7, day_index, story.symbol)
    close, end = shapes.close, shapes.end
    is_quiet = story.kind == QUIET
    wild = sigma if is_quiet else 0.25 * (abs(story.gap) + abs(story.day)) + 0.01
    path = np.zeros(end + 1)
    # Some news is of the morning.
    news = 0 if story.after_hours or rng.random() < 0.5 else int(rng.integers(30, 240))
    minute = np.arange(OPEN_MINUTE + 1, dtype=np.float64)
    rest = 0.2 if story.after_hours else 0.6
    came = np.where(minute < news, 0.0, 1.0 - rest * np.exp(-(minute - news) / 12.0))
    path[: OPEN_MINUTE + 1] = story.gap * came / came[-1] + 0.5 * wild * bridge(rng.standard_normal(OPEN_MINUTE))
    regular = close - OPEN_MINUTE
    way = _regular_way(rng, story.kind, regular)
    path[OPEN_MINUTE : close + 1] = story.gap + story.day * way + wild * bridge(rng.standard_normal(regular))
    post = end - close
    path[close:] = path[close] + 0.3 * wild * np.concatenate([[0.0], np.cumsum(rng.standard_normal(post))]) / post**0.5
    weights = shapes.weights * np.exp(rng.normal(0.0, 0.35 if is_quiet else 0.5, end))
    if story.kind < RUNNER:
        weights[news:OPEN_MINUTE] *= 6.0
    if not is_quiet:
        speed = np.abs(np.diff(path[OPEN_MINUTE : close + 1]))
        weights[OPEN_MINUTE:close] *= 1.0 + 2.5 * speed / speed.mean()
    if next_gap:
        at = close + 5 + int(rng.integers(0, 40))
        later = np.arange(end + 1 - at, dtype=np.float64)
        path[at:] += 0.8 * next_gap * (1.0 - np.exp(-later / 10.0))
        weights[at:] += weights.sum() * 0.35 * np.exp(-later[:-1] / 40.0) / 40.0
    halts = () if is_quiet else _halts(rng, shapes, story)
    for first, last in halts:
        path[first : last + 1] = path[first]
        weights[last : last + 2] += 0.25 * weights[first:last].sum()
        weights[first:last] = 0.0
    return StoryShape(cumulative(weights), path.astype(np.float32), halts)
