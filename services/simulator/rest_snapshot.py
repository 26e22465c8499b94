"""The full-market snapshot: each symbol's day, previous day, newest minute, last trade and quote."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from services.kit.runtime.clock import NS_PER_MS
from services.simulator.calendar import OPEN_MINUTE
from services.simulator.conditions import EXTENDED, PLAIN, SETS
from services.simulator.hashing import I8
from services.simulator.market import Market
from services.simulator.messages import spread
from services.simulator.rest_aggs import Aggregates
from services.simulator.rest_query import Query, Refused

NO_DAY = '{"c":0,"h":0,"l":0,"o":0,"v":0,"vw":0}'
NO_MINUTE = '{"av":0,"t":0,"n":0,"o":0,"h":0,"l":0,"c":0,"v":0,"vw":0}'


class Snapshots:
    """Answers of /v2/snapshot/locale/us/markets/stocks/tickers, as JSON text."""

    def __init__(self, market: Market, aggregates: Aggregates) -> None:
        self._market = market
        self._aggregates = aggregates
        self._lock = threading.Lock()
        # Written once a day.
        self._previous_of = -1
        self._previous_bars: list[tuple[str, float]] = []

    def all(self, query: Query) -> Callable[[], str]:
        """Taken at the time of the call; its JSON may be written on a thread."""
        index = self._market.universe.index
        if tickers := query.get("tickers"):
            symbols = np.array([index[name] for name in tickers.split(",") if name in index], dtype=np.int64)
        else:
            symbols = self._market.universe.by_ticker
        write = self._texts(symbols)

        def answer() -> str:
            texts = write()
            return f'"status":"OK","count":{len(texts)},"tickers":[' + ",".join(texts) + "]"

        return answer

    def one(self, ticker: str) -> Callable[[], str]:
        if (symbol := self._market.universe.index.get(ticker)) is None:
            raise Refused(404, "Ticker not found.")
        write = self._texts(np.array([symbol], dtype=np.int64))
        return lambda: '"status":"OK","ticker":' + write()[0]

    def _texts(self, symbols: I8) -> Callable[[], list[str]]:
        market = self._market
        day, sums, last = market.day, market.market_day.sums, market.tape.last
        is_open = market.market_day.next_minute > OPEN_MINUTE
        volume, dollars = sums.regular_volume[symbols], sums.regular_dollars[symbols]
        vwap = np.round(dollars / np.maximum(volume, 1), 4)
        columns = zip(
            symbols.tolist(),
            sums.open[symbols].tolist(), sums.high[symbols].tolist(), sums.low[symbols].tolist(),
            sums.close[symbols].tolist(), volume.tolist(), vwap.tolist(),
            sums.last_minute[symbols].tolist(), sums.volume[symbols].tolist(),
            *(column[symbols].tolist() for column in sums.last[:7]),
            last.price[symbols].tolist(), last.time_ms[symbols].tolist(), last.size[symbols].tolist(),
            last.trade_id[symbols].tolist(), last.venue[symbols].tolist(),
            strict=True,
        )  # fmt: skip
        start_ms = day.start_ns // NS_PER_MS
        open_ms, close_ms = start_ms + OPEN_MINUTE * 60_000, start_ms + day.close_minute * 60_000
        return functools.partial(self._write, list(columns), is_open, start_ms, open_ms, close_ms)

    def _write(
        self, rows: list[tuple[Any, ...]], is_open: bool, start_ms: int, open_ms: int, close_ms: int
    ) -> list[str]:
        tickers = self._market.universe.tickers
        previous = self._previous()
        texts = []
        for (
            symbol, o, h, low, c, v, vw, minute, av, mo, mh, ml, mc, mv, mvw, mn,
            price, time, size, trade_id, venue,
        ) in rows:  # fmt: skip
            day_text = NO_DAY
            if is_open and v:
                day_text = f'{{"c":{c!r},"h":{h!r},"l":{low!r},"o":{o!r},"v":{v},"vw":{vw!r}}}'
            minute_text = NO_MINUTE
            if minute >= 0:
                minute_text = (
                    f'{{"av":{av},"t":{start_ms + minute * 60_000},"n":{mn},"o":{mo!r},"h":{mh!r},"l":{ml!r},'
                    f'"c":{mc!r},"v":{mv},"vw":{mvw!r}}}'
                )
            live = ""
            previous_text, previous_close = previous[symbol]
            if time:
                bid, ask = spread(price)
                code = PLAIN if open_ms <= time < close_ms else EXTENDED
                conditions = ",".join(map(str, SETS[code]))
                ns = time * NS_PER_MS
                live = (
                    f',"lastTrade":{{"c":[{conditions}],"i":"{trade_id}","p":{price!r},"s":{size},"t":{ns},'
                    f'"x":{venue}}}'
                    f',"lastQuote":{{"P":{ask!r},"S":2,"p":{bid!r},"s":3,"t":{ns}}}'
                )
            change = price - previous_close if time and previous_close else 0.0
            percent = change / previous_close * 100.0 if previous_close else 0.0
            texts.append(
                f'{{"ticker":"{tickers[symbol]}","todaysChange":{change:.4f},"todaysChangePerc":{percent:.4f},'
                f'"updated":{time * NS_PER_MS},"day":{day_text},"min":{minute_text},"prevDay":{previous_text}{live}}}'
            )
        return texts

    def _previous(self) -> list[tuple[str, float]]:
        """The previous day's bar of each symbol, in today's shares, with its close."""
        today = self._market.day.number
        with self._lock:
            if self._previous_of != today:
                self._previous_of, self._previous_bars = today, self._write_previous(today)
            return self._previous_bars

    def _write_previous(self, today: int) -> list[tuple[str, float]]:
        market = self._market
        texts = [(NO_DAY, 0.0)] * market.universe.count
        if (plan := market.plans.get(today - 1)) is None:
            return texts
        bars = self._aggregates.daily(plan)
        columns = (bars[name].tolist() for name in ("c", "h", "l", "o", "v", "vw", "T"))
        for c, h, low, o, v, vw, ticker in zip(*columns, strict=True):
            text = f'{{"c":{c!r},"h":{h!r},"l":{low!r},"o":{o!r},"v":{v},"vw":{vw!r}}}'
            texts[market.universe.index[ticker.decode()]] = text, c
        return texts
