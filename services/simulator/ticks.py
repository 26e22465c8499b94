"""The trades of one second, made so that a minute's trades are exactly its bar.

The first trade of a minute that is no odd lot has its open, the last its close, two between
them its high and low; the others lie inside. Odd lots set no price. Now and then one of the others is
printed at a price that is far off, which no bar reports.
"""

from typing import Final, NamedTuple

import numpy as np

from services.simulator import conditions
from services.simulator.calendar import OPEN_MINUTE
from services.simulator.hashing import B1, F8, I8, STRIDE, U8, mix, unit
from services.simulator.market_day import MarketDay, Minute
from services.simulator.minutes import ticks_per_dollar, to_tick
from services.simulator.shapes import SizeShapes
from services.simulator.tuning import LEAST_TRADES_AROUND_STRAY, STRAY_FACTORS, STRAY_ONE_IN_MINUTES, STRAY_PAIR_ONE_IN

# The vendor's ids of exchanges; 4 is off-exchange, with a reporting facility.
VENUES: Final = np.array([4, 4, 4, 4, 12, 12, 12, 11, 11, 19, 8, 3, 21, 10, 16, 20], dtype=np.int64)
OFF_EXCHANGE: Final = 4
# Of each of them: which of its venue's it is, and how many that venue has.
_ORDER: Final = np.array([int((VENUES[:place] == venue).sum()) for place, venue in enumerate(VENUES)], dtype=np.int64)
_COUNT: Final = np.array([int((VENUES == venue).sum()) for venue in VENUES], dtype=np.int64)
# Odd, so that a block's trades have each of VENUES once.
_STRIDE: Final = 5
RARE_ONE_IN: Final = 90


class Ticks(NamedTuple):
    """Trades in order of symbol and time. time_ms from the second's beginning; number counts a symbol's
    trades of the day from 0, trade_id those of its venue from 1; is_fixed: it makes an open, high, low or close of
    its minute."""

    symbol: I8
    number: I8
    trade_id: I8
    time_ms: I8
    price: F8
    printed: F8
    size: I8
    venue: I8
    condition: I8
    is_eligible: B1
    is_fixed: B1
    is_first: B1
    bits: U8


def make_ticks(day: MarketDay, minute: Minute, second: int, sizes: SizeShapes) -> Ticks:
    """The trades of second 0 to 59 of the minute."""
    before, after = day.counts_within(minute, second), day.counts_within(minute, second + 1)
    traded = np.flatnonzero(after > before)
    count = after[traded] - before[traded]
    symbol = np.repeat(traded, count)
    within = np.arange(len(symbol)) - np.repeat(np.cumsum(count) - count, count)
    number = before[symbol] + within
    row = day.size_row[symbol]
    size = sizes.volume_before(row, number + 1) - sizes.volume_before(row, number)
    rank = sizes.eligible_before(row, number)
    is_eligible = sizes.eligible_before(row, number + 1) > rank
    rank -= sizes.eligible_before(row, minute.before[symbol])
    bits = mix(day.bits[symbol] + (number + 1).astype(np.uint64) * np.uint64(STRIDE))
    place = minute.place[symbol]
    bars = minute.bars
    opened, high, low, closed = bars.open[place], bars.high[place], bars.low[place], bars.close[place]
    eligible = bars.eligible[place]

    inner = np.maximum(eligible - 2, 1)
    minute_bits = minute.bits[symbol]
    high_at = 1 + (minute_bits & np.uint64(0xFFFF)).astype(np.int64) % inner
    step = 1 + ((minute_bits >> np.uint64(16)) & np.uint64(0xFFFF)).astype(np.int64) % np.maximum(eligible - 3, 1)
    low_at = 1 + (high_at - 1 + step) % inner
    way = (rank + 0.5) / np.maximum(eligible, 1)
    near = opened + (closed - opened) * way + (high - low) * 0.7 * (unit(bits) - 0.5)
    price = np.clip(to_tick(near, ticks_per_dollar(low)), low, high)
    is_first = is_eligible & (rank == 0)
    is_last = is_eligible & (rank == eligible - 1)
    is_high = is_eligible & (eligible >= 3) & (rank == high_at)
    is_low = is_eligible & (eligible >= 4) & (rank == low_at)
    price = np.where(is_high, high, np.where(is_low, low, price))
    price = np.where(is_first, opened, np.where(is_last, closed, price))
    is_fixed = is_first | is_last | is_high | is_low
    printed = np.where(is_fixed, price, _printed(price, minute_bits, rank, eligible, is_eligible))

    venue, trade_id = venues(day, symbol, number)
    time_ms = ((within + unit(bits, 28)) / np.repeat(count, count) * 1000.0).astype(np.int64)
    condition = _conditions(day, minute, is_eligible, is_fixed, is_first, is_last, bits)
    return Ticks(
        symbol, number, trade_id, time_ms, price, printed, size, venue, condition,
        is_eligible, is_fixed, is_first & (eligible > 0), bits,
    )  # fmt: skip


def venues(day: MarketDay, symbol: I8, number: I8) -> tuple[I8, I8]:
    """Where each symbol's trade with a number is done, and its id there.

    As at real exchanges, ids begin at 1 each day with each symbol: of 16 trades one is at each place of VENUES,
    in an order of their own.
    """
    block, within = np.divmod(number, len(VENUES))
    first = mix(day.bits[symbol] ^ mix(block.astype(np.uint64) * np.uint64(STRIDE)))
    place = ((first & np.uint64(0xFF)).astype(np.int64) + within * _STRIDE) % len(VENUES)
    return VENUES[place], block * _COUNT[place] + _ORDER[place] + 1


def _printed(price: F8, minute_bits: U8, rank: I8, eligible: I8, is_eligible: B1) -> F8:
    """Of some minutes with many trades one is printed far off, and sometimes the next one, too."""
    bits = mix(minute_bits ^ np.uint64(STRIDE))
    is_chosen = (bits % np.uint64(STRAY_ONE_IN_MINUTES) == 0) & (eligible >= 2 * LEAST_TRADES_AROUND_STRAY)
    middle = np.maximum(eligible - 2 * LEAST_TRADES_AROUND_STRAY, 1)
    at = LEAST_TRADES_AROUND_STRAY + ((bits >> np.uint64(16)) & np.uint64(0xFFFF)).astype(np.int64) % middle
    is_pair = (bits >> np.uint64(32)) % np.uint64(STRAY_PAIR_ONE_IN) == 0
    is_stray = is_chosen & is_eligible & ((rank == at) | (is_pair & (rank == at + 1)))
    factors = np.array(STRAY_FACTORS)[((bits >> np.uint64(48)) % np.uint64(len(STRAY_FACTORS))).astype(np.int64)]
    far = to_tick(price * factors, ticks_per_dollar(price * factors))
    return np.where(is_stray, far, price)


def _conditions(
    day: MarketDay, minute: Minute, is_eligible: B1, is_fixed: B1, is_first: B1, is_last: B1, bits: U8
) -> I8:
    chance = ((bits >> np.uint64(52)) & np.uint64(0xFFF)).astype(np.int64)
    is_sweep = chance % 4 == 0
    if not OPEN_MINUTE <= minute.number < day.day.close_minute:
        plain = np.where(is_sweep, conditions.EXTENDED_SWEEP, conditions.EXTENDED)
        return np.where(is_eligible, plain, conditions.EXTENDED_ODD)
    plain = np.where(is_sweep, conditions.SWEEP, conditions.PLAIN)
    odd = np.where(is_sweep, conditions.ODD_SWEEP, conditions.ODD)
    code = np.where(is_eligible, plain, odd)
    rare = is_eligible & ~is_fixed & (chance % RARE_ONE_IN == 7)
    code = np.where(rare, conditions.RARE.start + chance // RARE_ONE_IN % len(conditions.RARE), code)
    if minute.number == OPEN_MINUTE:
        code = np.where(is_first, conditions.OPENING, code)
    if minute.number == day.day.close_minute - 1:
        code = np.where(is_last & ~is_first, conditions.CLOSING, code)
    return code
