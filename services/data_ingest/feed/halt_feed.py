"""The trade-halt feed of all US markets: an RSS document of items with ndaq:HaltDate, IssueSymbol, ReasonCode ...

Nothing of it is believed: its size and its items are bounded, it may declare
no entities, and an item that is malformed is counted and left out.

Its markets have several conventions for what follows a symbol's root: with a space
(BRK B, BAC PRL), with a stroke (BRK/B, ABC/WS), with signs ($ and - preferred,
+ warrant, = unit, ^ right, # when issued) and with a dot and one letter (.W, .U,
.R, .V). The vendor writes BRK.B, BACpL, ABC.WS, ABC.WS.A, ABC.U, ABCr, ABCw.
"""

import asyncio
import datetime
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Final, NamedTuple
from xml.parsers import expat

from services.kit.runtime.clock import NEW_YORK, NS_PER_SECOND
from services.kit.runtime.http_session import REQUEST_ERRORS, LateSession, open_session
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described

log = get_logger(__name__)

MAX_BYTES: Final = 1 << 20
MAX_ITEMS: Final = 2000
# So much is read before others get their turn: a millisecond of work.
STEP_BYTES: Final = 16 * 1024
MAX_FIELD: Final = 64
# So many malformed items of a document are named in the log, all are counted.
NAMED_ITEMS: Final = 20
TIMEOUT_SECONDS: Final = 20.0

_FIELDS: Final = frozenset(
    {"HaltDate", "HaltTime", "IssueSymbol", "ReasonCode", "ResumptionDate", "ResumptionTradeTime"}
)
_SYMBOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9 .$+=^#/\-]{0,15}")
_REASON: Final = re.compile(r"[A-Z0-9][A-Z0-9 .,/\-]{0,11}")
_DATE: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")
# Some have a space before the fraction.
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}) ?(?:\.(\d{1,9}))?")
# A symbol's root and what follows it.
_SPLIT: Final = re.compile(r"([A-Za-z]+)([ ./$+=^#\-].*)?")
# The suffix without spaces and strokes, and how the vendor writes it; \1 is a class letter.
_SUFFIXES: Final = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"\.([A-Z])", r".\1"),
        (r"(?:\$|-|\.?PR\.?)([A-Z]?)", r"p\1"),
        (r"(?:\+|\.?WS\.?)([A-Z])", r".WS.\1"),
        (r"\+|\.WS?|WS", ".WS"),
        (r"=|\.?U", ".U"),
        (r"\^|\.R|\.?RT", "r"),
        (r"\^#|\.?RTWI", "rw"),
        (r"#|\.[VZ]|\.?WI", "w"),
        (r"([A-Z])", r".\1"),
    )
)


class HaltFeedError(Exception):
    """The feed could not be had, or is none."""


class HaltItem(NamedTuple):
    """A halt; times in ns since 1970 UTC, `resumes_at_ns` 0 until it is announced. `symbol` in the feed's spelling."""

    symbol: str
    halted_at_ns: int
    resumes_at_ns: int
    reason: str


class _MalformedItem(Exception):
    """`part` is the part that is malformed."""

    def __init__(self, part: str, text: str) -> None:
        super().__init__(text)
        self.part = part


class HaltFeedParser:
    """Takes the document in pieces; `items` and `set_aside`, by what was wrong, grow with them.

    feed() and close() raise HaltFeedError when it is no such feed.
    """

    def __init__(self) -> None:
        self.items: list[HaltItem] = []
        self.set_aside: Counter[str] = Counter()
        self._root = ""
        self._item: dict[str, str] | None = None
        self._field: str | None = None
        self._bytes = self._count = 0
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse

    def feed(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise HaltFeedError(f"expected at most {MAX_BYTES} bytes, the feed has more")
        self._parse(data, False)

    def close(self) -> None:
        """The document is complete."""
        self._parse(b"", True)

    def _parse(self, data: bytes, is_last: bool) -> None:
        try:
            self._parser.Parse(data, is_last)
        except (expat.ExpatError, UnicodeDecodeError, LookupError) as error:
            raise HaltFeedError(f"expected an RSS document: {error}") from error

    def _refuse(self, *_: object) -> None:
        raise HaltFeedError("expected no document type and no entities, was one that declares some")

    def _start(self, name: str, _: object) -> None:
        local = name.rpartition(":")[2]
        if not self._root:
            self._root = local
            if local != "rss":
                raise HaltFeedError(f"expected an RSS document, was <{name[:MAX_FIELD]}>")
        if local == "item":
            self._item = {}
        elif self._item is not None:
            self._field = local if local in _FIELDS else None

    def _text(self, text: str) -> None:
        if self._item is not None and self._field is not None:
            self._item[self._field] = (self._item.get(self._field, "") + text)[: 4 * MAX_FIELD]

    def _end(self, name: str) -> None:
        self._field = None
        if name.rpartition(":")[2] != "item" or self._item is None:
            return
        item, self._item = self._item, None
        self._count += 1
        if self._count > MAX_ITEMS:
            self.set_aside["too_many"] += 1
            return
        try:
            self.items.append(_item({field: text.strip() for field, text in item.items()}))
        except _MalformedItem as error:
            self.set_aside[error.part] += 1
            if self.set_aside.total() <= NAMED_ITEMS:
                name = item.get("IssueSymbol", "")[:MAX_FIELD]
                log.warning("halt set aside", symbol=name, wrong=error.part, was=str(error))


def _item(fields: dict[str, str]) -> HaltItem:
    symbol, reason = fields.get("IssueSymbol", ""), fields.get("ReasonCode", "").upper()
    if _SYMBOL.fullmatch(symbol) is None:
        raise _MalformedItem("symbol", symbol[:MAX_FIELD])
    if reason and _REASON.fullmatch(reason) is None:
        raise _MalformedItem("reason", reason[:MAX_FIELD])
    date = fields.get("HaltDate", "")
    halted_at_ns = _time_ns(date, fields.get("HaltTime", ""))
    resumes_at_ns = 0
    if resumes := fields.get("ResumptionTradeTime", ""):
        resumes_at_ns = _time_ns(fields.get("ResumptionDate", "") or date, resumes)
        if resumes_at_ns <= halted_at_ns:
            raise _MalformedItem("resumption", f"{fields.get('ResumptionDate', '')} {resumes}"[:MAX_FIELD])
    return HaltItem(symbol, halted_at_ns, resumes_at_ns, reason)


def _time_ns(date: str, time: str) -> int:
    """Of a New York date and time of day."""
    day, clock = _DATE.fullmatch(date), _TIME.fullmatch(time)
    if day is None or clock is None:
        raise _MalformedItem("date" if day is None else "time", f"{date} {time}"[:MAX_FIELD])
    try:
        time_of_day = datetime.datetime(
            int(day[3]), int(day[1]), int(day[2]), int(clock[1]), int(clock[2]), int(clock[3]), tzinfo=NEW_YORK
        )
        seconds = int(time_of_day.timestamp())
    except (ValueError, OverflowError) as error:
        raise _MalformedItem("date", f"{date} {time}"[:MAX_FIELD]) from error
    if not 0 < seconds < 1 << 32:
        raise _MalformedItem("date", f"{date} {time}"[:MAX_FIELD])
    return seconds * NS_PER_SECOND + int((clock[4] or "").ljust(9, "0"))


class HaltFeed:
    """The feed at a URL. `set_aside` counts malformed items by what was wrong, since the start. Close it."""

    def __init__(self, url: str) -> None:
        self.set_aside: Counter[str] = Counter()
        self._url = url
        # Of the document that was read last.
        self._conditions: dict[str, str] = {}
        # Compressed, a document's size would be anybody's guess.
        headers = {"Accept": "application/rss+xml, application/xml, text/xml", "Accept-Encoding": "identity"}
        self._http = LateSession(lambda: open_session(url, timeout_s=TIMEOUT_SECONDS, headers=headers))

    async def fetch(self) -> list[HaltItem] | None:
        """Its items, None when it is as it was; raises HaltFeedError. Other tasks continue meanwhile."""
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._http.opened().get(self._url, headers=self._conditions, allow_redirects=False) as response,
            ):
                if response.status == HTTPStatus.NOT_MODIFIED:
                    return None
                if response.status != HTTPStatus.OK:
                    raise HaltFeedError(f"expected status 200, was {response.status}")
                if encoding := response.headers.get("content-encoding", ""):
                    raise HaltFeedError(f"expected a plain document, was encoded as {encoding[:MAX_FIELD]}")
                parser = await _parsed(response.content.iter_chunked(STEP_BYTES))
                conditions = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
                self._conditions = {
                    name: response.headers[header] for name, header in conditions.items() if header in response.headers
                }
        except REQUEST_ERRORS as error:
            raise HaltFeedError(described(error)) from error
        self.set_aside.update(parser.set_aside)
        return parser.items

    async def close(self) -> None:
        await self._http.close()


async def _parsed(pieces: AsyncIterator[bytes]) -> HaltFeedParser:
    parser = HaltFeedParser()
    async for piece in pieces:
        parser.feed(piece)
        await asyncio.sleep(0)
    parser.close()
    return parser


def spellings(symbol: str) -> Iterator[str]:
    """The ways in which the vendor may write it, the likeliest first; the name as it is is one."""
    yield symbol
    parts = _SPLIT.fullmatch(symbol)
    if parts is None or not parts[2]:
        return
    root, suffix = parts[1], parts[2]
    if suffix[0] in " /":
        suffix = suffix[1:].replace("/", ".")
    seen = {symbol}
    for pattern, written in _SUFFIXES:
        if (match := pattern.fullmatch(suffix)) is not None:
            name = root + match.expand(written)
            if name not in seen:
                seen.add(name)
                yield name
