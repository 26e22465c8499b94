"""Events as the vendor's JSON, one object each."""

import math
from enum import IntEnum
from typing import Final

import numpy as np

from services.simulator.conditions import OFFICIAL_CLOSE, OFFICIAL_OPEN, TEXTS
from services.simulator.hashing import F8, I8
from services.simulator.symbols import EXCHANGES
from services.simulator.ticks import OFF_EXCHANGE, Ticks

# The vendor's ids of EXCHANGES.
EXCHANGE_IDS: Final = (12, 10, 11, 1, 19)
assert len(EXCHANGE_IDS) == len(EXCHANGES)


class Kind(IntEnum):
    """Channels one can subscribe to; names as in the vendor's subscriptions."""

    T = 0
    A = 1
    AM = 2
    LULD = 3
    Q = 4


def trades(tickers: list[str], tapes: list[int], ticks: Ticks, second_ms: int, sequence: I8) -> list[str]:
    """A text for each trade; `sequence` is the market's own count of each."""
    texts = []
    columns = zip(
        ticks.symbol.tolist(),
        ticks.number.tolist(),
        ticks.trade_id.tolist(),
        (ticks.time_ms + second_ms).tolist(),
        ticks.printed.tolist(),
        ticks.size.tolist(),
        ticks.venue.tolist(),
        ticks.condition.tolist(),
        sequence.tolist(),
        strict=True,
    )
    for symbol, number, trade_id, time, price, size, venue, condition, q in columns:
        text = (
            f'{{"ev":"T","sym":"{tickers[symbol]}","x":{venue},"i":"{trade_id}","z":{tapes[symbol]},'
            f'"p":{price!r},"s":{size},{TEXTS[condition]}"t":{time},"q":{q}'
        )
        if venue == OFF_EXCHANGE:
            text += f',"trfi":{201 + number % 3},"trft":{time - 1}'
        elif q % 64 == 0:
            text += f',"ds":"{size}.0"'
        texts.append(text + "}")
    return texts


def official_print(ticker: str, exchange: int, tape: int, price: float, size: int, time_ms: int, is_close: bool) -> str:
    """The listing market's official open or close; the same id each day."""
    condition, letter = (OFFICIAL_CLOSE, "C") if is_close else (OFFICIAL_OPEN, "O")
    return (
        f'{{"ev":"T","sym":"{ticker}","x":{EXCHANGE_IDS[exchange]},"i":"{letter}1","z":{tape},'
        f'"p":{price!r},"s":{size},"c":[{condition}],"t":{time_ms},"q":{time_ms % 86_400_000}}}'
    )


def bars(
    event: str,
    tickers: list[str],
    symbol: I8,
    opened: F8,
    high: F8,
    low: F8,
    closed: F8,
    volume: I8,
    vwap: F8,
    day_volume: I8,
    day_vwap: F8,
    official_open: F8,
    trades: I8,
    start_ms: int,
    end_ms: int,
) -> list[str]:
    """A text for each bar; an official open of 0 is left out."""
    texts = []
    average = volume // np.maximum(trades, 1)
    columns = zip(
        symbol.tolist(),
        opened.tolist(),
        high.tolist(),
        low.tolist(),
        closed.tolist(),
        volume.tolist(),
        np.round(vwap, 4).tolist(),
        day_volume.tolist(),
        np.round(day_vwap, 4).tolist(),
        official_open.tolist(),
        average.tolist(),
        strict=True,
    )
    for at, o, h, low_price, c, v, vw, av, a, op, z in columns:
        official = f'"op":{op!r},' if op else ""
        exact = f'"dv":"{v}.0","dav":"{av}.0",' if (at + v) % 50 == 0 else ""
        texts.append(
            f'{{"ev":"{event}","sym":"{tickers[at]}","v":{v},"av":{av},{exact}{official}"vw":{vw!r},"o":{o!r},"c":{c!r},'
            f'"h":{h!r},"l":{low_price!r},"a":{a!r},"z":{z},"s":{start_ms},"e":{end_ms}}}'
        )
    return texts


def limits(ticker: str, tape: int, price: float, indicator: int | None, time_ns: int) -> str:
    """A LULD message: the bands around a price, with 17 (halted) or 18 (resumed)."""
    width = 0.05 if price >= 100.0 else 0.10 if price > 3.0 else 0.20 if price >= 0.75 else 0.75
    grid = 100.0 if price >= 1.0 else 10_000.0
    high = math.floor(price * (1.0 + width) * grid) / grid
    low = max(math.ceil(price * (1.0 - width) * grid), 1) / grid
    indicators = "" if indicator is None else str(indicator)
    return (
        f'{{"ev":"LULD","T":"{ticker}","h":{high!r},"l":{low!r},"i":[{indicators}],"z":{tape},'
        f'"t":{time_ns},"q":{time_ns // 1_000_000 % 86_400_000}}}'
    )


def quotes(tickers: list[str], tapes: list[int], ticks: Ticks, second_ms: int, sequence: I8) -> list[str]:
    """The best bid and offer around each trade."""
    texts = []
    columns = zip(
        ticks.symbol.tolist(),
        (ticks.time_ms + second_ms).tolist(),
        ticks.price.tolist(),
        ticks.bits.tolist(),
        sequence.tolist(),
        strict=True,
    )
    for symbol, time, price, bits, q in columns:
        bid, ask = spread(price)
        texts.append(
            f'{{"ev":"Q","sym":"{tickers[symbol]}","bx":12,"bp":{bid!r},"bs":{1 + bits % 9},"ax":11,"ap":{ask!r},'
            f'"as":{1 + (bits >> 8) % 9},"c":0,"t":{time},"q":{q},"z":{tapes[symbol]}}}'
        )
    return texts


def spread(price: float) -> tuple[float, float]:
    """Bid and ask around a price: a few hundredths of a percent, at least a tick each way."""
    digits, tick = (2, 0.01) if price >= 1.0 else (4, 0.0001)
    half = max(tick, round(price * 0.0002, digits))
    return max(round(price - half, digits), tick), round(price + half, digits)


# Events that a feed should set aside; {time} is the second's in ms.
BAD_TICKS: Final = (
    '{{"ev":"T","sym":"{symbol}","x":4,"i":"b{time}","z":3,"p":100000000.0,"s":100,"t":{time},"q":{time}}}',
    '{{"ev":"T","sym":"{symbol}","x":4,"i":"b{time}","z":3,"p":-1.0,"s":100,"t":{time},"q":{time}}}',
    '{{"ev":"T","sym":"{symbol}","x":4,"i":"b{time}","z":3,"p":10.0,"s":0,"t":{time},"q":{time}}}',
    '{{"ev":"T","sym":"{symbol}","x":4,"i":"b{time}","z":3,"p":"n/a","s":100,"t":{time},"q":{time}}}',
    '{{"ev":"T","sym":"{symbol}","x":4,"i":"b{time}","z":3,"s":100,"t":{time},"q":{time}}}',
    '{{"ev":"T","sym":"?{symbol}","x":4,"i":"b{time}","z":3,"p":10.0,"s":100,"t":{time},"q":{time}}}',
    '{{"ev":"T","sym":"{symbol}","x":4,"i":"b{time}","z":3,"p":10.0,"s":100,"t":0,"q":{time}}}',
    '{{"ev":"AM","sym":"{symbol}","v":100,"av":100,"vw":10.0,"o":10.0,"c":10.0,"h":9.0,"l":11.0,"a":10.0,"z":100,'
    '"s":{time},"e":{time}}}',
)  # fmt: skip
