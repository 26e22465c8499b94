"""The ticker service with real stores, a real scanner behind a scripted sequencer, and a scripted vendor."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from tradeul.v1 import frame_pb2, ticker_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.settings import Settings
from services.ticker.store import Queries, TickerStore
from tests.support.mesh import free_ports
from tests.support.refusals import Refusal, refusal
from tests.support.running_scanner import RunningScanner, running_scanner
from tests.support.running_ticker import (
    VENDOR_DETAILS,
    RunningTicker,
    bar,
    empty,
    insert,
    running_ticker,
    vendor_details,
)
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.stores import Stores, module_stores
from tests.support.tape import Tape
from tests.support.vendor_server import VendorServer

SYMBOLS = ["AAPL", "BRK.A", "BACpL", "IDLE"]
OPEN = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)  # 09:30 in New York
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    async with VendorServer(vendor_details) as server:
        yield server


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening())
        yield running


@pytest.fixture
async def scanner(sequencer: ScriptedSequencer) -> AsyncIterator[RunningScanner]:
    async with running_scanner(sequencer) as running:
        yield running


@pytest.fixture
async def ticker(stores: Stores, vendor: VendorServer, scanner: RunningScanner) -> AsyncIterator[RunningTicker]:
    await empty(stores)
    environment = {
        **stores.environment(),
        **vendor.environment,
        "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
        "TRADEUL_SCANNER_ADDRESS": scanner.address,
        "TRADEUL_METRICS_PORT_OFFSET": "0",
    }
    async with running_ticker(stores, Settings.load(environment)) as running:
        yield running


async def row(ticker: RunningTicker, symbol: str) -> TickerRow:
    answer: TickerRow = await ticker.tickers.GetTicker(ticker_pb2.GetTickerRequest(symbol=symbol))
    return answer


async def metadata(ticker: RunningTicker, symbol: str) -> ticker_pb2.TickerMetadata:
    request = ticker_pb2.GetTickerMetadataRequest(symbol=symbol)
    answer: ticker_pb2.TickerMetadata = await ticker.tickers.GetTickerMetadata(request)
    return answer


async def bars(ticker: RunningTicker, symbol: str, **request: Any) -> ticker_pb2.ListBarsResponse:
    answer: ticker_pb2.ListBarsResponse = await ticker.tickers.ListBars(
        ticker_pb2.ListBarsRequest(symbol=symbol, **request)
    )
    return answer


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


# --- rows


async def test_the_live_row_is_the_scanners(
    ticker: RunningTicker, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    sequencer.trade({"AAPL": 104.0, "BACpL": 99.0})
    await scanner.until_at(sequencer)
    answer = await row(ticker, "AAPL")
    (listed,) = (each for each in (await scanner.get("gappers_up")).rows if each.symbol == "AAPL")
    listed.ClearField("rank")
    assert answer == listed
    assert (answer.price, answer.change_percent, answer.HasField("last_day")) == (104.0, 4.0, False)


@pytest.mark.parametrize(("asked", "found"), [("aapl", "AAPL"), ("BACpL", "BACpL"), ("brk.a", "BRK.A")])
async def test_a_symbol_matches_exactly_else_upper_cased(
    ticker: RunningTicker, scanner: RunningScanner, sequencer: ScriptedSequencer, asked: str, found: str
) -> None:
    sequencer.trade({"AAPL": 104.0, "BACpL": 99.0, "BRK.A": 98.0})
    await scanner.until_at(sequencer)
    assert (await row(ticker, asked)).symbol == found


async def test_a_live_row_is_left_in_redis_for_five_seconds(
    ticker: RunningTicker, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    sequencer.trade({"AAPL": 104.0})
    await scanner.until_at(sequencer)
    answer = await row(ticker, "AAPL")
    while (text := await ticker.redis.get("ticker:data:AAPL")) is None:
        await asyncio.sleep(POLL_SECONDS)
    assert json_format.Parse(text, TickerRow()) == answer
    assert json.loads(text)["session"] == "MARKET_OPEN"
    assert 0 < await ticker.redis.ttl("ticker:data:AAPL") <= 5


async def test_some_fields_of_a_row(
    ticker: RunningTicker, sequencer: ScriptedSequencer, scanner: RunningScanner
) -> None:
    """Redis gets all of them all the same."""
    sequencer.trade({"AAPL": 104.0})
    await scanner.until_at(sequencer)
    some = await ticker.tickers.GetTicker(ticker_pb2.GetTickerRequest(symbol="aapl", fields="price,last_day"))
    assert some == TickerRow(symbol="AAPL", price=104)
    while (stored := await ticker.redis.get("ticker:data:AAPL")) is None:
        await asyncio.sleep(POLL_SECONDS)
    assert json.loads(stored)["change_percent"] == 4
    wrong = await refused(ticker.tickers.GetTicker(ticker_pb2.GetTickerRequest(symbol="AAPL", fields="prize")))
    assert (wrong.reason, wrong.metadata["nearest"]) == ("INVALID_FIELDS", "price")


async def test_without_a_trade_today_the_stored_day_fills_the_row(
    ticker: RunningTicker, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    await insert(ticker.database, "ticker_metadata", {"symbol": "IDLE", "company_name": "Idle Corp", "beta": 0.5})
    await insert(
        ticker.database,
        "daily_ohlc",
        bar("IDLE", date(2026, 3, 6), (9.0, 9.0, 9.0, 9.0)),
        bar("IDLE", date(2026, 3, 9), (10.0, 12.0, 9.5, 11.0), 5000.0, vwap=10.7, trades=42),
    )
    answer = await row(ticker, "IDLE")
    day = answer.last_day
    assert (day.date, day.open, day.high, day.low, day.close) == ("2026-03-09", 10.0, 12.0, 9.5, 11.0)
    assert (day.volume, day.vwap, day.trades) == (5000.0, 10.7, 42.0)
    assert (answer.price, answer.company_name, answer.beta) == (11.0, "Idle Corp", 0.5)
    # What the market knows of it stands; what nobody can know is absent.
    assert answer.prev_close == 100.0
    assert not answer.HasField("volume_today") or answer.volume_today == 0.0
    assert not answer.HasField("change_percent")
    sequencer.trade({"IDLE": 101.0})
    await scanner.until_at(sequencer)
    live = await row(ticker, "IDLE")
    assert (live.price, live.HasField("last_day")) == (101.0, False)


async def test_a_symbol_that_only_the_stores_know(ticker: RunningTicker) -> None:
    await insert(ticker.database, "daily_ohlc", bar("GONE", date(2026, 3, 9), (1.0, 2.0, 0.5, 1.5)))
    answer = await row(ticker, "gone")
    assert (answer.symbol, answer.price, answer.last_day.date) == ("GONE", 1.5, "2026-03-09")


async def test_a_replay_shows_no_bar_of_its_day_or_later(ticker: RunningTicker, stores: Stores) -> None:
    days = (date(2026, 3, 6), date(2026, 3, 9), date(2026, 3, 10))
    bars = [bar("PAST", day, (9.0, 9.0, 9.0, float(close))) for close, day in enumerate(days, 7)]
    await insert(ticker.database, "daily_ohlc", *bars)
    async with asyncpg.create_pool(stores.database_url, min_size=1, max_size=1) as pool:
        for replayed, close in ((None, 9.0), (days[2], 8.0), (days[1], 7.0), (days[0], None)):
            shown = await TickerStore(Queries(pool), replayed).last_day("PAST")
            assert (shown and shown["close"]) == close


async def test_a_replay_shows_no_scan_results_of_its_day_or_later_unasked(
    ticker: RunningTicker, stores: Stores
) -> None:
    for day in (6, 9):
        result = {"time": datetime(2026, 3, day, 15, tzinfo=UTC), "symbol": "A", "list": "winners"}
        await insert(ticker.database, "scan_results", {**result, "session": "MARKET_OPEN", "rank": 1, "is_entry": True})
    async with asyncpg.create_pool(stores.database_url, min_size=1, max_size=1) as pool:
        for replayed, newest in ((None, 9), (date(2026, 3, 10), 9), (date(2026, 3, 9), 6), (date(2026, 3, 6), None)):
            store = TickerStore(Queries(pool), replayed)
            for name in ("", "winners"):
                found = await store.newest_scan_date(name)
                assert found == (newest and date(2026, 3, newest))


async def test_a_symbol_that_only_the_vendor_knows(ticker: RunningTicker) -> None:
    answer = await row(ticker, "newco")
    assert (answer.symbol, answer.company_name, answer.HasField("price")) == ("NEWCO", "New Company Inc.", False)


async def test_an_unknown_symbol_is_not_found_and_the_vendor_is_asked_once(
    ticker: RunningTicker, vendor: VendorServer
) -> None:
    for _ in range(3):
        answer = await refused(row(ticker, "NOSUCH"))
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SYMBOL")
    assert vendor.requests == ["/v3/reference/tickers/NOSUCH"]


@pytest.mark.parametrize("symbol", ["", "1A", "A B", "TOOLONGSYMBOL", 'A"', "A\n", "É", "%41", "-A", "A" * 10_000])
async def test_what_is_no_symbol_is_refused(ticker: RunningTicker, symbol: str) -> None:
    for call in (row, metadata, bars):
        answer = await refused(call(ticker, symbol))
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SYMBOL")


async def test_without_the_scanner_the_stores_answer(
    ticker: RunningTicker, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    # A new epoch's market has no symbols yet.
    await insert(ticker.database, "daily_ohlc", bar("AAPL", date(2026, 3, 9), (100.0, 101.0, 99.0, 100.5)))
    restarted = Tape([], epoch=sequencer.tape.epoch + 1)
    await sequencer.die()
    await sequencer.start(restarted)
    sequencer.send(restarted.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=[])))
    await scanner.until_at(sequencer)
    assert (await row(ticker, "AAPL")).price == 100.5


# --- metadata


async def test_metadata_come_from_the_vendor_once_and_are_kept(ticker: RunningTicker, vendor: VendorServer) -> None:
    answers = await asyncio.gather(*(metadata(ticker, "NEWCO") for _ in range(10)))
    assert all(answer == answers[0] for answer in answers)
    assert vendor.requests == ["/v3/reference/tickers/NEWCO", "/stocks/vX/float", "/v1/marketstatus/now"]
    first = answers[0]
    assert (first.company_name, first.exchange, first.industry) == ("New Company Inc.", "XNAS", "ELECTRONIC COMPUTERS")
    assert (first.sector, first.shares_outstanding, first.is_etf) == ("Technology", 5e7, False)
    assert (first.is_actively_trading, first.total_employees, first.list_date) == (True, 1200.0, "2020-01-02")
    assert dict(first.address) == {"city": "Boston", "state": "MA"}
    assert not first.HasField("float_shares") and not first.HasField("beta")
    stored = await ticker.database.fetchrow("SELECT * FROM ticker_metadata WHERE symbol = 'NEWCO'")
    assert (stored["company_name"], stored["market_cap"], stored["is_etf"]) == ("New Company Inc.", 1.5e9, False)
    assert json.loads(stored["details"])["homepage_url"] == VENDOR_DETAILS["homepage_url"]
    cached = json.loads(str(await ticker.redis.get("ticker:metadata:NEWCO")))
    assert (cached["company_name"], cached["shares_outstanding"]) == ("New Company Inc.", 5e7)
    await ticker.redis.delete("ticker:metadata:NEWCO")
    assert await metadata(ticker, "newco") == first
    assert len(vendor.requests) == 3
    kept = await ticker.database.fetchrow("SELECT valid_from, sector, list_date FROM ticker_metadata_history")
    assert tuple(kept) == (date(2026, 3, 10), "Technology", "2020-01-02")


async def test_redis_is_read_first(ticker: RunningTicker, vendor: VendorServer) -> None:
    await ticker.redis.set("ticker:metadata:AAPL", '{"company_name": "Apple", "market_cap": "3e12", "logo": 1}')
    answer = await metadata(ticker, "AAPL")
    assert (answer.symbol, answer.company_name, answer.market_cap) == ("AAPL", "Apple", 3e12)
    assert vendor.requests == []


async def test_unreadable_redis_metadata_are_passed_over(ticker: RunningTicker) -> None:
    await ticker.redis.set("ticker:metadata:NEWCO", "{oops")
    assert (await metadata(ticker, "NEWCO")).company_name == "New Company Inc."


async def test_the_vendor_adds_to_what_is_stored_and_replaces_nothing(ticker: RunningTicker) -> None:
    known = {"symbol": "NEWCO", "company_name": "Our Name", "float_shares": 3e7}
    await insert(ticker.database, "ticker_metadata", known)
    answer = await metadata(ticker, "NEWCO")
    assert (answer.company_name, answer.float_shares, answer.exchange) == ("Our Name", 3e7, "XNAS")
    stored = await ticker.database.fetchrow("SELECT * FROM ticker_metadata WHERE symbol = 'NEWCO'")
    assert (stored["company_name"], stored["float_shares"], stored["exchange"]) == ("Our Name", 3e7, "XNAS")


async def test_a_vendor_that_is_away_is_not_an_unknown_symbol(ticker: RunningTicker, vendor: VendorServer) -> None:
    await vendor.__aexit__(None, None, None)
    answer = await refused(metadata(ticker, "NEWCO"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "VENDOR_UNAVAILABLE")
    await insert(ticker.database, "ticker_metadata", {"symbol": "NEWCO", "company_name": "Known"})
    assert (await metadata(ticker, "NEWCO")).company_name == "Known"
    await vendor.__aenter__()


async def test_the_database_may_be_away_for_live_rows_and_comes_back(
    ticker: RunningTicker, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    sequencer.trade({"AAPL": 104.0})
    await scanner.until_at(sequencer)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await ticker.database.execute(cut)
    assert (await row(ticker, "AAPL")).price == 104.0
    while True:
        try:
            assert (await metadata(ticker, "NEWCO")).company_name == "New Company Inc."
            return
        except grpc.aio.AioRpcError as error:
            assert refusal(error).reason == "STORE_UNAVAILABLE"


# --- bars


async def test_minutes_are_aggregated(ticker: RunningTicker) -> None:
    await insert(
        ticker.database,
        "aggregates_1min",
        *(
            bar("AAPL", OPEN + i * MINUTE, (10 + i, 20 + i, 5 - i / 10, 11 + i), 100 + 100 * i, vwap=10 + i, trades=i)
            for i in range(7)
        ),
    )
    minutes = await bars(ticker, "aapl")
    assert (minutes.symbol, minutes.interval, minutes.count) == ("AAPL", "1m", 7)
    assert [each.time.ToDatetime(UTC) for each in minutes.bars] == [OPEN + i * MINUTE for i in range(7)]
    five = (await bars(ticker, "AAPL", interval="5m")).bars
    assert [each.time.ToDatetime(UTC) for each in five] == [OPEN, OPEN + 5 * MINUTE]
    first = five[0]
    assert (first.open, first.high, first.low, first.close) == (10.0, 24.0, 4.6, 15.0)
    assert (first.volume, first.trades) == (1500.0, 10.0)
    assert first.vwap == pytest.approx(sum((10 + i) * 100 * (i + 1) for i in range(5)) / 1500)
    hour = (await bars(ticker, "AAPL", interval="1h")).bars
    assert [each.time.ToDatetime(UTC) for each in hour] == [OPEN - 30 * MINUTE]
    span = {"from": (OPEN + MINUTE).isoformat(), "to": (OPEN + 3 * MINUTE).isoformat()}
    assert [each.open for each in (await bars(ticker, "AAPL", **span)).bars] == [11.0, 12.0]
    # Five-minute bars that begin within the span are whole.
    span = {"from": (OPEN + MINUTE).isoformat(), "to": (OPEN + 6 * MINUTE).isoformat()}
    assert [each.volume for each in (await bars(ticker, "AAPL", interval="5m", **span)).bars] == [1300.0]


async def test_days_are_the_loaded_ones_and_todays_regular_minutes(ticker: RunningTicker) -> None:
    await insert(
        ticker.database,
        "daily_ohlc",
        bar("AAPL", date(2026, 3, 6), (1.0, 2.0, 0.5, 1.5)),
        bar("AAPL", date(2026, 3, 9), (2.0, 3.0, 1.5, 2.5), trades=9),
    )
    await insert(
        ticker.database,
        "aggregates_1min",
        bar("AAPL", OPEN - timedelta(days=1), (50.0, 50.0, 50.0, 50.0)),
        bar("AAPL", OPEN - MINUTE, (99.0, 99.0, 99.0, 99.0)),
        bar("AAPL", OPEN, (3.0, 4.0, 2.0, 3.5)),
        bar("AAPL", OPEN + MINUTE, (3.5, 6.0, 3.0, 5.0)),
    )
    days = (await bars(ticker, "AAPL", interval="1d")).bars
    assert [each.close for each in days] == [1.5, 2.5, 5.0]
    assert (days[2].open, days[2].high, days[2].low, days[2].volume) == (3.0, 6.0, 2.0, 200.0)
    # The clocks went forward on the 8th: midnight in New York is another time in UTC.
    assert [each.time.ToJsonString() for each in days] == [
        "2026-03-06T05:00:00Z",
        "2026-03-09T04:00:00Z",
        "2026-03-10T04:00:00Z",
    ]
    some = await bars(ticker, "AAPL", interval="1d", **{"from": "2026-03-07", "to": "2026-03-09"})
    assert [each.close for each in some.bars] == [2.5]


async def test_without_to_the_newest_bars_up_to_now_come_oldest_first(ticker: RunningTicker) -> None:
    await insert(
        ticker.database,
        "aggregates_1min",
        *(bar("AAPL", OPEN + i * MINUTE, (10.0 + i,) * 4) for i in range(10)),
        # Far more than the longest span before them.
        *(bar("AAPL", OPEN - timedelta(days=90) + i * MINUTE, (1.0 + i,) * 4) for i in range(3)),
    )

    async def opens(**request: Any) -> list[float]:
        return [each.open for each in (await bars(ticker, "AAPL", **request)).bars]

    everything = [1.0, 2.0, 3.0, *(10.0 + i for i in range(10))]
    assert await opens() == everything
    assert await opens(limit=4) == [16.0, 17.0, 18.0, 19.0]
    assert await opens(limit=11) == everything[-11:]
    # What begins long before the longest span is answered, too.
    assert await opens(**{"from": (OPEN - timedelta(days=80)).isoformat()}) == everything[3:]
    assert await opens(limit=2, **{"from": (OPEN - timedelta(days=80)).isoformat()}) == [18.0, 19.0]
    assert await opens(limit=2, to=(OPEN + 5 * MINUTE).isoformat()) == [13.0, 14.0]
    # Bars of five minutes are whole whatever the limit.
    assert [(each.open, each.volume) for each in (await bars(ticker, "AAPL", interval="5m", limit=1)).bars] == [
        (15.0, 500.0)
    ]
    assert await opens(interval="5m", limit=2) == [10.0, 15.0]


async def test_the_newest_days(ticker: RunningTicker) -> None:
    days = [date(2026, 3, 2) + timedelta(days=i) for i in range(5)]
    await insert(ticker.database, "daily_ohlc", *(bar("AAPL", day, (1.0 + i,) * 4) for i, day in enumerate(days)))
    await insert(
        ticker.database,
        "aggregates_1min",
        bar("AAPL", OPEN, (9.0,) * 4),
        bar("AAPL", OPEN - timedelta(days=8), (99.0,) * 4),
    )
    closes = [[each.close for each in (await bars(ticker, "AAPL", interval="1d", limit=n)).bars] for n in (1, 3, 9)]
    assert closes == [[9.0], [4.0, 5.0, 9.0], [1.0, 2.0, 3.0, 4.0, 5.0, 9.0]]


async def test_sums_and_averages_have_no_binary_noise(ticker: RunningTicker) -> None:
    await insert(
        ticker.database,
        "aggregates_1min",
        bar("AAPL", OPEN, (1.0,) * 4, 100.1, vwap=1.1),
        bar("AAPL", OPEN + MINUTE, (1.0,) * 4, 200.2, vwap=1.2),
    )
    (five,) = (await bars(ticker, "AAPL", interval="5m")).bars
    assert 100.1 + 200.2 != 300.3
    assert (five.volume, five.vwap) == (300.3, 1.166667)


async def test_by_the_feeds_clock_nothing_later_than_now_is_shown(
    stores: Stores, vendor: VendorServer, scanner: RunningScanner, sequencer: ScriptedSequencer
) -> None:
    """A replay stands in the middle of a day that is stored whole."""
    await empty(stores)
    environment = {
        **stores.environment(),
        **vendor.environment,
        "TRADEUL_CLOCK": "feed",
        "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
        "TRADEUL_SCANNER_ADDRESS": scanner.address,
        "TRADEUL_METRICS_PORT_OFFSET": "0",
    }
    sequencer.trade({"AAPL": 104.0})
    await scanner.until_at(sequencer)
    status = await scanner.status()
    now = status.event_time.ToDatetime(UTC)
    minute = now.replace(second=0, microsecond=0)
    today = now.astimezone(NEW_YORK).date()
    async with running_ticker(stores, Settings.load(environment)) as ticker:
        await insert(
            ticker.database,
            "aggregates_1min",
            *(bar("AAPL", minute + i * MINUTE, (10.0 + i,) * 4) for i in range(-9, 10)),
        )
        await insert(
            ticker.database,
            "daily_ohlc",
            bar("AAPL", today - timedelta(days=1), (1.0,) * 4),
            bar("AAPL", today, (2.0,) * 4),
            bar("AAPL", today + timedelta(days=1), (3.0,) * 4),
        )
        assert (await bars(ticker, "AAPL")).bars[-1].open == 10.0
        # The bar that is still growing holds nothing of later minutes.
        assert (await bars(ticker, "AAPL", interval="5m")).bars[-1].close == 10.0
        days = (await bars(ticker, "AAPL", interval="1d")).bars
        # Today's loaded bar is known at 20:00; until then its minutes are.
        assert [each.close for each in days] == [1.0, 10.0]
    (port,) = free_ports(1)
    async with running_ticker(
        stores, Settings.load({**environment, "TRADEUL_SCANNER_ADDRESS": f"127.0.0.1:{port}"})
    ) as ticker:
        assert (await refused(bars(ticker, "AAPL"))).reason == "CLOCK_UNKNOWN"
        assert (await bars(ticker, "AAPL", to=now.isoformat())).count


async def test_a_known_symbol_without_bars_has_none_and_an_unknown_one_is_not_found(ticker: RunningTicker) -> None:
    assert (await bars(ticker, "idle")).symbol == "IDLE"
    assert (await refused(bars(ticker, "NOSUCH"))).reason == "UNKNOWN_SYMBOL"


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"interval": "2m"}, "INVALID_REQUEST"),
        ({"from": "yesterday"}, "INVALID_DATE"),
        ({"from": "2026-02-30"}, "INVALID_DATE"),
        ({"from": "2026-03-10T09:30:00"}, "INVALID_DATE"),
        ({"to": "0001-01-01T00:00:00Z"}, "INVALID_DATE"),
        ({"from": "9999-12-31"}, "INVALID_DATE"),
        ({"from": "2026-03-10", "to": "2026-03-09"}, "INVALID_DATE"),
        ({"from": "2026-01-01", "to": "2026-03-09"}, "INVALID_DATE"),
        ({"limit": 0}, "INVALID_LIMIT"),
        ({"limit": 10_001}, "INVALID_LIMIT"),
    ],
)
async def test_wrong_spans_are_refused(ticker: RunningTicker, request_fields: dict[str, Any], reason: str) -> None:
    answer = await refused(bars(ticker, "AAPL", **request_fields))
    assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


# --- stored scans


def scan(when: datetime, symbol: str, rank: int, name: str = "gappers_up", is_entry: bool = False) -> dict[str, Any]:
    return {
        "time": when,
        "symbol": symbol,
        "list": name,
        "session": "MARKET_OPEN",
        "rank": rank,
        "is_entry": is_entry,
        "price": 10.0 + rank,
        "gap_percent": 4.0,
    }


async def scans(ticker: RunningTicker, **request: Any) -> ticker_pb2.ListScanResultsResponse:
    answer: ticker_pb2.ListScanResultsResponse = await ticker.tickers.ListScanResults(
        ticker_pb2.ListScanResultsRequest(**request)
    )
    return answer


async def test_stored_scans_are_read_by_day_and_list_newest_first(ticker: RunningTicker) -> None:
    assert (await scans(ticker)).date == ""
    await insert(
        ticker.database,
        "scan_results",
        scan(OPEN, "A", 1),
        scan(OPEN, "B", 2),
        scan(OPEN + MINUTE, "B", 1, is_entry=True),
        scan(OPEN, "A", 1, "winners"),
        scan(OPEN - timedelta(days=4), "OLD", 1),
        # 23:59 in New York is the next day in UTC.
        scan(datetime(2026, 3, 10, 3, 59, tzinfo=UTC), "LATE", 1, "halts"),
    )
    newest = await scans(ticker)
    assert (newest.date, newest.count, newest.next_page_token) == ("2026-03-10", 4, "")
    assert [(each.list, each.symbol, each.is_entry) for each in newest.results] == [
        ("gappers_up", "B", True),
        ("gappers_up", "A", False),
        ("gappers_up", "B", False),
        ("winners", "A", False),
    ]
    first = newest.results[1]
    assert (first.rank, first.price, first.gap_percent, first.HasField("rvol")) == (1, 11.0, 4.0, False)
    assert [each.symbol for each in (await scans(ticker, date="2026-03-09")).results] == ["LATE"]
    assert (await scans(ticker, list="halts")).date == "2026-03-09"
    assert [each.symbol for each in (await scans(ticker, list="gappers_up", date="2026-03-06")).results] == ["OLD"]
    assert (await scans(ticker, date="2026-03-08")).count == 0


async def test_pages_join_without_a_hole(ticker: RunningTicker) -> None:
    rows = [
        scan(OPEN + minute * MINUTE, f"S{rank}", rank, name)
        for minute in range(3)
        for name in ("gappers_up", "winners")
        for rank in range(1, 6)
    ]
    await insert(ticker.database, "scan_results", *rows)
    whole = (await scans(ticker, limit=1000)).results
    seen: list[ticker_pb2.ScanResult] = []
    token = ""
    while True:
        page = await scans(ticker, limit=7, page_token=token)
        seen += page.results
        if not (token := page.next_page_token):
            break
    assert seen == list(whole)
    assert len(seen) == len(rows)


@pytest.mark.parametrize(
    ("request_fields", "code", "reason"),
    [
        ({"limit": 0}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_LIMIT"),
        ({"limit": 1001}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_LIMIT"),
        ({"date": "10.03.2026"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DATE"),
        ({"date": "0000-00-00"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DATE"),
        ({"list": "nope"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_LIST"),
        ({"page_token": "nope"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ({"page_token": "WzEsMiwzLDRd"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    ],
)
async def test_wrong_history_requests_are_refused(
    ticker: RunningTicker, request_fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    answer = await refused(scans(ticker, **request_fields))
    assert (answer.code, answer.reason) == (code, reason)
