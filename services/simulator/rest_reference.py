"""Reference data: tickers, conditions, splits, exchanges, and the state of the market."""

import datetime
from typing import Any, Final

from services.simulator.calendar import Holiday, new_york_ns, new_york_time
from services.simulator.companies import Companies
from services.simulator.conditions import SALE_CONDITIONS
from services.simulator.market import Market
from services.simulator.messages import EXCHANGE_IDS
from services.simulator.rest_query import (
    Answer,
    Query,
    Refused,
    bad,
    boolean,
    cursor,
    date,
    integer,
    is_descending,
    next_page,
)
from services.simulator.symbols import EXCHANGES, TYPES

EXCHANGE_NAMES: Final = ("Nasdaq", "New York Stock Exchange", "NYSE Arca", "NYSE American", "Cboe BZX")
COMPARISONS: Final = ("gt", "gte", "lt", "lte")


def _holds(value: str, query: Query, name: str) -> bool:
    """True if the value passes the filters name, name.gt, name.gte, name.lt and name.lte."""
    if (equal := query.get(name)) and value != equal:
        return False
    for how in COMPARISONS:
        if bound := query.get(f"{name}.{how}"):
            is_met = value > bound if how == "gt" else value >= bound if how == "gte" else value < bound
            if how == "lte":
                is_met = value <= bound
            if not is_met:
                return False
    return True


class Reference:
    """Answers of /v3/reference and /v1/marketstatus."""

    def __init__(self, market: Market, seed: int) -> None:
        self._market = market
        self._companies = Companies(market.universe, seed)

    def tickers(self, path: str, query: Query, base: str) -> Answer:
        universe = self._market.universe
        limit, offset = integer(query, "limit", 100, 1, 1000), cursor(query)
        kind, exchange, search = query.get("type"), query.get("exchange"), (query.get("search") or "").lower()
        found: list[int] = []
        if boolean(query, "active", True) and (query.get("market") or "stocks") == "stocks":
            found = [
                symbol
                for symbol in universe.by_ticker.tolist()
                if (not kind or TYPES[universe.types[symbol]] == kind)
                and (not exchange or EXCHANGES[universe.exchange[symbol]] == exchange)
                and _holds(universe.tickers[symbol], query, "ticker")
                and (not search or search in f"{universe.tickers[symbol]} {universe.name(symbol)}".lower())
            ]
        if is_descending(query, "order"):
            found.reverse()
        updated = self._updated()
        rows = [self._companies.summary(symbol, updated) for symbol in found[offset : offset + limit]]
        return self._page(rows, len(found), offset, path, query, base)

    def ticker(self, ticker: str, query: Query) -> Answer:
        if text := query.get("date"):
            date(text, "date")
        market = self._market
        if (symbol := market.universe.index.get(ticker)) is None:
            raise Refused(404, "Ticker not found.")
        price, factor = market.price(symbol), market.plans.factor(symbol, market.day.number)
        return {"results": self._companies.details(symbol, price, factor, self._updated()), "status": "OK"}

    def floats(self, path: str, query: Query, base: str) -> Answer:
        """Rows of the float list, by ticker."""
        limit, offset = integer(query, "limit", 100, 1, 5000), cursor(query)
        if (order := query.get("sort") or "ticker.asc") not in ("ticker.asc", "ticker.desc"):
            raise bad(f"'sort': expected ticker.asc or ticker.desc, was {order!r}")
        market = self._market
        universe, any_of = market.universe, set(filter(None, (query.get("ticker.any_of") or "").split(",")))
        found = [
            symbol
            for symbol in universe.by_ticker.tolist()
            if self._companies.has_float(symbol)
            and _holds(universe.tickers[symbol], query, "ticker")
            and (not any_of or universe.tickers[symbol] in any_of)
        ]
        if order.endswith(".desc"):
            found.reverse()
        since = (market.day.date - datetime.timedelta(days=market.day.date.day)).isoformat()
        rows = [
            self._companies.float_row(symbol, market.plans.factor(symbol, market.day.number), since)
            for symbol in found[offset : offset + limit]
        ]
        return self._page(rows, len(found), offset, path, query, base)

    def conditions(self, path: str, query: Query, base: str) -> Answer:
        limit, offset = integer(query, "limit", 10, 1, 1000), cursor(query)
        rows: list[dict[str, Any]] = []
        if (query.get("asset_class") or "stocks") == "stocks":
            rows = [
                {
                    "id": one.id,
                    "type": "sale_condition",
                    "name": one.name,
                    "asset_class": "stocks",
                    "data_types": ["trade"],
                    "sip_mapping": {"CTA": chr(64 + one.id % 26), "UTP": chr(64 + one.id % 26)},
                    "update_rules": {
                        scope: {
                            "updates_high_low": one.high_low,
                            "updates_open_close": one.open_close,
                            "updates_volume": one.volume,
                        }
                        for scope in ("consolidated", "market_center")
                    },
                }
                for one in SALE_CONDITIONS
                if (query.get("data_type") or "trade") == "trade" and (query.get("id") or str(one.id)) == str(one.id)
            ]
        if is_descending(query, "order"):
            rows.reverse()
        return self._page(rows[offset : offset + limit], len(rows), offset, path, query, base)

    def splits(self, path: str, query: Query, base: str) -> Answer:
        limit, offset = integer(query, "limit", 10, 1, 1000), cursor(query)
        order = query.get("sort") or "execution_date"
        if order not in ("execution_date", "ticker"):
            raise bad(f"'sort': expected execution_date or ticker, was {order!r}")
        plans, tickers = self._market.plans, self._market.universe.tickers
        rows = []
        for number, split in enumerate([*plans.splits, *plans.announced()]):
            executed = plans.split_date(split).isoformat()
            ticker = tickers[split.symbol]
            if _holds(executed, query, "execution_date") and _holds(ticker, query, "ticker"):
                rows.append(
                    {
                        "execution_date": executed,
                        "id": f"E{number:08x}",
                        "split_from": split.old,
                        "split_to": split.new,
                        "ticker": ticker,
                    }
                )
        rows.sort(key=lambda row: (str(row[order]), str(row["ticker"])))
        # The newest first by default.
        if (query.get("order") or "desc") == "desc" or is_descending(query, "order"):
            rows.reverse()
        return self._page(rows[offset : offset + limit], len(rows), offset, path, query, base)

    def exchanges(self) -> Answer:
        rows = [
            {"id": number, "type": "exchange", "asset_class": "stocks", "locale": "us", "name": name, "mic": mic,
             "operating_mic": mic}
            for number, name, mic in zip(EXCHANGE_IDS, EXCHANGE_NAMES, EXCHANGES, strict=True)
        ]  # fmt: skip
        return {"results": rows, "status": "OK", "count": len(rows)}

    def status_now(self) -> Answer:
        market = self._market
        day, now_ns = market.day, market.now_ns
        is_today = day.start_ns <= now_ns < day.end_ns
        is_early = is_today and now_ns < day.minute_ns(330)
        is_late = is_today and now_ns >= day.minute_ns(day.close_minute)
        state = "closed" if not is_today else "extended-hours" if is_early or is_late else "open"
        return {
            "afterHours": is_late,
            "currencies": {"crypto": "open", "fx": "open"},
            "earlyHours": is_early,
            "exchanges": {"nasdaq": state, "nyse": state, "otc": "closed" if state == "extended-hours" else state},
            "indicesGroups": {"s_and_p": "open" if state == "open" else "closed"},
            "market": state,
            "serverTime": new_york_time(now_ns).isoformat(timespec="seconds"),
        }

    def upcoming(self) -> list[Answer]:
        today = new_york_time(self._market.now_ns).date()
        return [
            self._holiday(holiday, exchange)
            for holiday in self._market.calendar.upcoming(today)
            for exchange in ("NYSE", "NASDAQ")
        ]

    def _holiday(self, holiday: Holiday, exchange: str) -> Answer:
        row: Answer = {"date": holiday.date.isoformat(), "exchange": exchange, "name": holiday.name, "status": "closed"}
        if holiday.is_early:
            row |= {
                "status": "early-close",
                "open": _utc(new_york_ns(holiday.date, 9, 30)),
                "close": _utc(new_york_ns(holiday.date, 13)),
            }
        return row

    def _updated(self) -> str:
        return _utc(self._market.day.start_ns)[:10] + "T00:00:00Z"

    def _page(self, rows: list[Any], whole: int, offset: int, path: str, query: Query, base: str) -> Answer:
        answer: Answer = {"results": rows, "status": "OK", "count": len(rows)}
        if (end := offset + len(rows)) < whole:
            answer["next_url"] = next_page(base, path, query, end)
        return answer


def _utc(ns: int) -> str:
    instant = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")
