"""The trade-halt feed: what is read of it, what is set aside, and what is no such feed."""

from datetime import datetime

import pytest

from services.data_ingest.feed.halt_feed import (
    MAX_BYTES,
    MAX_ITEMS,
    HaltFeed,
    HaltFeedError,
    HaltFeedParser,
    HaltItem,
    spellings,
)
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.settings import NASDAQ_HALTS, Settings
from tests.support.halt_document import HEAD, HaltServer, halt_document, halt_item

DATE = "11/24/2025"


def ns(text: str) -> int:
    """Of a New York time, with milliseconds."""
    moment = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000


def parsed(document: bytes, step: int = 1000) -> HaltFeedParser:
    parser = HaltFeedParser()
    for at in range(0, len(document), step):
        parser.feed(document[at : at + step])
    parser.close()
    return parser


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_items(step: int) -> None:
    document = halt_document(
        [
            halt_item("ABCD", DATE, "10:01:02.345", "LUDP", "10:06:02", market="NASDAQ"),
            halt_item("  BRK.B ", DATE, "09:45:00", "T1"),
            halt_item("OLD", "03/07/2025", "19:50:00", "T12"),
            halt_item("SPACE", DATE, "07:32:12 .5", "t1", "9:30:00", "11/25/2025"),
        ]
    )
    parser = parsed(b"\xef\xbb\xbf" + document, step)
    assert parser.items == [
        HaltItem("ABCD", ns("2025-11-24T10:01:02.345"), ns("2025-11-24T10:06:02"), "LUDP"),
        HaltItem("BRK.B", ns("2025-11-24T09:45:00"), 0, "T1"),
        HaltItem("OLD", ns("2025-03-07T19:50:00"), 0, "T12"),
        HaltItem("SPACE", ns("2025-11-24T07:32:12.500"), ns("2025-11-25T09:30:00"), "T1"),
    ]
    assert not parser.set_aside


def test_a_day_of_no_halts() -> None:
    assert parsed(halt_document([])).items == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (halt_item("", DATE, "10:00:00"), "symbol"),
        (halt_item("?A", DATE, "10:00:00"), "symbol"),
        (halt_item("A" * 40, DATE, "10:00:00"), "symbol"),
        (halt_item("A", "24/11/2025", "10:00:00"), "date"),
        (halt_item("A", "2025-11-24", "10:00:00"), "date"),
        (halt_item("A", "", "10:00:00"), "date"),
        (halt_item("A", "11/24/9999", "10:00:00"), "date"),
        (halt_item("A", "11/24/1900", "10:00:00"), "date"),
        (halt_item("A", DATE, ""), "time"),
        (halt_item("A", DATE, "25:00:00"), "date"),
        (halt_item("A", DATE, "10:00"), "time"),
        (halt_item("A", DATE, "10:00:00", "T1; DROP"), "reason"),
        (halt_item("A", DATE, "10:00:00", resumes="09:59:59"), "resumption"),
        (halt_item("A", DATE, "10:00:00", resumes="10:00:00"), "resumption"),
        (halt_item("A", DATE, "10:00:00", resumes="soon"), "time"),
        ("<item/>", "symbol"),
    ],
)
def test_a_malformed_item_is_set_aside_and_the_others_go_on(item: str, reason: str) -> None:
    parser = parsed(halt_document([item, halt_item("GOOD", DATE, "10:00:00")]))
    assert [good.symbol for good in parser.items] == ["GOOD"]
    assert parser.set_aside == {reason: 1}


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<rss><channel><item>&b;</item></channel></rss>"
)


@pytest.mark.parametrize(
    ("document", "match"),
    [
        (b"", "no element found"),
        (b"Service unavailable", "expected an RSS document"),
        (b"<html><body>maintenance</body></html>", "was <html>"),
        (halt_document([halt_item("A", DATE, "10:00:00")])[:-20], "expected an RSS document"),
        (BOMB.encode(), "no entities"),
        (b'<!DOCTYPE rss SYSTEM "file:///etc/passwd"><rss/>', "no entities"),
        (b"<rss>&nbsp;</rss>", "undefined entity"),
        (b"<rss>\xff\xfe\x00</rss>", "expected an RSS document"),
        (HEAD.encode() + b"<channel>" * (MAX_BYTES // 9), "expected at most"),
        (b'<?xml version="1.0" encoding="nonsense"?><rss/>', "expected an RSS document"),
    ],
)
def test_what_is_no_feed(document: bytes, match: str) -> None:
    with pytest.raises(HaltFeedError, match=match):
        parsed(document)


def test_items_are_bounded() -> None:
    item = "<item><ndaq:IssueSymbol>A</ndaq:IssueSymbol><ndaq:HaltDate>11/24/2025</ndaq:HaltDate></item>"
    small = item.replace("</item>", "<ndaq:HaltTime>10:00:00</ndaq:HaltTime></item>")
    parser = parsed(halt_document([small] * (MAX_ITEMS + 5)), 16 * 1024)
    assert len(parser.items) == MAX_ITEMS
    assert parser.set_aside == {"too_many": 5}
    # A field that never ends is cut, and the item set aside.
    long = halt_item("A", DATE, "10:00:00").replace("T1<", "T" * 500_000 + "<")
    assert parsed(halt_document([long])).set_aside == {"reason": 1}


@pytest.mark.parametrize(
    ("feed", "vendor"),
    [
        ("AAPL", "AAPL"), ("BRK.B", "BRK.B"), ("BRK B", "BRK.B"), ("BRK/B", "BRK.B"),
        ("BAC$L", "BACpL"), ("BAC-L", "BACpL"), ("BAC PRL", "BACpL"), ("BAC$", "BACp"), ("BACpL", "BACpL"),
        ("BKSY.W", "BKSY.WS"), ("BKSY+", "BKSY.WS"), ("BKSY/WS", "BKSY.WS"), ("BKSY WS", "BKSY.WS"),
        ("ABC+A", "ABC.WS.A"), ("ABC/WS/A", "ABC.WS.A"), ("ABC WSA", "ABC.WS.A"),
        ("ABC=", "ABC.U"), ("ABC.U", "ABC.U"), ("ABC/U", "ABC.U"),
        ("ABC^", "ABCr"), ("ABC.R", "ABCr"), ("ABC RT", "ABCr"),
        ("ABC#", "ABCw"), ("ABC.V", "ABCw"), ("ABC WI", "ABCw"), ("ABC^#", "ABCrw"),
    ],
)  # fmt: skip
def test_spellings(feed: str, vendor: str) -> None:
    assert vendor in list(spellings(feed))
    # What the feed writes itself comes first, where the vendor has it.
    assert next(spellings(feed)) == feed


async def test_a_feed_is_read_again_when_it_has_changed() -> None:
    async with HaltServer() as server:
        server.body = halt_document([halt_item("A", DATE, "10:00:00"), halt_item("?", DATE, "10:00:00")])
        feed = HaltFeed(server.url)
        try:
            assert [item.symbol for item in await feed.fetch() or []] == ["A"]
            assert await feed.fetch() is None
            assert (server.seen[0], server.answers) == (None, [200, 304])
            server.status = 503
            with pytest.raises(HaltFeedError, match="expected status 200, was 503"):
                await feed.fetch()
            server.status, server.body = 200, b"<html/>"
            with pytest.raises(HaltFeedError, match="was <html>"):
                await feed.fetch()
            # A document that could not be read is asked for again.
            with pytest.raises(HaltFeedError, match="was <html>"):
                await feed.fetch()
            server.body = halt_document([])
            assert await feed.fetch() == []
            assert feed.set_aside == {"symbol": 1}
        finally:
            await feed.close()


async def test_nobody_answers() -> None:
    feed = HaltFeed("http://127.0.0.1:1/rss.aspx")
    try:
        with pytest.raises(HaltFeedError, match="ClientConnectorError"):
            await feed.fetch()
    finally:
        await feed.close()


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:9100/rss.aspx?feed=tradehalts"),
        ({"POLYGON_API_KEY": "k"}, NASDAQ_HALTS),
        ({"POLYGON_API_KEY": "k", "TRADEUL_HALTS_URL": ""}, ""),
        ({"TRADEUL_HALTS_URL": ""}, ""),
        ({"POLYGON_API_KEY": "k", "TRADEUL_HALTS_URL": "https://halts.example/feed"}, "https://halts.example/feed"),
        ({"POLYGON_API_KEY": "k", "TRADEUL_CLOCK": "feed"}, ""),
        ({"POLYGON_API_KEY": "k", "POLYGON_REST_URL": "http://127.0.0.1:1"}, ""),
        ({"TRADEUL_REPLAY_DATE": "2025-11-24", "TRADEUL_HALTS_URL": "https://halts.example/feed"}, ""),
    ],
)
def test_whose_feed_it_is(environment: dict[str, str], url: str) -> None:
    assert Settings.load(environment).halts_url == url
