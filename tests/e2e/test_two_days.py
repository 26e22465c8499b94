"""Two days of the simulated market's trades through the whole mesh: the second is as right as the first."""

import asyncio
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio
import pytest
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, frame_pb2, scanner_pb2, scanner_pb2_grpc

from fastcore.reference.market_twin import MarketTwin
from services.kit.runtime.setting_groups import SimSettings
from services.simulator.calendar import OPEN_MINUTE
from services.simulator.market import Market
from services.simulator.market_day import MarketDay
from services.simulator.messages import Kind
from services.simulator.tape import Tape
from tests.support.mesh import Mesh
from tests.support.pipeline import MS, trading_day
from tests.support.scripted_day import ScriptedDay
from tests.support.twin_frames import TwinFeed, fallback_rules, row_values
from tests.support.vendor_server import VendorServer

DAYS = (datetime.date(2025, 11, 24), datetime.date(2025, 11, 25))
SYMBOLS = 40
# The first minutes of the day, and those around the open.
PARTS = (range(20), range(OPEN_MINUTE - 1, OPEN_MINUTE + 2))
# A frame of the vendor's holds so many events.
FRAME_EVENTS = 200
COMPARED = (
    "price", "volume_today", "trades_today", "dollar_volume", "vwap", "open", "high", "low", "intraday_high",
    "intraday_low", "premarket_volume", "premarket_high", "premarket_low", "updated_at",
)  # fmt: skip

pytestmark = pytest.mark.timeout(300)


class Print(NamedTuple):
    """A trade of the tape, and by what one is a duplicate of another."""

    body: dict[str, Any]
    identity: tuple[Any, ...]


def tape_of(date: datetime.date) -> list[str]:
    """The texts of the trades of PARTS in the order in which they are sent, stumbles included."""
    plans = Market(SimSettings(seed=5, symbols=SYMBOLS, start=datetime.datetime.combine(date, datetime.time(4)))).plans
    texts: list[str] = []
    for part in PARTS:
        tape = Tape(plans, MarketDay(plans, plans.current), part.start)
        for _ in range(60 * len(part)):
            texts += [event.text for event in tape.second() if event.kind is Kind.T]
    return texts


def good_prints(date: datetime.date, texts: list[str]) -> Iterator[Print]:
    """Those that count: sound ones of the day, each once."""
    seen: set[tuple[Any, ...]] = set()
    day = trading_day(date)
    for text in texts:
        body = json.loads(text)
        price, size = body.get("p"), body.get("s")
        is_official = bool({15, 16} & set(body.get("c", ())))
        if (
            not isinstance(price, float)
            or not 0 < price < 1e7
            or not (size > 0 or is_official)
            or not body["sym"][0].isalpha()
            or not day.has(body["t"] * MS)
        ):
            continue
        identity = (body["sym"], body["x"], body.get("trfi", 0), body["i"])
        if identity not in seen:
            seen.add(identity)
            yield Print(body, identity)


class Twin:
    """The naive market, fed trade by trade."""

    def __init__(self, tickers: list[str]) -> None:
        day = ScriptedDay(1, symbols=2)
        # Of the symbols' names alone its frames are made here.
        day.by_name = dict.fromkeys(tickers, day.symbols[0])
        self.feed = TwinFeed(day)
        self.market = MarketTwin()
        self.newest_ns = 0
        self.market.apply(self.feed.frame(trade_rules=fallback_rules()))
        self.market.apply(self.feed.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.feed.symbols)))

    def begin(self, date: datetime.date) -> None:
        self.market.apply(self.feed.frame(trading_day=trading_day(date).frame()))

    def take(self, body: dict[str, Any]) -> None:
        self.newest_ns = max(self.newest_ns, body["t"] * MS)
        self.market.apply(self.feed.event(body))

    def rest(self) -> None:
        """A watermark where the feed stands."""
        self.market.apply(self.feed.frame(watermark=frame_pb2.Watermark(event_time_ns=self.newest_ns)))


def vendor_rest(path: str, query: dict[str, str]) -> Any:
    """A vendor that knows no companies and no history: everything comes from the trades."""
    if path == "/v1/marketstatus/now":
        return {"serverTime": f"{DAYS[0]}T04:00:00-05:00", "market": "extended-hours"}
    if path == "/v1/marketstatus/upcoming":
        return []
    if path == "/v2/snapshot/locale/us/markets/stocks/tickers":
        return {"status": "OK", "tickers": []}
    return {"status": "OK", "results": []} if path.startswith(("/v2/aggs/", "/v3/reference/")) else None


async def test_every_symbol_is_right_on_the_second_day(tmp_path: Path) -> None:
    texts = {date: tape_of(date) for date in DAYS}
    good = {date: list(good_prints(date, texts[date])) for date in DAYS}
    tickers = sorted({each.body["sym"] for prints in good.values() for each in prints})
    ids = [{each.identity for each in good[date]} for date in DAYS]
    # Who takes yesterday's trade ids for today's loses most of the second day.
    assert len(ids[0] & ids[1]) > 0.5 * len(ids[1])
    twin = Twin(tickers)
    admitted = 0
    async with VendorServer(vendor_rest) as vendor:
        settings = {**vendor.environment, "TRADEUL_CLOCK": "feed", "TRADEUL_SUBSCRIPTIONS": "T.*"}
        async with Mesh(tmp_path, settings) as mesh:
            async with (
                grpc.aio.insecure_channel(mesh.address("data_ingest")) as to_sequencer,
                grpc.aio.insecure_channel(mesh.address("gateway")) as to_scanner,
            ):
                sequencer = data_ingest_pb2_grpc.DataIngestServiceStub(to_sequencer)
                scanner = scanner_pb2_grpc.ScannerServiceStub(to_scanner)
                await vendor.joined()
                for date in DAYS:
                    for first in range(0, len(texts[date]), FRAME_EVENTS):
                        await vendor.send("[" + ",".join(texts[date][first : first + FRAME_EVENTS]) + "]")
                    twin.begin(date)
                    for each in good[date]:
                        twin.take(each.body)
                    twin.rest()
                    admitted += len(good[date])
                    status = await until_taken(sequencer, admitted)
                    assert status.trading_date == str(date)
                    await until_shown(scanner, twin.newest_ns)
                    for ticker in tickers:
                        await compare(scanner, twin, ticker, f"{date} {ticker}")


async def until_taken(sequencer: Any, trades: int) -> data_ingest_pb2.SequencerStatus:
    async with asyncio.timeout(90):
        while True:
            status: data_ingest_pb2.SequencerStatus = await sequencer.GetSequencerStatus(
                data_ingest_pb2.GetSequencerStatusRequest()
            )
            assert status.trades <= trades, f"expected {trades} trades, were {status.trades:.0f}"
            if status.trades == trades:
                return status
            await asyncio.sleep(0.1)


async def until_shown(scanner: Any, time_ns: int) -> None:
    """Waits until the scanner's lists stand there."""
    async with asyncio.timeout(60):
        while True:
            ranked = await scanner.GetList(scanner_pb2.GetListRequest(list="filtered"))
            if ranked.timestamp.ToNanoseconds() >= time_ns:
                return
            await asyncio.sleep(0.05)


async def compare(scanner: Any, twin: Twin, ticker: str, where: str) -> None:
    expected = twin.market.row(ticker)
    try:
        found = row_values(await scanner.GetTickerRow(scanner_pb2.GetTickerRowRequest(symbol=ticker)))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND, where
        found = {}
    for name in COMPARED:
        value, wanted = found.get(name), expected.get(name)
        assert value == (pytest.approx(wanted, rel=1e-9) if isinstance(wanted, float) else wanted), f"{where}.{name}"
