"""The trade-halt feed: today's halts of all markets as the RSS document that Nasdaq publishes.

LULD messages exist for Nasdaq-listed symbols in regular hours only (tape.py); this document has all
halts, and announces when trading resumes some minutes after a halt has begun.
"""

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from services.kit.runtime.clock import NS_PER_SECOND
from services.simulator.calendar import MINUTE_NS, new_york_time
from services.simulator.hashing import key, mix_one
from services.simulator.market import Market
from services.simulator.stories import Halt
from services.simulator.symbols import Universe

MARKETS: Final = ("NASDAQ", "NYSE", "NYSE Arca", "NYSE American", "Cboe BZX")
# A pause of so many minutes is one for volatility; a longer halt is for news.
LONGEST_PAUSE: Final = 10
VOLATILITY, NEWS = "LUDP", "T1"
# The published beginning is up to this much later than that of LULD messages.
DELAY_MS: Final = 1_500
FIELDS: Final = (
    "HaltDate", "HaltTime", "IssueSymbol", "IssueName", "Market", "ReasonCode", "PauseThresholdPrice", "ResumptionDate",
    "ResumptionQuoteTime", "ResumptionTradeTime",
)  # fmt: skip


class HaltDocument(NamedTuple):
    """`changed`: the time of its last change."""

    body: bytes
    etag: str
    changed: datetime.datetime

    def is_as(self, headers: Mapping[str, str]) -> bool:
        """True if the client has it, by the request's If-None-Match or else If-Modified-Since."""
        if (tags := headers.get("If-None-Match")) is not None:
            return self.etag in (tag.strip() for tag in tags.split(","))
        try:
            since = parsedate_to_datetime(headers.get("If-Modified-Since", ""))
        except (ValueError, TypeError):
            return False
        return since.tzinfo is not None and self.changed <= since

    @property
    def modified(self) -> str:
        """The value of Last-Modified."""
        return format_datetime(self.changed, usegmt=True)


class _Item(NamedTuple):
    symbol: int
    halted_ns: int
    # 0 until it is announced.
    resumes_ns: int
    quotes_ns: int
    reason: str
    changed_ns: int


def document(market: Market) -> HaltDocument:
    """Returns the feed at the market's now, the newest halt first."""
    items = sorted(_items(market), key=lambda item: (-item.halted_ns, item.symbol))
    changed_ns = max((item.changed_ns for item in items), default=market.day.start_ns)
    changed = datetime.datetime.fromtimestamp(changed_ns // NS_PER_SECOND, datetime.UTC)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<rss version="2.0" xmlns:ndaq="http://www.nasdaqtrader.com/">',
        "  <channel>",
        "    <title>Trade halts of the simulated market</title>",
        f"    <pubDate>{format_datetime(changed, usegmt=True)}</pubDate>",
        "    <ttl>1</ttl>",
        f"    <ndaq:numItems>{len(items)}</ndaq:numItems>",
        *(line for item in items for line in _lines(market.universe, item)),
        "  </channel>",
        "</rss>",
    ]
    body = "\r\n".join(lines).encode()
    return HaltDocument(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', changed)


def _items(market: Market) -> Iterator[_Item]:
    day, now_ns = market.day, market.now_ns
    for symbol, halts in market.market_day.halts.items():
        for halt in halts:
            delay_ms = mix_one(key(23, symbol, day.number, halt.first)) % DELAY_MS
            halted_ns = day.minute_ns(halt.first) + delay_ms * 1_000_000
            if halted_ns > now_ns:
                continue
            resumes_ns = day.minute_ns(halt.last)
            reason, quotes_ns, announced_ns = _announcement(halt, resumes_ns)
            is_announced = announced_ns <= now_ns
            yield _Item(
                symbol,
                halted_ns,
                resumes_ns if is_announced else 0,
                quotes_ns if is_announced else 0,
                reason,
                announced_ns if is_announced else halted_ns,
            )


def _announcement(halt: Halt, resumes_ns: int) -> tuple[str, int, int]:
    """The reason, when quotes resume, and when this and the resumption are announced."""
    if halt.last - halt.first <= LONGEST_PAUSE:
        return VOLATILITY, resumes_ns - MINUTE_NS, resumes_ns - 2 * MINUTE_NS
    return NEWS, resumes_ns - 5 * MINUTE_NS, resumes_ns - 10 * MINUTE_NS


def _lines(universe: Universe, item: _Item) -> Iterator[str]:
    halted = new_york_time(item.halted_ns)
    ticker = universe.tickers[item.symbol]
    values = (
        f"{halted:%m/%d/%Y}",
        f"{halted:%H:%M:%S}.{halted.microsecond // 1000:03}",
        ticker,
        universe.name(item.symbol),
        MARKETS[int(universe.exchange[item.symbol])],
        item.reason,
        "",
        f"{new_york_time(item.resumes_ns):%m/%d/%Y}" if item.resumes_ns else "",
        f"{new_york_time(item.quotes_ns):%H:%M:%S}" if item.quotes_ns else "",
        f"{new_york_time(item.resumes_ns):%H:%M:%S}" if item.resumes_ns else "",
    )
    yield "    <item>"
    yield f"      <title>{escape(ticker)}</title>"
    for field, value in zip(FIELDS, values, strict=True):
        yield f"      <ndaq:{field}>{escape(value)}</ndaq:{field}>" if value else f"      <ndaq:{field} />"
    yield "    </item>"
