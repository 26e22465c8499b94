"""The vendor's REST responses (Polygon.io, also called Massive).

Field names are the vendor's. Prices are USD, volumes shares, times of bars
milliseconds and times of trades, quotes and `updated` nanoseconds since 1970
UTC, unless a field says otherwise. Fields that the vendor may omit are None.
"""

import msgspec


class SnapshotBar(msgspec.Struct, frozen=True, gc=False):
    """A day's or a minute's bar inside a snapshot; all zeros before there is one."""

    o: float = 0.0
    h: float = 0.0
    l: float = 0.0  # noqa: E741 - the vendor's name
    c: float = 0.0
    v: float = 0.0
    vw: float = 0.0
    # Of the minute bar only: volume since 04:00, start of the minute (ms), trades.
    av: float | None = None
    t: int | None = None
    n: int | None = None
    # The same volumes with fractions, as decimal strings.
    dv: str | None = None
    dav: str | None = None


class SnapshotTrade(msgspec.Struct, frozen=True, gc=False):
    """The last trade: price, size, time in ns, conditions, exchange, trade id."""

    p: float
    t: int
    s: float = 0.0
    c: list[int] | None = None
    x: int | None = None
    i: str | None = None
    ds: str | None = None


class SnapshotQuote(msgspec.Struct, frozen=True, gc=False):
    """The last quote: small letters are the bid, capitals the ask."""

    t: int
    p: float | None = None
    s: float | None = None
    ask: float | None = msgspec.field(name="P", default=None)
    ask_size: float | None = msgspec.field(name="S", default=None)


class SnapshotTicker(msgspec.Struct, frozen=True, gc=False):
    """One symbol of the full-market snapshot; `updated` in ns."""

    ticker: str
    updated: int = 0
    day: SnapshotBar | None = None
    prev_day: SnapshotBar | None = msgspec.field(name="prevDay", default=None)
    min: SnapshotBar | None = None
    last_trade: SnapshotTrade | None = msgspec.field(name="lastTrade", default=None)
    last_quote: SnapshotQuote | None = msgspec.field(name="lastQuote", default=None)


class GroupedBar(msgspec.Struct, frozen=True, gc=False):
    """One symbol's daily bar; `symbol` is the vendor's T, `t` the day's end in ms."""

    symbol: str = msgspec.field(name="T")
    o: float
    h: float
    l: float  # noqa: E741 - the vendor's name
    c: float
    v: float
    vw: float | None = None
    t: int | None = None
    n: int | None = None
    otc: bool = False


class AggregateBar(msgspec.Struct, frozen=True, gc=False):
    """A bar of /v2/aggs; `t` is its start in ms, `n` the number of trades."""

    o: float
    h: float
    l: float  # noqa: E741 - the vendor's name
    c: float
    v: float
    t: int
    vw: float | None = None
    n: int | None = None


class VolumeBar(msgspec.Struct, frozen=True, gc=False):
    """A bar of /v2/aggs of which only the volume is wanted: start in ms, shares, number of trades."""

    t: int
    v: float
    n: float | None = None


class TickerSummary(msgspec.Struct, frozen=True, gc=False):
    """A row of /v3/reference/tickers."""

    ticker: str
    name: str | None = None
    market: str | None = None
    locale: str | None = None
    primary_exchange: str | None = None
    type: str | None = None
    active: bool | None = None
    currency_name: str | None = None
    cik: str | None = None
    composite_figi: str | None = None
    share_class_figi: str | None = None
    last_updated_utc: str | None = None
    delisted_utc: str | None = None


class TickerDetails(msgspec.Struct, frozen=True, gc=False):
    """The answer of /v3/reference/tickers/{ticker}."""

    ticker: str
    name: str | None = None
    market: str | None = None
    locale: str | None = None
    primary_exchange: str | None = None
    type: str | None = None
    active: bool | None = None
    market_cap: float | None = None
    share_class_shares_outstanding: float | None = None
    weighted_shares_outstanding: float | None = None
    sic_code: str | None = None
    sic_description: str | None = None
    description: str | None = None
    homepage_url: str | None = None
    phone_number: str | None = None
    total_employees: int | None = None
    list_date: str | None = None
    cik: str | None = None
    composite_figi: str | None = None
    share_class_figi: str | None = None
    currency_name: str | None = None
    round_lot: float | None = None
    address: dict[str, str] | None = None
    branding: dict[str, str] | None = None


class TickerFloat(msgspec.Struct, frozen=True, gc=False):
    """A row of /stocks/vX/float: shares that are free to trade, their share of all in percent, YYYY-MM-DD."""

    ticker: str
    free_float: float | None = None
    free_float_percent: float | None = None
    effective_date: str | None = None


class UpdateRule(msgspec.Struct, frozen=True, gc=False):
    """The values that a trade with a condition may change."""

    updates_high_low: bool
    updates_open_close: bool
    updates_volume: bool


class UpdateRules(msgspec.Struct, frozen=True, gc=False):
    """The rules of the consolidated tape and of the market center."""

    consolidated: UpdateRule | None = None
    market_center: UpdateRule | None = None


class Condition(msgspec.Struct, frozen=True, gc=False):
    """A row of /v3/reference/conditions."""

    id: int
    name: str
    type: str | None = None
    asset_class: str | None = None
    data_types: list[str] | None = None
    update_rules: UpdateRules | None = None
    legacy: bool = False


class Split(msgspec.Struct, frozen=True, gc=False):
    """split_from old shares became split_to new ones on execution_date (YYYY-MM-DD)."""

    ticker: str
    execution_date: str
    split_from: float
    split_to: float
    id: str | None = None


class MarketStatus(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The answer of /v1/marketstatus/now; `server_time` is RFC 3339."""

    server_time: str
    market: str | None = None
    after_hours: bool | None = None
    early_hours: bool | None = None
    exchanges: dict[str, str] | None = None
    currencies: dict[str, str] | None = None


class MarketHoliday(msgspec.Struct, frozen=True, gc=False):
    """One exchange's holiday or early close; `open` and `close` are RFC 3339 (early closes only)."""

    date: str
    exchange: str
    status: str
    name: str | None = None
    open: str | None = None
    close: str | None = None
