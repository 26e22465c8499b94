"""Columns that make up a day of every symbol: places in the libraries, and the rows of those with their own day."""

from typing import Final, NamedTuple

import numpy as np

from services.simulator.hashing import F8, I8, U8, spread
from services.simulator.minutes import choose
from services.simulator.plan import DayPlan, Plans
from services.simulator.stories import OwnShapes

# Sigma of the minutes' highs and lows on a day with a story.
STORY_REACH: Final = 0.05


class DayColumns(NamedTuple):
    """One element a symbol; `own` is parallel to `own_symbols`.

    A log price is base + gap * gap_done + move * day_done + scale * path, and the number of trades before a minute
    floor(trades * curve + start). base: the previous close in the day's shares. reach: scale of the minutes' highs and
    lows. bits: random ones of the day. curve, path: rows of the libraries; those of `own_symbols` have their highs and
    lows from there, but not their curve and path.
    """

    base: F8
    gap: F8
    move: F8
    scale: F8
    reach: F8
    trades: F8
    start: F8
    bits: U8
    curve: I8
    path: I8
    own_symbols: I8
    own: OwnShapes

    @classmethod
    def of(cls, plans: Plans, plan: DayPlan) -> "DayColumns":
        universe = plans.universe
        bits = spread(plan.key, np.arange(universe.count, dtype=np.int64))
        chosen = choose(bits)
        before, opening = plan.before.astype(np.float64), plan.open.astype(np.float64)
        gap, move = opening - before, plan.close.astype(np.float64) - opening
        scale, reach = universe.sigma * chosen.sign, universe.sigma.copy()
        own = np.array(plan.own_shapes, dtype=np.int64)
        # Their paths have all of it.
        gap[own] = move[own] = 0.0
        scale[own] = 1.0
        stories = plan.stories.symbols
        reach[stories] = np.maximum(STORY_REACH, universe.sigma[stories])
        return cls(
            before - np.log(plans.factors(plan.day.number)),
            gap,
            move,
            scale,
            reach,
            plan.trades.astype(np.float64),
            chosen.start,
            bits,
            chosen.curve,
            chosen.path,
            own,
            plans.own_shapes(plan.day.is_early, [(plan, symbol) for symbol in own.tolist()]),
        )
