"""The vendor's REST interface (Polygon.io, also called Massive).

One client per process: connections are kept alive, the number of requests in
flight is bounded, and a 429 holds all of them back, not only the one that got it.
A malformed item of an answer is counted in `set_aside` and left out; an answer
that is malformed as a whole is requested again.
"""

import asyncio
import datetime
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache, partial
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
from yarl import URL

from services.kit.runtime.http_session import REQUEST_ERRORS, LateSession, open_session
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.vendor.models import (
    AggregateBar,
    Condition,
    GroupedBar,
    MarketHoliday,
    MarketStatus,
    SnapshotTicker,
    Split,
    TickerDetails,
    TickerFloat,
    TickerSummary,
    VolumeBar,
)

Item = TypeVar("Item", bound=msgspec.Struct)
Answer = TypeVar("Answer")
Date = datetime.date | str
Query = Mapping[str, str | int | bool]

log = get_logger(__name__)

# A cursor that never ends is the vendor's error, not a reason to fill our memory.
MAX_PAGES: Final = 10_000
CONNECT_SECONDS: Final = 10.0
RETRIED_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
# What most answers are.
OBJECT: Final = "an object with results"
# msgspec meets invalid UTF-8 only when it makes the string.
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class VendorError(Exception):
    """The vendor gave no usable answer.

    `status` is the last HTTP status, 0 when there was none; `retryable`: a later
    request may succeed (not so for a refused key).
    """

    def __init__(self, message: str, *, status: int = 0, retryable: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable

    @property
    def is_refusal(self) -> bool:
        """True if the key lacks a right: requests of this kind for other symbols fail as well."""
        return self.status in (401, 403)


class _Envelope(msgspec.Struct):
    """The object around the items, which are in one of the two lists, depending on the endpoint."""

    results: msgspec.Raw = msgspec.Raw(b"null")
    tickers: msgspec.Raw = msgspec.Raw(b"null")
    next_url: str | None = None


class _Page(msgspec.Struct, Generic[Item]):
    """The same with its items decoded."""

    results: list[Item] | None = None
    tickers: list[Item] | None = None
    next_url: str | None = None


class AggregateSource(Protocol):
    """The part of VendorClient that gives the bars of a symbol."""

    async def aggs(self, ticker: str, n: int, unit: str, start: int, end: int) -> list[AggregateBar]:
        """Returns the bars between two times in ms since 1970 UTC, both included; raises VendorError."""


class VendorClient:
    """Asynchronous client; use as `async with VendorClient(...) as vendor`.

    Args:
        base_url: scheme and host, "https://api.polygon.io"; a path is kept as prefix.
        api_key: sent as a Bearer token, to this host only; empty for a vendor that needs none.
        concurrency: most requests in flight.
        attempts: how often a request is tried before VendorError.
        timeout_s, retry_base_s, retry_max_s: seconds; the pause before attempt n
            is random between 0 and min(retry_max_s, retry_base_s * 2**n), or what
            Retry-After requests plus that.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        concurrency: int = 8,
        attempts: int = 8,
        timeout_s: float = 30.0,
        retry_base_s: float = 0.5,
        retry_max_s: float = 60.0,
        rng: random.Random | None = None,
    ) -> None:
        self.set_aside: Counter[str] = Counter()
        self.requests = 0
        self.retries = 0
        self._base = base_url.rstrip("/")
        self._path_prefix = urlsplit(self._base).path
        self._origin = self._base.removesuffix(self._path_prefix)
        self._slots = asyncio.Semaphore(concurrency)
        self._attempts = attempts
        self._retry_base_s = retry_base_s
        self._retry_max_s = retry_max_s
        self._rng = rng or random.Random()
        self._not_before = 0.0
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._http = LateSession(
            lambda: open_session(
                self._base,
                timeout_s=timeout_s,
                connect_s=min(timeout_s, CONNECT_SECONDS),
                headers=headers,
                connections=concurrency,
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.close()

    async def snapshot(self) -> list[SnapshotTicker]:
        """Every symbol's day, previous day, newest minute, last trade and last quote."""
        path = "/v2/snapshot/locale/us/markets/stocks/tickers"
        return await self._all(path, {}, SnapshotTicker)

    async def grouped_daily(self, date: Date, adjusted: bool = True) -> list[GroupedBar]:
        """The daily bars of all symbols on `date`; empty on a day without trading."""
        path = f"/v2/aggs/grouped/locale/us/market/stocks/{date}"
        return await self._all(path, {"adjusted": adjusted}, GroupedBar)

    async def aggs(
        self,
        ticker: str,
        n: int,
        unit: str,
        start: Date | int,
        end: Date | int,
        adjusted: bool = True,
        limit: int = 50_000,
    ) -> list[AggregateBar]:
        """Bars of `n` `unit`s ("minute", "day" ...) of one symbol, in order of time.

        `start` and `end` are inclusive dates, or milliseconds since 1970 UTC.
        """
        path = f"/v2/aggs/ticker/{quote(ticker, safe='')}/range/{n}/{unit}/{start}/{end}"
        query: Query = {"adjusted": adjusted, "sort": "asc", "limit": limit}
        return await self._all(path, query, AggregateBar)

    async def volume_bars(
        self, ticker: str, n: int, unit: str, start: Date, end: Date, adjusted: bool = True
    ) -> list[VolumeBar]:
        """The same without prices: for thousands of symbols' histories, at half the cost."""
        path = f"/v2/aggs/ticker/{quote(ticker, safe='')}/range/{n}/{unit}/{start}/{end}"
        query: Query = {"adjusted": adjusted, "sort": "asc", "limit": 50_000}
        return await self._all(path, query, VolumeBar)

    async def tickers(self, active: bool = True, market: str = "stocks", limit: int = 1000) -> list[TickerSummary]:
        """All symbols of a market."""
        query: Query = {"market": market, "active": active, "limit": limit, "sort": "ticker", "order": "asc"}
        return await self._all("/v3/reference/tickers", query, TickerSummary)

    async def ticker_details(self, ticker: str, date: Date | None = None) -> TickerDetails | None:
        """One symbol's metadata, as of `date`; None when the vendor doesn't know the symbol."""
        query = {} if date is None else {"date": str(date)}
        url = self._url(f"/v3/reference/tickers/{quote(ticker, safe='')}", query)
        try:
            envelope = await self._fetch(url, partial(msgspec.json.decode, type=_Envelope), OBJECT)
        except VendorError as error:
            if error.status == 404:
                return None
            raise
        try:
            return msgspec.json.decode(envelope.results, type=TickerDetails | None)
        except MALFORMED as error:
            self._count(TickerDetails, error)
            return None

    async def floats(self, tickers: Sequence[str] = (), limit: int = 5000) -> list[TickerFloat]:
        """The newest free float of all symbols, or of `tickers`; not every plan has it: then VendorError 403."""
        query: dict[str, str | int | bool] = {"limit": limit, "sort": "ticker.asc"}
        if tickers:
            query["ticker.any_of"] = ",".join(tickers)
        return await self._all("/stocks/vX/float", query, TickerFloat)

    async def conditions(self, asset_class: str = "stocks", limit: int = 1000) -> list[Condition]:
        """The vendor's conditions of trades and quotes with their update rules."""
        query: Query = {"asset_class": asset_class, "limit": limit}
        return await self._all("/v3/reference/conditions", query, Condition)

    async def splits(
        self, start: Date | None = None, end: Date | None = None, ticker: str | None = None, limit: int = 1000
    ) -> list[Split]:
        """Splits with an execution date in [start, end]; of one symbol when `ticker` is given."""
        query: dict[str, str | int | bool] = {"limit": limit, "order": "asc", "sort": "execution_date"}
        if start is not None:
            query["execution_date.gte"] = str(start)
        if end is not None:
            query["execution_date.lte"] = str(end)
        if ticker is not None:
            query["ticker"] = ticker
        return await self._all("/v3/reference/splits", query, Split)

    async def market_status(self) -> MarketStatus:
        """Returns the vendor's now, and which of its markets are open."""
        url = self._url("/v1/marketstatus/now", {})
        return await self._fetch(url, partial(msgspec.json.decode, type=MarketStatus), "a market status")

    async def market_holidays(self) -> list[MarketHoliday]:
        """The coming holidays and early closes, one row per exchange."""
        return self._items(await self._get("/v1/marketstatus/upcoming", {}), MarketHoliday)

    async def _all(self, path: str, query: Query, kind: type[Item]) -> list[Item]:
        """Returns the items of all pages."""
        found: list[Item] = []
        seen: set[str] = set()
        url = self._url(path, query)
        for _ in range(MAX_PAGES):
            page = await self._fetch(url, partial(self._page, kind=kind), OBJECT)
            found += page.results or ()
            found += page.tickers or ()
            if not page.next_url:
                return found
            if page.next_url in seen:
                raise VendorError(f"{path}: expected a new next_url, was the same again", retryable=False)
            seen.add(page.next_url)
            url = self._following(page.next_url)
        raise VendorError(f"{path}: expected at most {MAX_PAGES} pages", retryable=False)

    def _page(self, body: bytes, kind: type[Item]) -> _Page[Item]:
        try:
            return _page_decoder(kind).decode(body)
        except MALFORMED:
            pass  # An item is wrong, or the page is: find out which.
        envelope = msgspec.json.decode(body, type=_Envelope)
        return _Page(self._items(envelope.results, kind), self._items(envelope.tickers, kind), envelope.next_url)

    def _items(self, raw: msgspec.Raw, kind: type[Item]) -> list[Item]:
        """Those that are well-formed."""
        try:
            pieces = msgspec.json.decode(raw, type=list[msgspec.Raw] | None)
        except MALFORMED as error:
            self._count(kind, error)
            return []
        items: list[Item] = []
        for piece in pieces or ():
            try:
                items.append(msgspec.json.decode(piece, type=kind))
            except MALFORMED as error:
                self._count(kind, error)
        return items

    def _count(self, kind: type[msgspec.Struct], error: Exception) -> None:
        self.set_aside[kind.__name__] += 1
        log.warning("item of the vendor set aside", item=kind.__name__, error=reason_of(error))

    def _url(self, path: str, query: Query) -> URL:
        values = [(name, str(each).lower() if isinstance(each, bool) else str(each)) for name, each in query.items()]
        return self._encoded(self._path_prefix + path, values)

    def _following(self, next_url: str) -> URL:
        """Returns the next page at the configured host, whichever host the vendor wrote."""
        try:
            parts = urlsplit(next_url)
        except ValueError as error:
            raise VendorError(f"expected a URL as next_url, was {next_url!r}", retryable=False) from error
        path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
        pairs = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "apiKey"]
        path = quote(path.removeprefix(self._path_prefix), safe="/%:,.-_~")
        return self._encoded(self._path_prefix + path, pairs)

    def _encoded(self, path: str, query: Sequence[tuple[str, str]]) -> URL:
        return URL(self._origin + path + (f"?{urlencode(query)}" if query else ""), encoded=True)

    async def _get(self, path: str, query: Query) -> msgspec.Raw:
        """Returns the JSON of an answer, of any shape; raises VendorError."""
        return await self._fetch(self._url(path, query), partial(msgspec.json.decode, type=msgspec.Raw), "JSON")

    async def _fetch(self, url: URL, decode: Callable[[bytes], Answer], expected: str) -> Answer:
        """Returns what `decode` makes of the body of a 200; raises VendorError.

        `decode` raises one of MALFORMED for what is not `expected`: then the body is requested again if it is not JSON.
        """
        fault, status = "", 0
        for attempt in range(self._attempts):
            if attempt:
                self.retries += 1
            async with self._slots:
                await self._wait_for_limit()
                self.requests += 1
                try:
                    async with self._http.opened().get(url, allow_redirects=False) as response:
                        status, body = response.status, await response.read()
                except REQUEST_ERRORS as error:
                    fault, status = described(error), 0
                else:
                    if status == 200:
                        try:
                            return decode(body)
                        except MALFORMED as error:
                            fault = _json_fault(body)
                            if not fault:
                                raise VendorError(
                                    f"{url.path}: expected {expected}, was: {reason_of(error)}", status=status
                                ) from error
                    else:
                        fault = f"HTTP {status}: {body[:200].decode(errors='replace')}"
                        if status not in RETRIED_STATUS:
                            raise VendorError(f"GET {url.path}: {fault}", status=status, retryable=False)
                    if status == 429:
                        self._hold_back(_retry_after_s(response.headers))
            # From 0 on, unlike Backoff: a limit at the vendor is shared, and requests are to spread over all of it.
            pause = self._rng.uniform(0.0, min(self._retry_max_s, self._retry_base_s * 2**attempt))
            log.warning("request to the vendor failed", path=url.path, attempt=attempt + 1, error=fault, again_in=pause)
            if attempt + 1 < self._attempts:
                await asyncio.sleep(pause)
        raise VendorError(f"GET {url.path}: {fault} (after {self._attempts} attempts)", status=status)

    async def _wait_for_limit(self) -> None:
        loop = asyncio.get_running_loop()
        # Another 429 may have moved it while we slept.
        while (pause := self._not_before - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(pause)

    def _hold_back(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + min(seconds, self._retry_max_s)
        self._not_before = max(self._not_before, until)


@cache
def _page_decoder(kind: type[Item]) -> msgspec.json.Decoder[_Page[Item]]:
    return msgspec.json.Decoder(_Page[kind])  # type: ignore[valid-type]


def _json_fault(body: bytes) -> str:
    """Returns why the body is not whole JSON; empty when it is."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except MALFORMED as error:
        return f"expected JSON, was: {reason_of(error)}"
    return ""


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Returns the seconds of Retry-After; a date is relative to the answer's own Date."""
    value = headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (until - now).total_seconds())
