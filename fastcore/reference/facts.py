"""What a symbol's messages of the day add up to, before anything is derived from it."""

import math
from dataclasses import dataclass

from fastcore.reference.day_events import HALT, RESUME, Bar, Day, Limit, SymbolDay, Trade


@dataclass
class Facts:
    """Numbers are None while they cannot be known. Prices USD, volumes shares, times ns."""

    price: float | None = None
    premarket_price: float | None = None
    regular_price: float | None = None
    official_close: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    intraday_high: float | None = None
    intraday_low: float | None = None
    premarket_high: float | None = None
    premarket_low: float | None = None
    volume: float | None = None
    dollar_volume: float | None = None
    premarket_volume: float | None = None
    postmarket_volume: float | None = None
    trades: float | None = None
    bid: float | None = None
    ask: float | None = None
    halted: bool | None = None
    upper: float | None = None
    lower: float | None = None
    updated_at: int | None = None
    session: str | None = None
    traded: bool = False


def facts_of(events: SymbolDay, day: Day) -> Facts:
    facts = Facts()
    facts.traded = bool(events.trades or events.bars)
    _prices(facts, events)
    _open_and_close(facts, events, day)
    _highs_and_lows(facts, events)
    _volumes(facts, events, day)
    _quotes_and_limits(facts, events)
    _last_update(facts, events, day)
    return facts


def present(value: float) -> bool:
    return not math.isnan(value)


def _prices(facts: Facts, events: SymbolDay) -> None:
    price_time = regular_time = -1
    for event in events.arrivals:
        if isinstance(event, Trade) and event.sets_price:
            if event.time >= price_time:
                price_time, facts.price = event.time, event.price
                if event.premarket:
                    facts.premarket_price = event.price
            if event.regular and event.time >= regular_time:
                regular_time, facts.regular_price = event.time, event.price
        elif isinstance(event, Bar):
            if event.end > price_time:
                price_time, facts.price = event.end, event.close
                if event.premarket:
                    facts.premarket_price = event.close
            if event.regular and event.end > regular_time:
                regular_time, facts.regular_price = event.end, event.close


def _open_and_close(facts: Facts, events: SymbolDay, day: Day) -> None:
    sources = [
        [bar.official_open for bar in events.bars if present(bar.official_open) and bar.end > day.open],
        [trade.price for trade in events.trades if trade.official_open],
        [trade.price for trade in events.trades if trade.sets_price and trade.regular],
    ]
    facts.open = next((source[0] for source in sources if source), None)
    prints = [trade for trade in events.trades if trade.official_close]
    if prints:
        facts.official_close = max(prints, key=lambda trade: (trade.time, trade.order)).price


def _highs_and_lows(facts: Facts, events: SymbolDay) -> None:
    # (high, low, premarket, regular) of everything that may set them.
    reach = [(t.price, t.price, t.premarket, t.regular) for t in events.trades if t.sets_high_low]
    reach += [(bar.high, bar.low, bar.premarket, bar.regular) for bar in events.bars]
    facts.intraday_high = max((high for high, _, _, _ in reach), default=None)
    facts.intraday_low = min((low for _, low, _, _ in reach), default=None)
    facts.premarket_high = max((high for high, _, premarket, _ in reach if premarket), default=None)
    facts.premarket_low = min((low for _, low, premarket, _ in reach if premarket), default=None)
    facts.high = max((high for high, _, _, regular in reach if regular), default=None)
    facts.low = min((low for _, low, _, regular in reach if regular), default=None)


def _volumes(facts: Facts, events: SymbolDay, day: Day) -> None:
    anchors = [bar for bar in events.bars if bar.anchors]
    trades = [trade for trade in events.trades if trade.has_volume]
    if anchors or events.trades:
        facts.volume, facts.dollar_volume = _anchored(anchors, trades)
    if facts.traded:
        before = [bar for bar in anchors if bar.end <= day.open]
        facts.premarket_volume = _anchored(before, [trade for trade in trades if trade.premarket])[0]
        facts.postmarket_volume = math.fsum(trade.size for trade in trades if trade.after_hours)
        if events.bars_only:
            facts.postmarket_volume = math.fsum(bar.volume for bar in events.stand_in_bars() if bar.postmarket)
    if trades:
        facts.trades = float(len(trades))


def _anchored(anchors: list[Bar], trades: list[Trade]) -> tuple[float, float]:
    """Shares and dollars: those of the newest bar, and of the trades at or after its end."""
    if not anchors:
        return math.fsum(t.size for t in trades), math.fsum(t.price * t.size for t in trades)
    newest = max(anchors, key=lambda bar: (bar.end, bar.order))
    after = [trade for trade in trades if trade.time >= newest.end]
    shares = math.fsum([newest.accumulated, *(t.size for t in after)])
    return shares, math.fsum([newest.day_vwap * newest.accumulated, *(t.price * t.size for t in after)])


def _quotes_and_limits(facts: Facts, events: SymbolDay) -> None:
    if events.quotes:
        quote = max(events.quotes, key=lambda q: (q.time, q.order))
        facts.bid = quote.bid if present(quote.bid) else None
        facts.ask = quote.ask if present(quote.ask) else None
    newest = -1
    for limit in events.limits:
        if limit.time < newest:
            continue
        newest = limit.time
        if limit.indicators & HALT:
            facts.halted = True
        elif limit.indicators & RESUME:
            facts.halted = False
        if present(limit.upper):
            facts.upper = limit.upper
        if present(limit.lower):
            facts.lower = limit.lower


def _last_update(facts: Facts, events: SymbolDay, day: Day) -> None:
    """Trades, bars and limit messages move it; a quote says nothing of when the symbol last traded."""
    newest = -1
    for event in events.arrivals:
        if isinstance(event, Trade | Limit):
            time, place = event.time, event.time
        elif isinstance(event, Bar):
            time, place = event.end, event.start
        else:
            continue
        if time >= newest:
            newest = facts.updated_at = time
            facts.session = day.session(place)
