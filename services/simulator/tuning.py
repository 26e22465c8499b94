"""The market's figures, in one place."""

from typing import Final

# Trades of an ordinary full day over 12,000 symbols; fewer symbols are the most active of these.
# 5.5 million, and what the stories add, make some 200 trades/s at midday and 2,500 at the open.
TRADES_PER_DAY: Final = 5_500_000.0
ZIPF_EXPONENT: Final = 1.2
ZIPF_SHIFT: Final = 30.0
FULL_UNIVERSE: Final = 12_000

# Part of the symbols that have a story (news) on a day.
STORY_SHARE: Final = 0.012
MAX_STORY_TRADES: Final = 60_000.0
SPLITS_PER_DAY: Final = 0.6

# Trading days of history that REST knows, before the current one.
HISTORY_DAYS: Final = 320

# When a bar is sent, after its end, in ms; minute bars are spread over the second that follows.
BAR_DELAY_MS: Final = 2_000

# One in so many trades or bars.
DUPLICATE_ONE_IN: Final = 6_000
LATE_ONE_IN: Final = 3_000
RESENT_BAR_ONE_IN: Final = 400
# One in so many seconds brings a malformed or absurd event.
BAD_TICK_ONE_IN_SECONDS: Final = 40

# One in so many minutes of a symbol with many trades has one whose print is so far off, by these factors, that nobody
# could have traded there; of so many such minutes one has two, one after the other. A handful an hour of all symbols.
STRAY_ONE_IN_MINUTES: Final = 1_000
STRAY_PAIR_ONE_IN: Final = 4
STRAY_FACTORS: Final = (0.0897, 0.24, 2.15, 10.0)
# Trades that may set a price before and after it in its minute.
LEAST_TRADES_AROUND_STRAY: Final = 3
