"""The full-market snapshot: each symbol's day, previous day, newest minute, last trade and quote."""

import numpy as np

from services.simulator.calendar import OPEN_MINUTE
from services.simulator.conditions import EXTENDED, PLAIN, SETS
from services.simulator.hashing import I8
from services.simulator.market import Market
from services.simulator.messages import spread
from services.simulator.rest_aggs import Aggregates
from services.simulator.rest_query import NS_PER_MS, Query, Refused

NO_DAY = '{"c":0,"h":0,"l":0,"o":0,"v":0,"vw":0}'
NO_MINUTE = '{"av":0,"t":0,"n":0,"o":0,"h":0,"l":0,"c":0,"v":0,"vw":0}'


class Snapshots:
    """Answers of /v2/snapshot/locale/us/markets/stocks/tickers, as JSON text."""

    def __init__(self, market: Market, aggregates: Aggregates) -> None:
        self._market = market
        self._aggregates = aggregates

    def all(self, query: Query) -> str:
        index = self._market.universe.index
        if asked := query.get("tickers"):
            symbols = np.array([index[name] for name in asked.split(",") if name in index], dtype=np.int64)
        else:
            symbols = self._market.universe.by_ticker
        texts = self._texts(symbols)
        return f'"status":"OK","count":{len(texts)},"tickers":[' + ",".join(texts) + "]"

    def one(self, ticker: str) -> str:
        if (symbol := self._market.universe.index.get(ticker)) is None:
            raise Refused(404, "Ticker not found.")
        return '"status":"OK","ticker":' + self._texts(np.array([symbol], dtype=np.int64))[0]

    def _texts(self, symbols: I8) -> list[str]:
        market = self._market
        tickers = market.universe.tickers
        day, sums, last = market.day, market.market_day.sums, market.tape.last
        is_open = market.market_day.next_minute > OPEN_MINUTE
        previous = self._previous(symbols)
        volume, dollars = sums.regular_volume[symbols], sums.regular_dollars[symbols]
        vwap = np.round(dollars / np.maximum(volume, 1), 4)
        columns = zip(
            symbols.tolist(),
            sums.open[symbols].tolist(), sums.high[symbols].tolist(), sums.low[symbols].tolist(),
            sums.close[symbols].tolist(), volume.tolist(), vwap.tolist(),
            sums.last_minute[symbols].tolist(), sums.volume[symbols].tolist(),
            *(column[symbols].tolist() for column in sums.last[:7]),
            last.price[symbols].tolist(), last.time_ms[symbols].tolist(), last.size[symbols].tolist(),
            last.number[symbols].tolist(), last.venue[symbols].tolist(),
            previous, strict=True,
        )  # fmt: skip
        start_ms = day.start_ns // NS_PER_MS
        open_ms, close_ms = start_ms + OPEN_MINUTE * 60_000, start_ms + day.close_minute * 60_000
        texts = []
        for (
            symbol, o, h, low, c, v, vw, minute, av, mo, mh, ml, mc, mv, mvw, mn, price, time, size, number, venue, before,
        ) in columns:  # fmt: skip
            day_text = NO_DAY
            if is_open and v:
                day_text = f'{{"c":{c!r},"h":{h!r},"l":{low!r},"o":{o!r},"v":{v},"vw":{vw!r}}}'
            minute_text = NO_MINUTE
            if minute >= 0:
                minute_text = (
                    f'{{"av":{av},"t":{start_ms + minute * 60_000},"n":{mn},"o":{mo!r},"h":{mh!r},"l":{ml!r},"c":{mc!r},'
                    f'"v":{mv},"vw":{mvw!r}}}'
                )
            live = ""
            previous_text, previous_close = before
            if time:
                bid, ask = spread(price)
                code = PLAIN if open_ms <= time < close_ms else EXTENDED
                conditions = ",".join(map(str, SETS[code]))
                ns = time * NS_PER_MS
                live = (
                    f',"lastTrade":{{"c":[{conditions}],"i":"{number + 1}","p":{price!r},"s":{size},"t":{ns},"x":{venue or 12}}}'
                    f',"lastQuote":{{"P":{ask!r},"S":2,"p":{bid!r},"s":3,"t":{ns}}}'
                )
            change = price - previous_close if time and previous_close else 0.0
            percent = change / previous_close * 100.0 if previous_close else 0.0
            texts.append(
                f'{{"ticker":"{tickers[symbol]}","todaysChange":{change:.4f},"todaysChangePerc":{percent:.4f},'
                f'"updated":{time * NS_PER_MS},"day":{day_text},"min":{minute_text},"prevDay":{previous_text}{live}}}'
            )
        return texts

    def _previous(self, symbols: I8) -> list[tuple[str, float]]:
        """The previous day's bar of each, in today's shares, with its close."""
        market = self._market
        plan = market.plans.get(market.day.index - 1)
        if plan is None:
            return [(NO_DAY, 0.0)] * len(symbols)
        bars = {bar.T: bar for bar in self._aggregates.daily(plan, symbols if len(symbols) < 100 else None)}
        tickers = market.universe.tickers
        found = [bars.get(tickers[symbol]) for symbol in symbols.tolist()]
        return [
            (f'{{"c":{b.c!r},"h":{b.h!r},"l":{b.l!r},"o":{b.o!r},"v":{b.v},"vw":{b.vw!r}}}', b.c) if b else (NO_DAY, 0.0)
            for b in found
        ]
