"""The columns of lists in the terminal: short headings, widths, and values as traders write them."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from tradeul.v1.session_pb2 import Session
from tradeul.v1.ticker_row_pb2 import GapSize, TickerRow

from fastcore.fields import BY_NAME, Field
from services.kit.runtime.clock import new_york_time

HALTS: Final = "halts"
# The one field that every row has.
SYMBOL: Final = "symbol"
ABSENT: Final = "-"
# Below this a cent is a percent: prices have four decimals.
LOW_PRICE: Final = 1.0
Tone = Literal["up", "down", ""]

DEFAULT: Final = (
    "price", "change_percent", "gap_percent", "chg_5m", "volume_today", "rvol", "float_shares", "vwap",
    "price_from_intraday_high", "market_cap", "company_name",
)  # fmt: skip
# Of the list `halts`: why, since when, until when.
DEFAULT_OF_HALTS: Final = (
    "price", "change_percent", "halt_reason", "halted_at", "resumes_at", "halts_today", "volume_today", "company_name",
)  # fmt: skip
HEADINGS: Final = {
    "change_percent": "chg %", "gap_percent": "gap %", "volume_today": "volume", "float_shares": "float",
    "price_from_intraday_high": "from hi %", "price_from_intraday_low": "from lo %", "market_cap": "mkt cap",
    "company_name": "company", "halt_reason": "reason", "halted": "halt", "halted_at": "halted",
    "resumes_at": "resumes", "halts_today": "halts",
    "change_from_open": "open %", "trades_z_score": "z score", "price_vs_vwap": "vwap %",
    "spread_percent": "spread %", "trades_today": "trades", "dollar_volume": "$ volume", "prev_close": "prev cl",
    "prev_volume": "prev vol", "premarket_change_percent": "pre %", "postmarket_change_percent": "post %",
    "premarket_volume": "pre vol", "postmarket_volume": "post vol", "premarket_high": "pre high",
    "premarket_low": "pre low", "intraday_high": "day high", "intraday_low": "day low", "avg_volume_10d": "avg 10d",
    "avg_volume_30d": "avg 30d", "avg_price_30d": "avg $ 30d", "volume_ratio": "vol ratio", "atr_percent": "atr %",
    "shares_outstanding": "shares", "security_type": "type", "age_seconds": "age s", "updated_at": "updated",
    "gap_fill_percent": "filled %", "position_in_range": "in range", "price_from_high": "high %",
    "vol_1m_ratio": "1m vol x", "vol_5m_ratio": "5m vol x", "dollar_volume_1m": "1m $ vol",
    "dollar_volume_5m": "5m $ vol",
    "minutes_since_open": "min", "spy_change_percent": "SPY %", "spy_chg_5m": "SPY 5m %", "spy_chg_15m": "SPY 15m %",
    "spy_chg_30m": "SPY 30m %",
    "price_from_low": "low %", "luld_upper": "luld up", "luld_lower": "luld low", "suspect_prints": "suspect",
}  # fmt: skip
WINDOWS: Final = {"chg": "%", "vol": "vol"}
# Percentages that have no direction.
PLAIN_PERCENTS: Final = frozenset({"spread_percent", "position_in_range", "atr_percent", "gap_fill_percent"})
# Amounts of dollars that are no prices.
SUMS: Final = frozenset({"dollar_volume", "dollar_volume_1m", "dollar_volume_5m", "market_cap"})
WIDTHS: Final = {"company_name": 24, "industry": 24, "sector": 18, "symbol": 8, "halt_reason": 6, "list_date": 10}
WIDTH_OF_TEXT: Final = 8
ENUMS: Final = {"gap_size": GapSize, "session": Session}


class Column(NamedTuple):
    """One column: a field, its heading, and the characters it takes."""

    field: Field
    heading: str
    width: int

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def is_left(self) -> bool:
        """True for text, which stands left."""
        return self.field.kind == "text"


def column(name: str) -> Column:
    """Returns the column of a field; raises KeyError for an unknown one."""
    field = BY_NAME[name]
    heading = HEADINGS.get(name)
    if heading is None:
        # chg_5m is "5m %", vol_5m "5m vol".
        kind, _, window = name.partition("_")
        heading = f"{window} {WINDOWS[kind]}" if kind in WINDOWS and window[:1].isdigit() else name.replace("_", " ")
    if field.kind == "text":
        width = WIDTHS.get(name, WIDTH_OF_TEXT)
    elif field.kind == "time":
        width = 14 if name in ("halted_at", "resumes_at") else 8
    elif field.kind == "enum":
        width = max(map(len, field.values))
    else:
        width = 7
    return Column(field, heading, max(width, len(heading)))


def default_columns(list_name: str) -> list[str]:
    """The fields of a list's columns, the most important first."""
    return list(DEFAULT_OF_HALTS if list_name == HALTS else DEFAULT)


def mentioned(texts: Iterable[str]) -> list[str]:
    """Returns the fields that filters and orders mention, in their order."""
    words: list[str] = []
    for text in texts:
        word = ""
        for letter in f"{text} ":
            if letter.isalnum() or letter == "_":
                word += letter
            else:
                words.append(word)
                word = ""
    return list(dict.fromkeys(word for word in words if word in BY_NAME and word != "symbol"))


def cell(row: TickerRow, name: str) -> str:
    """Returns one value for people; an absent one is a dash."""
    value = getattr(row, name)
    if name == SYMBOL:
        return str(value)
    if not row.HasField(name):  # type: ignore[arg-type]
        return ABSENT
    kind = BY_NAME[name].kind
    if kind == "number":
        return number_text(value, name)
    if kind == "time":
        time = new_york_time(value.ToNanoseconds())
        # Some halts last for days.
        return f"{time:%m-%d %H:%M:%S}" if name in ("halted_at", "resumes_at") else f"{time:%H:%M:%S}"
    if kind == "boolean":
        return "yes" if value else "no"
    return ENUMS[name].Name(value) if kind == "enum" else str(value)


def number_text(value: float, name: str) -> str:
    """Returns a number in its field's unit: +4.20, 12.34, 2.35M."""
    unit = BY_NAME[name].unit
    if unit == "percent":
        return f"{value:.2f}" if name in PLAIN_PERCENTS else f"{value:+.2f}"
    if unit in ("shares", "trades", "halts") or name in SUMS:
        return short_count(value)
    if unit == "USD":
        return f"{value:.4f}" if abs(value) < LOW_PRICE else f"{value:.2f}"
    return f"{value:.0f}" if unit == "seconds" else f"{value:.2f}"


def tone(row: TickerRow, name: str) -> Tone:
    """Returns the direction of a change; empty for what has none."""
    field = BY_NAME[name]
    signed = name == "change" or (field.unit == "percent" and name not in PLAIN_PERCENTS)
    if not signed or not row.HasField(name):  # type: ignore[arg-type]
        return ""
    value = getattr(row, name)
    return "up" if value > 0 else "down" if value < 0 else ""


def short_count(value: float) -> str:
    """1234567 -> 1.23M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.2f}{letter}"
    return f"{value:.0f}"


def fitted(text: str, width: int, is_left: bool) -> str:
    """Returns the text in exactly `width` characters."""
    if len(text) > width:
        text = text[: width - 1] + "…" if width > 1 else text[:width]
    return f"{text:<{width}}" if is_left else f"{text:>{width}}"


def that_fit(columns: Sequence[Column], width: int) -> int:
    """Returns how many columns fit into `width` characters, each after a space; at least one."""
    used = count = 0
    for each in columns:
        used += each.width + 1
        if used > width:
            break
        count += 1
    return max(count, 1)
