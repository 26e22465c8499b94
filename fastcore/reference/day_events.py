"""Everything that happened to one symbol on one trading day, in order of arrival."""

import math
from dataclasses import dataclass, field
from typing import Final

FORM_T: Final = 1 << 12
EXTENDED_HOURS: Final = (1 << 12) | (1 << 13)
OFFICIAL_CLOSE: Final = 1 << 15
OFFICIAL_OPEN: Final = 1 << 16
HALT: Final = 1 << 17
RESUME: Final = 1 << 18
SECOND_BAR: Final = 1
MINUTE_BAR: Final = 2


@dataclass(frozen=True)
class Day:
    """A trading day: its date and the ends of its sessions in ns since 1970 UTC."""

    date: str
    start: int
    open: int
    close: int
    end: int

    def session(self, time: int) -> str:
        if time < self.start or time >= self.end:
            return "CLOSED"
        if time < self.open:
            return "PRE_MARKET"
        return "MARKET_OPEN" if time < self.close else "POST_MARKET"


VOLUME_ONLY: Final = (2, 7, 12, 13, 20, 21, 29, 37, 52, 53)
OFFICIAL: Final = (15, 16)


def _bits(*conditions: int) -> int:
    return sum(1 << condition for condition in conditions)


@dataclass(frozen=True)
class Rules:
    """Masks of what sale conditions forbid, bit i for condition id i. Until rules come, the built-in ones hold."""

    last: int = _bits(5, 10, 22, 32, 33, *VOLUME_ONLY, *OFFICIAL)
    high_low: int = _bits(*VOLUME_ONLY, *OFFICIAL)
    volume: int = _bits(38, *OFFICIAL)
    take_suspects: bool = False


@dataclass(frozen=True)
class Trade:
    """A trade, with what its conditions let it do judged on arrival."""

    order: int
    time: int
    price: float
    size: float
    premarket: bool
    regular: bool
    sets_price: bool
    sets_high_low: bool
    has_volume: bool
    after_hours: bool
    official_open: bool
    official_close: bool
    conditions: int
    rules: Rules
    # Whether trading was halted when it came, as far as was known.
    halted: bool


def judge_trade(order: int, row: tuple[int, float, float, int], rules: Rules, day: Day, halted: bool = False) -> Trade:
    """A row is (time, price, size, conditions)."""
    time, price, size, conditions = row
    official = bool(conditions & (OFFICIAL_OPEN | OFFICIAL_CLOSE))
    in_hours = day.open <= time < day.close
    # Form T sets price and extended high and low outside regular hours, unless another condition forbids it.
    for_price = conditions if in_hours else conditions & ~FORM_T
    after = time >= day.close
    return Trade(
        order=order,
        time=time,
        price=price,
        size=size,
        premarket=time < day.open,
        regular=in_hours or (after and not conditions & EXTENDED_HOURS),
        sets_price=not official and not for_price & rules.last,
        sets_high_low=not official and not for_price & rules.high_low,
        has_volume=not official and not conditions & rules.volume,
        after_hours=after and bool(conditions & EXTENDED_HOURS),
        official_open=bool(conditions & OFFICIAL_OPEN),
        official_close=bool(conditions & OFFICIAL_CLOSE),
        conditions=conditions,
        rules=rules,
        halted=halted,
    )


@dataclass(frozen=True)
class Bar:
    """An aggregate bar; NaN is absent. It belongs to the session of its start."""

    order: int
    span: int
    start: int
    end: int
    high: float
    low: float
    close: float
    volume: float
    accumulated: float
    day_vwap: float
    official_open: float
    vwap: float
    premarket: bool
    regular: bool
    postmarket: bool
    rules: Rules

    @property
    def anchors(self) -> bool:
        return not math.isnan(self.accumulated) and not math.isnan(self.day_vwap)


@dataclass(frozen=True)
class Quote:
    order: int
    time: int
    bid: float
    ask: float
    bid_size: float
    ask_size: float


@dataclass(frozen=True)
class Limit:
    order: int
    time: int
    upper: float
    lower: float
    indicators: int


@dataclass(frozen=True)
class Snapshot:
    """A row of the vendor's full snapshot; times 0 and NaN are absent.

    `single_from`: order of the oldest trade of which more than the second is still known.
    """

    order: int
    single_from: int
    updated: int
    trade_time: int
    trade_price: float
    open: float
    high: float
    low: float
    close: float
    vwap: float
    accumulated: float
    minute_close: float
    bid: float
    ask: float
    minute_start: int
    minute_high: float
    minute_low: float


@dataclass
class SymbolDay:
    """All accepted messages of one symbol today. `arrivals` holds all kinds in their one order."""

    trades: list[Trade] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    quotes: list[Quote] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    arrivals: list[Trade | Bar | Quote | Limit | Snapshot] = field(default_factory=list)
    # Prints that were held, whatever became of them; known once the day is settled (suspects.py).
    suspects: int = 0

    def add(self, event: Trade | Bar | Quote | Limit | Snapshot) -> None:
        self.arrivals.append(event)
        if isinstance(event, Trade):
            self.trades.append(event)
        elif isinstance(event, Bar):
            self.bars.append(event)
        elif isinstance(event, Quote):
            self.quotes.append(event)
        elif isinstance(event, Limit):
            self.limits.append(event)
        else:
            self.snapshots.append(event)

    @property
    def bars_only(self) -> bool:
        """No volume-eligible trade today: bars stand in for the trades in windows and postmarket_volume."""
        return not any(trade.has_volume for trade in self.trades)

    def stand_in_bars(self) -> list[Bar]:
        """The bars that stand in for trades: A bars if there are any, else AM; of re-sent ones the first."""
        span = SECOND_BAR if any(bar.span == SECOND_BAR for bar in self.bars) else MINUTE_BAR
        first: dict[int, Bar] = {}
        for bar in self.bars:
            if bar.span == span:
                first.setdefault(bar.start, bar)
        return list(first.values())
