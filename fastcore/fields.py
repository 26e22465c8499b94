"""The table of a row's fields, from which everything else takes them.

A field's number is its number in the TickerRow message and the index of its
column in MarketState. docs/fields.md and GET /api/v1/scanner/fields are
generated from this table.
"""

from typing import Final, Literal, NamedTuple

Kind = Literal["number", "text", "boolean", "time", "enum"]

SESSIONS: Final = ("PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED")
GAP_SIZES: Final = ("SMALL", "MEDIUM", "LARGE", "EXTREME")
SECTORS: Final = (
    "Basic Materials",
    "Communication Services",
    "Consumer Cyclical",
    "Consumer Defensive",
    "Energy",
    "Financial Services",
    "Healthcare",
    "Industrials",
    "Real Estate",
    "Technology",
    "Utilities",
)


class Field(NamedTuple):
    """One column. `values` are the values of an enum (value i has code i + 1), or the only values of a text."""

    number: int
    name: str
    kind: Kind
    unit: str
    meaning: str
    values: tuple[str, ...] = ()


def _percent(number: int, name: str, meaning: str) -> Field:
    return Field(number, name, "number", "percent", meaning)


def _usd(number: int, name: str, meaning: str) -> Field:
    return Field(number, name, "number", "USD", meaning)


def _shares(number: int, name: str, meaning: str) -> Field:
    return Field(number, name, "number", "shares", meaning)


def _number(number: int, name: str, unit: str, meaning: str) -> Field:
    return Field(number, name, "number", unit, meaning)


def _text(number: int, name: str, meaning: str) -> Field:
    return Field(number, name, "text", "", meaning)


WINDOW_MINUTES: Final = (1, 5, 10, 15, 30)
# Of dollars, trades and the largest print; of highs and lows; of the opening ranges.
SHORT_WINDOW_MINUTES: Final = (1, 5)
RANGE_WINDOW_MINUTES: Final = (5, 15, 30)
OPENING_MINUTES: Final = (1, 5, 15, 30, 60)

FIELDS: Final = (
    _text(2, "symbol", "ticker symbol"),
    _text(3, "company_name", "the company's or fund's name"),
    _text(4, "exchange", "primary exchange"),
    Field(5, "sector", "text", "", "sector", SECTORS),
    _text(6, "industry", "industry"),
    Field(7, "is_etf", "boolean", "", "true for an exchange-traded fund"),
    _usd(8, "price", "price of the newest trade that may set it, otherwise the newest bar's close"),
    _usd(9, "bid", "national best bid"),
    _usd(10, "ask", "national best offer"),
    _percent(11, "spread_percent", "ask - bid, in percent of the midpoint"),
    _shares(12, "volume_today", "shares traded since 04:00, all sessions"),
    _number(13, "trades_today", "trades", "trades since 04:00 that count as volume"),
    _usd(14, "dollar_volume", "sum of price x size since 04:00"),
    _usd(15, "prev_close", "regular close of the previous trading day, split-adjusted to today's shares"),
    _shares(16, "prev_volume", "volume of the previous trading day, split-adjusted to today's shares"),
    _usd(17, "open", "opening price of the regular session; absent before the open"),
    _usd(18, "high", "highest price of the regular session"),
    _usd(19, "low", "lowest price of the regular session"),
    _usd(20, "intraday_high", "highest price since 04:00, including extended hours"),
    _usd(21, "intraday_low", "lowest price since 04:00, including extended hours"),
    _usd(22, "close", "close of the regular session; absent before the close"),
    _usd(23, "change", "price - prev_close"),
    _percent(24, "change_percent", "price compared with prev_close"),
    _percent(
        25,
        "gap_percent",
        "price compared with prev_close until the open; then open compared with prev_close, fixed from then on",
    ),
    Field(
        26, "gap_size", "enum", "", "size of the absolute gap_percent: below 2, below 5, below 10, or more", GAP_SIZES
    ),
    _percent(27, "change_from_open", "price compared with open"),
    _usd(28, "premarket_high", "highest price from 04:00 to 09:30"),
    _usd(29, "premarket_low", "lowest price from 04:00 to 09:30"),
    _shares(30, "premarket_volume", "shares traded from 04:00 to 09:30"),
    _percent(31, "premarket_change_percent", "last price before the open compared with prev_close"),
    _percent(32, "postmarket_change_percent", "price compared with close, from the closing time on"),
    _shares(33, "postmarket_volume", "shares traded after the regular close"),
    _percent(
        34,
        "gap_fill_percent",
        "portion of the opening gap that has been given back; above 100 once the gap is more than filled",
    ),
    _percent(35, "price_from_high", "price compared with high"),
    _percent(36, "price_from_low", "price compared with low"),
    _percent(37, "price_from_intraday_high", "price compared with intraday_high"),
    _percent(38, "price_from_intraday_low", "price compared with intraday_low"),
    _percent(39, "position_in_range", "0 at intraday_low, 100 at intraday_high"),
    _usd(40, "vwap", "volume-weighted average price since 04:00"),
    _percent(41, "price_vs_vwap", "price compared with vwap"),
    _number(42, "rvol", "ratio", "volume_today / mean volume up to the same time of day, interpolated within the slot"),
    _number(43, "rvol_slot", "ratio", "volume_today / mean volume up to the end of the current 5-minute slot"),
    _shares(44, "avg_volume_10d", "mean daily volume of the last 10 trading days"),
    _shares(45, "avg_volume_30d", "mean daily volume of the last 30 trading days"),
    _usd(46, "avg_price_30d", "mean close of the last 30 trading days"),
    _number(47, "volume_ratio", "ratio", "volume_today / avg_volume_30d"),
    _number(
        48,
        "trades_z_score",
        "sd",
        "standard deviations of trades_today from the mean number of trades up to the same time of day",
    ),
    *(
        _percent(49 + i, f"chg_{n}m", f"change in price over the last {n} min, aligned to 10 seconds")
        for i, n in enumerate(WINDOW_MINUTES)
    ),
    *(
        _shares(54 + i, f"vol_{n}m", f"shares traded in the last {n} min, aligned to 10 seconds")
        for i, n in enumerate(WINDOW_MINUTES)
    ),
    _usd(59, "atr", "average true range over 14 days (Wilder)"),
    _percent(60, "atr_percent", "atr in percent of price"),
    _shares(61, "float_shares", "freely tradable shares"),
    _shares(62, "shares_outstanding", "shares outstanding"),
    _usd(63, "market_cap", "market capitalisation"),
    _number(64, "beta", "", "beta relative to the market"),
    Field(65, "halted", "boolean", "", "true while trading is halted"),
    _usd(66, "luld_upper", "upper price band (limit up-limit down)"),
    _usd(67, "luld_lower", "lower price band (limit up-limit down)"),
    Field(68, "session", "enum", "", "session of the newest event", SESSIONS),
    Field(69, "updated_at", "time", "", "time of the newest event"),
    _number(70, "age_seconds", "seconds", "seconds since updated_at"),
    _number(71, "score", "", "10 x rvol + 5 x volume_ratio"),
    _text(72, "security_type", "the vendor's security type: CS, ADRC, PFD, WARRANT, UNIT, RIGHT, ETF, ETN, FUND, ..."),
    _text(73, "list_date", "date of the first listing, YYYY-MM-DD"),
    _number(
        74, "suspect_prints", "trades", "today's trades that were held for confirmation because their price was far off"
    ),
    _text(75, "halt_reason", "reason code of today's newest halt"),
    Field(76, "halted_at", "time", "", "when today's newest halt began"),
    Field(77, "resumes_at", "time", "", "when trading resumes or resumed after that halt; absent until announced"),
    _number(78, "halts_today", "halts", "number of halts that began today"),
    *(
        _usd(
            79 + 2 * i + k,
            f"or{n}_{edge}",
            f"{edge}est price in the first {n} min of the regular session, fixed afterwards",
        )
        for i, n in enumerate(OPENING_MINUTES)
        for k, edge in enumerate(("high", "low"))
    ),
    _number(89, "minutes_since_open", "minutes", "minutes since the market opened; the same in all rows"),
    *(
        _usd(90 + i, f"dollar_volume_{n}m", f"sum of price x size over the last {n} min, aligned to 10 seconds")
        for i, n in enumerate(SHORT_WINDOW_MINUTES)
    ),
    *(
        _number(92 + i, f"trades_{n}m", "trades", f"trades in the last {n} min, aligned to 10 seconds")
        for i, n in enumerate(SHORT_WINDOW_MINUTES)
    ),
    *(
        _shares(94 + i, f"largest_{n}m", f"size of the largest trade in the last {n} min, aligned to 10 seconds")
        for i, n in enumerate(SHORT_WINDOW_MINUTES)
    ),
    *(
        _usd(number, f"{edge}_{n}m", f"{edge}est price in the last {n} min, aligned to 10 seconds")
        for numbers, n in zip(((96, 97), (98, 99), (101, 102)), RANGE_WINDOW_MINUTES, strict=True)
        for number, edge in zip(numbers, ("high", "low"), strict=True)
    ),
    *(
        _number(103 + i, f"vol_{n}m_ratio", "ratio", f"vol_{n}m / mean volume in the same minutes of the day")
        for i, n in enumerate(SHORT_WINDOW_MINUTES)
    ),
    _shares(105, "last_size", "size of the newest trade that counts as volume"),
    _shares(106, "bid_size", "shares bid at the national best bid"),
    _shares(107, "ask_size", "shares offered at the national best offer"),
    _percent(108, "spy_change_percent", "change_percent of SPY; the same in all rows"),
    *(
        _percent(109 + i, f"spy_chg_{n}m", f"chg_{n}m of SPY; the same in all rows")
        for i, n in enumerate(RANGE_WINDOW_MINUTES)
    ),
    _usd(112, "prev_open", "opening price of the previous trading day; split-adjusted, like all levels"),
    _usd(113, "prev_high", "highest price of the previous trading day's regular session"),
    _usd(114, "prev_low", "lowest price of the previous trading day's regular session"),
    _usd(115, "high_5d", "highest price over the last 5 days before today that had trades"),
    _usd(116, "low_5d", "lowest price over the last 5 days before today that had trades"),
    _usd(117, "high_20d", "highest price over the last 20 days before today that had trades"),
    _usd(118, "low_20d", "lowest price over the last 20 days before today that had trades"),
    _usd(119, "high_52w", "highest price since the same date a year ago, excluding today"),
    _usd(120, "low_52w", "lowest price since the same date a year ago, excluding today"),
    _usd(121, "sma_20d", "mean of the last 20 closes before today"),
    _usd(122, "sma_50d", "mean of the last 50 closes before today"),
    _usd(123, "sma_200d", "mean of the last 200 closes before today"),
    _percent(124, "change_5d", "price compared with the close 5 days ago, counting only days with trades"),
    _percent(125, "change_20d", "price compared with the close 20 days ago, counting only days with trades"),
    Field(
        126,
        "ssr",
        "boolean",
        "",
        "true while short sales are restricted: the price fell 10 % or more today or on the day before",
    ),
)

# Stored exactly, which is what filters and orders use, and displayed with 6 decimals: docs/semantics.md, "Rounding".
SUMS: Final = frozenset(
    {"volume_today", "dollar_volume", "premarket_volume", "postmarket_volume"}
    | {"prev_volume", "avg_volume_10d", "avg_volume_30d", "avg_price_30d", "atr"}
    | {"sma_20d", "sma_50d", "sma_200d"}
    | {f"vol_{minutes}m" for minutes in WINDOW_MINUTES}
    | {f"dollar_volume_{minutes}m" for minutes in SHORT_WINDOW_MINUTES}
)

BY_NAME: Final = {field.name: field for field in FIELDS}
# Columns are indexed by field number; 0, 1 (rank) and 100 (TickerRow.last_day) stay empty.
FIELD_COUNT: Final = 127
