"""The sum of a symbol's messages of the day, before anything is derived from it."""

import math
from dataclasses import dataclass

from fastcore.reference.day_events import Bar, Day, Limit, Quote, Snapshot, SymbolDay, Trade
from fastcore.reference.snapshots import accepted, has_shares, points_of, volumes_of


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
    priced_shares: float | None = None
    premarket_volume: float | None = None
    postmarket_volume: float | None = None
    trades: float | None = None
    last_size: float | None = None
    bid: float | None = None
    ask: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    halts: float | None = None
    suspect_prints: float | None = None
    upper: float | None = None
    lower: float | None = None
    updated_at: int | None = None
    session: str | None = None
    traded: bool = False


def facts_of(events: SymbolDay, day: Day) -> Facts:
    """Of a day that is settled (suspects.py)."""
    facts = Facts()
    snapshots = accepted(events, day)
    facts.traded = bool(events.trades or events.bars) or any(
        points_of(row, day) or has_shares(row, day) for row in snapshots
    )
    _prices(facts, events, snapshots, day)
    _open_and_close(facts, events, snapshots, day)
    _highs_and_lows(facts, events, snapshots, day)
    _volumes(facts, events, day)
    quotes_and_limits(facts, events, snapshots)
    _last_update(facts, events, snapshots, day)
    return facts


def present(value: float) -> bool:
    return not math.isnan(value)


def _prices(facts: Facts, events: SymbolDay, snapshots: list[Snapshot], day: Day) -> None:
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
        elif isinstance(event, Snapshot) and event in snapshots:
            for point in points_of(event, day):
                if point.time > price_time:
                    price_time, facts.price = point.time, point.price
                    if point.place < day.open:
                        facts.premarket_price = point.price
            closed = min(event.updated, day.close)
            if event.updated > day.open and present(event.close) and closed > regular_time:
                regular_time, facts.regular_price = closed, event.close


def _open_and_close(facts: Facts, events: SymbolDay, snapshots: list[Snapshot], day: Day) -> None:
    bars = [(bar.order, bar.official_open) for bar in events.bars if bar.end > day.open]
    bars += [(row.order, row.open) for row in snapshots if row.updated > day.open]
    sources = [
        [price for _, price in sorted(bars) if present(price)],
        [trade.price for trade in events.trades if trade.official_open],
        [trade.price for trade in events.trades if trade.sets_price and trade.regular],
    ]
    facts.open = next((source[0] for source in sources if source), None)
    prints = [trade for trade in events.trades if trade.official_close]
    if prints:
        facts.official_close = max(prints, key=lambda trade: (trade.time, trade.order)).price


def _highs_and_lows(facts: Facts, events: SymbolDay, snapshots: list[Snapshot], day: Day) -> None:
    # (high, low, premarket, regular) of everything that may set them.
    reach = [(t.price, t.price, t.premarket, t.regular) for t in events.trades if t.sets_high_low]
    reach += [(bar.high, bar.low, bar.premarket, bar.regular) for bar in events.bars]
    for row in snapshots:
        start = row.minute_start
        if start >= day.start and present(row.minute_high) and present(row.minute_low):
            reach.append((row.minute_high, row.minute_low, start < day.open, day.open <= start < day.close))
        traded = row.trade_time
        if traded >= day.start and present(row.trade_price):
            reach.append((row.trade_price, row.trade_price, traded < day.open, day.open <= traded < day.close))
        if row.updated > day.open and present(row.high) and present(row.low):
            reach.append((row.high, row.low, False, True))
    facts.intraday_high = max((high for high, _, _, _ in reach), default=None)
    facts.intraday_low = min((low for _, low, _, _ in reach), default=None)
    facts.premarket_high = max((high for high, _, premarket, _ in reach if premarket), default=None)
    facts.premarket_low = min((low for _, low, premarket, _ in reach if premarket), default=None)
    facts.high = max((high for high, _, _, regular in reach if regular), default=None)
    facts.low = min((low for _, low, _, regular in reach if regular), default=None)


def _volumes(facts: Facts, events: SymbolDay, day: Day) -> None:
    whole, premarket = volumes_of(events, day)
    trades = [trade for trade in events.trades if trade.has_volume]
    if whole.bars is not None or events.trades:
        facts.volume, facts.dollar_volume, facts.priced_shares = whole.shares, whole.dollars, whole.priced_shares
    elif whole.repair is not None:
        facts.volume = whole.shares
    if facts.traded:
        facts.halts = 0.0
        facts.suspect_prints = float(events.suspects)
        facts.premarket_volume = premarket.shares
        facts.postmarket_volume = math.fsum(trade.size for trade in trades if trade.after_hours)
        if events.bars_only:
            facts.postmarket_volume = math.fsum(bar.volume for bar in events.stand_in_bars() if bar.postmarket)
    if trades:
        facts.trades = float(len(trades))
        facts.last_size = max(trades, key=lambda trade: (trade.time, trade.order)).size


def quotes_and_limits(facts: Facts, events: SymbolDay, snapshots: list[Snapshot]) -> None:
    quoted = -1
    for event in events.arrivals:
        if isinstance(event, Quote) and event.time >= quoted:
            quoted = event.time
            has_bid, has_ask = present(event.bid), present(event.ask)
            facts.bid_size = event.bid_size if has_bid and present(event.bid_size) else None
            facts.ask_size = event.ask_size if has_ask and present(event.ask_size) else None
        elif isinstance(event, Snapshot) and event in snapshots and event.updated > quoted:
            if not present(event.bid) and not present(event.ask):
                continue
            lacks_bid = not present(event.bid) and facts.bid is not None
            lacks_ask = not present(event.ask) and facts.ask is not None
            if lacks_bid or lacks_ask:
                continue
            quoted = event.updated
        else:
            continue
        facts.bid = event.bid if present(event.bid) else None
        facts.ask = event.ask if present(event.ask) else None
    newest = -1
    for limit in events.limits:
        if limit.time < newest:
            continue
        newest = limit.time
        if present(limit.upper):
            facts.upper = limit.upper
        if present(limit.lower):
            facts.lower = limit.lower


def _last_update(facts: Facts, events: SymbolDay, snapshots: list[Snapshot], day: Day) -> None:
    """Trades, bars and limit messages move it; a quote does not show when the symbol last traded."""
    newest = newest_limit = -1
    for event in events.arrivals:
        # (time, what it belongs to a session by), and whether equal times count.
        times: list[tuple[int, int]] = []
        if isinstance(event, Trade):
            times = [(event.time, event.time)]
        elif isinstance(event, Limit) and event.time >= newest_limit:
            newest_limit = event.time
            times = [(event.time, event.time)]
        elif isinstance(event, Bar):
            times = [(event.end, event.start)]
        elif isinstance(event, Snapshot) and event in snapshots:
            times = [(point.time, point.place) for point in points_of(event, day)]
        for time, place in times:
            if time > newest or (time == newest and not isinstance(event, Snapshot)):
                newest = facts.updated_at = time
                facts.session = day.session(place)
