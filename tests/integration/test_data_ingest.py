"""data_ingest between a scripted polygon_ws, a scripted vendor and real stores: one stream, nothing lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from tradeul.v1 import data_ingest_pb2, frame_pb2, market_data_pb2, polygon_ws_pb2, stream_pb2, ticker_pb2

from services.data_ingest import startup
from services.data_ingest.feed.feed_health import SetAsideWatch
from services.data_ingest.stream.epochs import FILE, read_last
from services.data_ingest.vendor_snapshot import poller as snapshot_poller
from services.health.watcher import follow_warnings
from services.kit.alerts.definitions import load_alerts
from services.kit.lists.definitions import load_lists
from services.kit.lists.scan_filters import default_filters
from services.kit.runtime.settings import Settings
from tests.support.running_scanner import running_scanner
from tests.support.running_sequencer import FrameReader, Request, RunningSequencer, running_sequencer
from tests.support.running_ticker import running_ticker
from tests.support.scripted_day import DAY, ScriptedDay, ms_at
from tests.support.scripted_polygon_ws import MS, POLL_SECONDS, ScriptedPolygonWs
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

DAY_MS = 86_400_000
SNAPSHOT = "/v2/snapshot/locale/us/markets/stocks/tickers"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


class ScriptedRest:
    """The scripted day's REST with snapshots of one's own."""

    def __init__(self) -> None:
        self.day = ScriptedDay(1, symbols=6)
        self.tickers: list[dict[str, Any]] = []
        self.conditions: list[dict[str, Any]] = []
        self.is_down = False
        # Tickers that it has never heard of.
        self.unknown: set[str] = set()

    def __call__(self, path: str, query: dict[str, str]) -> Any:
        if path.rpartition("/")[2] in self.unknown:
            return None
        if path == SNAPSHOT:
            return None if self.is_down else {"status": "OK", "tickers": self.tickers}
        if path == "/v3/reference/conditions":
            return {"status": "OK", "results": self.conditions}
        return self.day.rest(path, query)


@pytest.fixture
def rest() -> ScriptedRest:
    return ScriptedRest()


@pytest.fixture
async def vendor(rest: ScriptedRest) -> AsyncIterator[VendorServer]:
    async with VendorServer(rest) as server:
        yield server


@pytest.fixture
async def feed() -> AsyncIterator[ScriptedPolygonWs]:
    async with ScriptedPolygonWs() as server:
        yield server


@pytest.fixture
async def sequencer(
    vendor: VendorServer, feed: ScriptedPolygonWs, tmp_path: Path, stores: Stores
) -> AsyncIterator[RunningSequencer]:
    async with running_sequencer(vendor, feed, tmp_path, stores) as running:
        await feed.until_connections(1)
        yield running


async def until_snapshots(vendor: VendorServer, count: int) -> int:
    """Waits until the vendor has been asked for so many snapshots; returns how many there were."""
    async with asyncio.timeout(60):
        while (asked := vendor.requests.count(SNAPSHOT)) < count:
            await asyncio.sleep(POLL_SECONDS)
    return asked


async def test_trades_become_frames_and_are_acknowledged(sequencer: RunningSequencer, feed: ScriptedPolygonWs) -> None:
    async with sequencer.reader() as reader:
        await reader.until_kind("current")
        assert reader.kinds[:2] == ["opened", "snapshot"]
        feed.trades(("AAPL", "04:00:01", 1.0), ("BRK.B", "04:00:02", 2.0))
        feed.trades(("AAPL", "04:00:03", 3.0), ("AAPL", "04:00:04", -1.0))
        await reader.until_price("AAPL", 3.0)
        assert reader.price("BRK.B") == 2.0
        await feed.until_acknowledged(2)
        status = await sequencer.until(lambda status: status.trades == 3)
        assert dict(status.rejected) == {"price": 1}
        assert status.trading_date == str(DAY)
        assert status.event_time.ToNanoseconds() == ms_at("04:00:04") * MS - 1_000_000_000
        assert status.readers == 1
        assert reader.market is not None
        await reader.until(lambda: reader.market.sequence == sequencer.service.parts.sequencer.position.sequence)
        assert reader.market.hash() == sequencer.service.parts.sequencer.market.hash()


async def test_a_symbol_known_from_garbage_only_is_not_found(
    sequencer: RunningSequencer, feed: ScriptedPolygonWs, vendor: VendorServer, rest: ScriptedRest, stores: Stores
) -> None:
    """One accepted event makes it a symbol, though no reference data name it."""
    rest.unknown = {"GARBAGE", "NONAME"}
    environment = {
        **vendor.environment,
        **stores.environment(),
        "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
        "TRADEUL_METRICS_PORT_OFFSET": "0",
    }
    source: Any = SimpleNamespace(port=int(sequencer.address.rpartition(":")[2]))
    async with running_scanner(source) as scanner:
        settings = Settings.load({**environment, "TRADEUL_SCANNER_ADDRESS": scanner.address})
        async with running_ticker(stores, settings) as ticker:
            feed.trades(("AAPL", "04:00:01", 1.0), ("GARBAGE", "04:00:02", -1.0), ("NONAME", "04:00:03", 2.0))
            async with asyncio.timeout(60):
                await feed.until_acknowledged(1)
                while (await scanner.status()).active_symbols < 2:
                    await asyncio.sleep(POLL_SECONDS)
            row = await ticker.tickers.GetTicker(ticker_pb2.GetTickerRequest(symbol="NONAME"))
            assert (row.symbol, row.price) == ("NONAME", 2.0)
            for call in (
                ticker.tickers.GetTicker(ticker_pb2.GetTickerRequest(symbol="GARBAGE")),
                ticker.tickers.GetTickerMetadata(ticker_pb2.GetTickerMetadataRequest(symbol="GARBAGE")),
                ticker.tickers.ListBars(ticker_pb2.ListBarsRequest(symbol="GARBAGE")),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_stream_begins_with_day_rules_and_filters(sequencer: RunningSequencer) -> None:
    epoch = (await sequencer.status()).position.epoch
    async with sequencer.reader((epoch, 0)) as reader:
        await reader.until_kind("current")
        kinds = [frame.WhichOneof("body") for frame in reader.frames]
        assert kinds[:5] == ["trading_day", "trade_rules", "list_filters", "alert_rules", "watermark"]
        day = reader.frames[0].trading_day
        assert day.trading_date == str(DAY)
        assert day.pre_market_start_ns == ms_at("04:00:00") * MS
        assert day.post_market_end_ns == ms_at("20:00:00") * MS
        assert [each.name for each in reader.frames[2].list_filters.filters] == [f.name for f in default_filters()]
        # The time is that of the vendor until its first event.
        assert [rule.name for rule in reader.frames[3].alert_rules.rules] == [
            rule.name for rule in load_alerts([spec.name for spec in load_lists()])
        ]
        assert reader.frames[4].watermark.event_time_ns == ms_at("04:00:00") * MS
        # Nothing comes, and the stream is seen to live.
        await reader.until(lambda: len(reader.bodies("watermark")) > 1)


async def test_a_hole_is_asked_for_again(sequencer: RunningSequencer, feed: ScriptedPolygonWs) -> None:
    async with sequencer.reader() as reader:
        feed.trades(("A", "04:00:01", 1.0))
        feed.withheld = {2}
        feed.trades(("B", "04:00:02", 2.0))
        feed.trades(("A", "04:00:03", 3.0))
        await reader.until_price("A", 3.0)
        assert reader.price("B") == 2.0
        assert (await feed.until_connections(2)).asked == (feed.epoch, 1)
        assert (await sequencer.status()).trades == 3


async def test_lost_batches_are_made_good_by_a_snapshot(
    sequencer: RunningSequencer, feed: ScriptedPolygonWs, vendor: VendorServer, rest: ScriptedRest
) -> None:
    async with sequencer.reader() as reader:
        feed.trades(("A", "04:00:01", 1.0))
        await reader.until_price("A", 1.0)
        await feed.die()
        feed.trades(("A", "04:01:01", 5.0), ("GONE", "04:01:02", 6.0))
        feed.trades(("A", "04:01:03", 7.0))
        feed.forget_before(3)
        # What the lost batch said, as the vendor's snapshot says it.
        updated = ms_at("04:01:02") * MS
        rest.tickers = [
            {
                "ticker": "GONE",
                "updated": updated,
                "lastTrade": {"p": 6.0, "t": updated, "s": 100, "c": [12]},
                "min": {"t": ms_at("04:01:00"), "o": 6.0, "h": 6.5, "l": 5.5, "c": 6.0, "v": 700, "av": 700, "vw": 6.0},
                "day": {"o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "vw": 0},
                "lastQuote": {"p": 5.9, "P": 6.1, "t": updated},
            },
            {"ticker": "not a symbol", "updated": updated, "lastTrade": {"p": 1.0, "t": updated}},
            {"ticker": "NEVER", "updated": 0},
        ]
        asked = vendor.requests.count(SNAPSHOT)
        await feed.start()
        await reader.until_price("A", 7.0)
        await reader.until_price("GONE", 6.0)
        assert vendor.requests.count(SNAPSHOT) > asked
        assert reader.market is not None
        row = reader.market.state.row("GONE")
        assert (row["bid"], row["ask"], row["volume_today"], row["intraday_high"]) == (5.9, 6.1, 700.0, 6.5)
        assert reader.market.state.symbol_id("NEVER") == -1
        status = await sequencer.status()
        assert dict(status.rejected) == {"symbol": 1}
        assert sequencer.service.parts.feed.lost_batches == 1


async def test_a_line_that_was_away_is_made_good_by_snapshots(
    sequencer: RunningSequencer,
    feed: ScriptedPolygonWs,
    vendor: VendorServer,
    rest: ScriptedRest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_poller, "AGAIN_SECONDS", 0.2)
    async with sequencer.reader() as reader:
        feed.trades(("A", "10:00:00", 10.0), ("A", "10:00:01", 10.1))
        await reader.until_price("A", 10.1)
        # Once at the start.
        asked = await until_snapshots(vendor, 1)
        feed.line_was_away(1)
        # The symbol trades on, and the snapshot is older than that.
        feed.trades(("A", "10:00:10", 10.2))
        await reader.until_price("A", 10.2)
        assert vendor.requests.count(SNAPSHOT) == asked
        updated = ms_at("10:00:09") * MS
        rest.tickers = [
            {
                "ticker": "A",
                "updated": updated,
                "lastTrade": {"p": 10.15, "t": updated, "s": 100, "c": []},
                "min": {
                    "t": ms_at("10:00:00"),
                    "o": 10,
                    "h": 12,
                    "l": 9.5,
                    "c": 10.15,
                    "v": 50200,
                    "av": 50200,
                    "vw": 10,
                },
                "day": {"o": 10, "h": 12.0, "l": 9.5, "c": 10.15, "v": 50200, "vw": 10},
            }
        ]
        feed.line_was_away(1, 9_000_000_001)
        assert reader.market is not None
        state = reader.market.state
        await reader.until(lambda: state.row("A").get("high") == 12.0)
        row = state.row("A")
        assert (row["low"], row["volume_today"], row["price"], row["vwap"]) == (9.5, 50300.0, 10.2, 10.1)
        await until_snapshots(vendor, asked + 2)
        (gap,) = (await sequencer.status()).gaps
        assert (getattr(gap, "from").ToNanoseconds(), gap.state) == (
            ms_at("10:00:01") * MS,
            stream_pb2.FeedLineGap.OPEN,
        )
        feed.trades(("A", "10:00:11", 10.2))
        healing = stream_pb2.FeedLineGap.HEALING
        status = await sequencer.until(lambda status: status.gaps[0].state == healing)
        assert status.gaps[0].to.ToNanoseconds() == ms_at("10:00:11") * MS
        # Its minute has passed, and the scripted vendor has bars of the past only.
        feed.trades(("A", "10:01:06", 10.2))
        status = await sequencer.until(lambda status: status.gaps[0].state != healing)
        assert status.gaps[0].state in (stream_pb2.FeedLineGap.HEALED, stream_pb2.FeedLineGap.PARTIAL)


async def test_polygon_ws_that_goes_and_comes_back(sequencer: RunningSequencer, feed: ScriptedPolygonWs) -> None:
    async with sequencer.reader() as reader:
        feed.trades(("A", "04:00:01", 1.0))
        await reader.until_price("A", 1.0)
        await sequencer.until_health(serving=True)
        await feed.die()
        await sequencer.until_health(serving=False)
        # Meanwhile the stream lives.
        marks = len(reader.bodies("watermark"))
        await reader.until(lambda: len(reader.bodies("watermark")) > marks)
        feed.restart()
        feed.trades(("B", "04:00:02", 2.0), ("A", "04:00:03", 3.0))
        await feed.start()
        await reader.until_price("A", 3.0)
        assert reader.price("B") == 2.0
        await sequencer.until_health(serving=True)
        connections = len(feed.subscribers)
        feed.go_away()
        assert (await feed.until_connections(connections + 1)).asked == (feed.epoch, 1)


async def test_every_kind_of_event(sequencer: RunningSequencer, feed: ScriptedPolygonWs) -> None:
    async with sequencer.reader() as reader:
        await reader.until_kind("current")
        at = ms_at("10:00:00") * MS
        bar: dict[str, Any] = {
            "symbol_id": [0], "start_ns": [at], "end_ns": [at + 1_000_000_000], "open": [5.0], "high": [5.5],
            "low": [4.5], "close": [5.25], "volume": [10], "accumulated_volume": [1000], "day_vwap": [5.0],
            "official_open": [5.0], "vwap": [5.0], "average_size": [1],
        }  # fmt: skip
        nan = float("nan")
        feed.symbols.append("A")
        feed.send(
            polygon_ws_pb2.MarketBatch(
                new_symbols=["A"],
                limits=market_data_pb2.LimitBatch(
                    symbol_id=[0], time_ns=[at], upper=[6.0], lower=[nan], indicators=[1 << 17]
                ),
                quotes=market_data_pb2.QuoteBatch(
                    symbol_id=[0], time_ns=[at], bid=[5.0], ask=[5.5], bid_size=[1], ask_size=[1]
                ),
                minute_bars=market_data_pb2.BarBatch(span=market_data_pb2.MINUTE, **bar),
                second_bars=market_data_pb2.BarBatch(span=market_data_pb2.SECOND, **bar),
            )
        )
        await reader.until_price("A", 5.25)
        status = await sequencer.status()
        assert (status.trades, status.bars, status.quotes, status.limits) == (0, 2, 1, 1)
        assert reader.market is not None
        row = reader.market.state.row("A")
        assert (row["halted"], row["bid"], row["luld_upper"], row["volume_today"]) == (True, 5.0, 6.0, 1000.0)


async def test_reference_data_and_symbols_that_turn_up(
    sequencer: RunningSequencer, feed: ScriptedPolygonWs, rest: ScriptedRest
) -> None:
    symbols = [symbol.name for symbol in rest.day.symbols]
    status = await sequencer.until(
        lambda status: status.reference.get("baseline", 0) == status.reference.get("prev_close", 0) == len(symbols)
    )
    assert status.symbols >= len(symbols)
    async with sequencer.reader() as reader:
        await reader.until_kind("current")
        assert reader.market is not None
        for symbol in rest.day.symbols:
            assert reader.market.state.row(symbol.name)["prev_close"] == symbol.daily[-1].close
        feed.trades(("LATER", "04:00:01", 1.0))
        await reader.until_price("LATER", 1.0)
        # The vendor knows any name.
        await reader.until(lambda: reader.market.state.row("LATER").get("company_name") == "LATER Inc.")


async def test_in_feed_mode_the_day_changes_with_the_feed(
    sequencer: RunningSequencer, feed: ScriptedPolygonWs, rest: ScriptedRest
) -> None:
    symbol = rest.day.symbols[0]
    clock = sequencer.stub.WatchClock(data_ingest_pb2.WatchClockRequest())
    first = await clock.read()
    assert (first.trading_date, first.event_time.ToNanoseconds()) == (str(DAY), ms_at("04:00:00") * MS)
    await sequencer.until(lambda status: status.reference.get("prev_close", 0) == len(rest.day.symbols))
    async with sequencer.reader() as reader:
        feed.trades(("A", "19:59:59", 1.0), ("B", "19:59:59", 2.0))
        # One wrong timestamp moves nothing.
        feed.trades(("A", "05:00:00", 9.0), day_ms=DAY_MS)
        feed.trades(("A", "19:59:59", 1.5))
        await reader.until_price("A", 1.5)
        assert (await sequencer.status()).trading_date == str(DAY)
        feed.trades(("A", "04:00:00", 3.0), ("B", "04:00:00", 4.0), ("C", "04:00:00", 5.0), day_ms=DAY_MS)
        await reader.until_price("C", 5.0)
        assert (reader.price("A"), reader.price("B")) == (3.0, 4.0)
        day = reader.bodies("trading_day")[-1]
        assert day.trading_date == "2026-03-11"
        # History is loaded anew for it, from what the vendor has.
        await reader.until(lambda: "prev_close" in reader.market.state.row(symbol.name))
        while (await clock.read()).trading_date != "2026-03-11":
            pass
        status = await sequencer.status()
        assert status.trading_date == "2026-03-11"
        assert dict(status.rejected) == {"time_out_of_session": 1}
    clock.cancel()


async def test_a_day_that_is_missing_and_a_feed_of_which_nothing_is_admitted_are_told(
    vendor: VendorServer, feed: ScriptedPolygonWs, tmp_path: Path, stores: Stores
) -> None:
    watch = SetAsideWatch(min_events=5, min_seconds=1.5)
    async with running_sequencer(vendor, feed, tmp_path, stores, set_aside=watch) as sequencer:
        await feed.until_connections(1)
        await days_and_events_are_told(sequencer, feed)


async def days_and_events_are_told(sequencer: RunningSequencer, feed: ScriptedPolygonWs) -> None:
    told: list[list[str]] = []
    following = asyncio.create_task(
        follow_warnings("data_ingest", sequencer.address, lambda name, warnings: told.append(list(warnings)))
    )
    feed.trades(("A", "19:59:59", 1.0))
    await sequencer.until(lambda status: status.trades == 1)
    assert not (await sequencer.status()).warnings
    # Tuesday is in force, Thursday is what comes.
    feed.trades(("A", "04:00:00", 3.0), ("B", "04:00:00", 4.0), ("C", "04:00:00", 5.0), day_ms=2 * DAY_MS)
    missing = "trading day 2026-03-11 is missing: no event of it arrived"
    status = await sequencer.until(lambda status: list(status.warnings) == [missing])
    assert status.trades == 4
    await sequencer.until_health(serving=True)
    # For as long as they are waited for: when no more of them come, they are forgotten.
    sending = asyncio.create_task(saturday(feed))
    status = await sequencer.until(lambda status: len(status.warnings) == 2)
    assert "was set aside" in status.warnings[1]
    assert status.warnings[1].endswith("of them as time_out_of_session; the trading day in force is 2026-03-12")
    await sequencer.until_health(serving=False)
    async with asyncio.timeout(60):
        while not told or len(told[-1]) < 2:
            await asyncio.sleep(POLL_SECONDS)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert told[-1][0] == f"data_ingest: {missing}"
    feed.trades(("A", "04:00:01", 3.0), day_ms=2 * DAY_MS)
    await sequencer.until_health(serving=True)
    # The next day is no longer the one after it.
    feed.trades(("A", "04:00:00", 3.0), ("B", "04:00:00", 4.0), ("C", "04:00:00", 5.0), day_ms=3 * DAY_MS)
    await sequencer.until(lambda status: not status.warnings)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def saturday(feed: ScriptedPolygonWs) -> None:
    """Trades of Saturday until cancelled, and never three symbols."""
    while True:
        feed.trades(("A", "10:00:00", 3.0), day_ms=4 * DAY_MS)
        await asyncio.sleep(0.05)


async def test_a_numbering_that_comes_to_its_end_goes_on_in_a_new_epoch(
    vendor: VendorServer, feed: ScriptedPolygonWs, tmp_path: Path, stores: Stores
) -> None:
    async with running_sequencer(vendor, feed, tmp_path, stores, last_sequence=6) as sequencer:
        await feed.until_connections(1)
        first = (await sequencer.status()).position.epoch
        async with sequencer.reader() as reader:
            feed.trades(("A", "19:59:58", 1.0), ("B", "19:59:58", 2.0))
            await reader.until_price("A", 1.0)
            await sequencer.until(lambda status: status.position.sequence > 6)
            feed.trades(("A", "04:00:00", 3.0), ("B", "04:00:00", 4.0), ("C", "04:00:00", 5.0), day_ms=DAY_MS)
            await reader.until(lambda: reader.position is not None and reader.position[0] > first)
            assert reader.resets == [f"epoch {reader.position[0] if reader.position else 0} began"]
            feed.trades(("A", "04:00:01", 6.0), day_ms=DAY_MS)
            await reader.until_price("A", 6.0)
            assert (reader.price("B"), reader.price("C")) == (4.0, 5.0)
            assert reader.market is not None and reader.market.state.row("A")["volume_today"] == 200.0
            await reader.until(lambda: reader.market.sequence == sequencer.service.parts.sequencer.position.sequence)
            assert reader.market.hash() == sequencer.service.parts.sequencer.market.hash()
        epoch = (await sequencer.status()).position.epoch
        assert epoch > first
        journal = sequencer.service.settings.market_dir / startup.DIRECTORY
        # The old epoch's state goes when the new one's has been written, which the stream does not wait for.
        async with asyncio.timeout(60):
            while {int(path.stem.partition("-")[0]) for path in journal.glob("*.state")} != {epoch}:
                await asyncio.sleep(POLL_SECONDS)
        # The next process, too, begins none that is not greater.
        assert read_last(sequencer.service.settings.market_dir / FILE) == epoch


async def test_live_data_goes_on_while_the_vendors_rest_is_down(
    vendor: VendorServer,
    feed: ScriptedPolygonWs,
    rest: ScriptedRest,
    tmp_path: Path,
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_poller, "FIRST_PAUSE", 0.01)
    rest.is_down = True
    async with running_sequencer(vendor, feed, tmp_path, stores) as sequencer, sequencer.reader() as reader:
        await feed.until_connections(1)
        await until_snapshots(vendor, 2)
        feed.trades(("A", "04:00:01", 1.0))
        await reader.until_price("A", 1.0)
        updated = ms_at("04:00:02") * MS
        rest.tickers = [{"ticker": "B", "updated": updated, "lastTrade": {"p": 2.5, "t": updated}}]
        rest.is_down = False
        await reader.until_price("B", 2.5)


async def test_the_vendors_trade_rules(
    vendor: VendorServer, feed: ScriptedPolygonWs, rest: ScriptedRest, tmp_path: Path, stores: Stores
) -> None:
    nothing = {"updates_high_low": False, "updates_open_close": False, "updates_volume": False}
    rest.conditions = [
        {"id": 9, "name": "Strange", "type": "sale_condition", "data_types": ["trade"],
         "update_rules": {"consolidated": nothing, "market_center": nothing}},
    ]  # fmt: skip
    async with running_sequencer(vendor, feed, tmp_path, stores) as sequencer:
        epoch = (await sequencer.status()).position.epoch
        async with sequencer.reader((epoch, 0)) as reader:
            await reader.until_kind("current")
            rules = reader.bodies("trade_rules")[0]
            assert rules.forbids_volume >> 9 & 1
            assert not rules.take_suspect_prints


@pytest.mark.parametrize("has_rules", [True, False])
async def test_whether_suspect_prints_are_held_travels_in_the_stream(
    vendor: VendorServer,
    feed: ScriptedPolygonWs,
    rest: ScriptedRest,
    tmp_path: Path,
    stores: Stores,
    has_rules: bool,
) -> None:
    rules_of = {"updates_high_low": True, "updates_open_close": True, "updates_volume": False}
    rest.conditions = [
        {"id": 38, "name": "Corrected", "type": "sale_condition", "data_types": ["trade"],
         "update_rules": {"consolidated": rules_of, "market_center": rules_of}},
    ][:has_rules]  # fmt: skip
    environment = {"TRADEUL_SUSPECT_PRINTS": "take"}
    async with running_sequencer(vendor, feed, tmp_path, stores, environment) as sequencer:
        epoch = (await sequencer.status()).position.epoch
        async with sequencer.reader((epoch, 0)) as reader:
            await reader.until_kind("current")
            assert reader.bodies("trade_rules")[0].take_suspect_prints


async def test_scanner_filters_change_while_running(sequencer: RunningSequencer, stores: Stores) -> None:
    connection = await asyncpg.connect(stores.database_url)
    try:
        async with sequencer.reader() as reader:
            await reader.until_kind("current")

            async def changed(statement: str) -> list[frame_pb2.ListFilter]:
                before = len(reader.bodies("list_filters"))
                await connection.execute(statement)
                await reader.until(lambda: len(reader.bodies("list_filters")) > before)
                return list(reader.bodies("list_filters")[-1].filters)

            filters = await changed("UPDATE scanner_filters SET enabled = true WHERE name = 'rvol_high'")
            assert filters[-1].name == "rvol_high"
            # The connection that listens is cut: the filters stay, and it comes back.
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%FROM scanner_filters%'"
                " AND pid <> pg_backend_pid()"
            )
            filters = await changed("""INSERT INTO scanner_filters VALUES ('own', true, 5, '{"max_price": 20}')""")
            assert (filters[0].name, filters[0].expression) == ("own", "price <= 20")
            # A row that cannot be used is left out alone.
            filters = await changed(
                """UPDATE scanner_filters SET parameters = '{"max_price": "dear"}' WHERE name = 'own'"""
            )
            assert "own" not in [each.name for each in filters]
            assert dict((await sequencer.status()).rejected) == {"scanner_filter": 1}
    finally:
        await connection.execute("DELETE FROM scanner_filters WHERE name = 'own'")
        await connection.execute("UPDATE scanner_filters SET enabled = false WHERE name = 'rvol_high'")
        await connection.close()


async def test_alert_rules_change_while_running(sequencer: RunningSequencer, stores: Stores) -> None:
    connection = await asyncpg.connect(stores.database_url)
    try:
        async with sequencer.reader() as reader:
            await reader.until_kind("current")

            async def changed(statement: str) -> tuple[dict[str, Any], list[str]]:
                before = len(reader.bodies("alert_rules"))
                await connection.execute(statement)
                await reader.until(lambda: len(reader.bodies("alert_rules")) > before)
                message = reader.bodies("alert_rules")[-1]
                return {rule.name: rule for rule in message.rules}, [rule.name for rule in message.disabled]

            rules, disabled = await changed("INSERT INTO alert_rules (name, enabled) VALUES ('high_of_day', false)")
            assert ("high_of_day" in rules, "low_of_day" in rules, disabled) == (False, True, ["high_of_day"])
            rules, _ = await changed(
                """INSERT INTO alert_rules (name, owner, definition)
                VALUES ('own', 'desk', '{"title": "", "when": "grows(high)", "min_quality": 0, "quality": "rvol"}')"""
            )
            own = rules["own"]
            assert (own.when, own.owner, own.version, own.HasField("min_quality")) == ("grows(high)", "desk", 1, True)
            # A row that cannot be used is left out alone.
            rules, _ = await changed("""UPDATE alert_rules SET definition = '{"wen": 1}' WHERE name = 'own'""")
            assert "own" not in rules
            assert dict((await sequencer.status()).rejected) == {"alert_rule": 1}
            rules, disabled = await changed("DELETE FROM alert_rules")
            assert ("high_of_day" in rules, disabled) == (True, [])
    finally:
        await connection.execute("DELETE FROM alert_rules")
        await connection.close()


async def test_a_restart_adds_rules_and_filters_only_if_they_have_changed(
    vendor: VendorServer, feed: ScriptedPolygonWs, tmp_path: Path, stores: Stores
) -> None:
    connection = await asyncpg.connect(stores.database_url)

    async def added() -> tuple[dict[str, int], Any]:
        """Frames of rules and filters that a start adds, and the market then."""
        async with running_sequencer(vendor, feed, tmp_path, stores) as sequencer:
            counts = sequencer.service.parts.sequencer.frames
            return {kind: counts[kind] for kind in ("alert_rules", "list_filters")}, sequencer.service.parts.sequencer

    try:
        assert (await added())[0] == {"alert_rules": 1, "list_filters": 1}
        assert (await added())[0] == {"alert_rules": 0, "list_filters": 0}
        await connection.execute(
            """INSERT INTO alert_rules (name, definition) VALUES ('own', '{"title": "Own", "when": "grows(high)"}')"""
        )
        await connection.execute("UPDATE scanner_filters SET enabled = true WHERE name = 'rvol_high'")
        assert (await added())[0] == {"alert_rules": 1, "list_filters": 1}
        # With the database away, those of before hold: own rules keep their memory, lists their rows.
        gone = {"TRADEUL_DATABASE_URL": f"postgresql://nobody@/none?host={tmp_path}"}
        async with running_sequencer(vendor, feed, tmp_path, stores, gone) as sequencer:
            stream = sequencer.service.parts.sequencer
            assert (stream.frames["alert_rules"], stream.frames["list_filters"]) == (0, 0)
            async with sequencer.reader() as reader:
                await reader.until_kind("current")
                assert reader.market is not None
                assert "own" in [rule.name for rule in reader.market.alert_rules]
                filters = frame_pb2.ListFilters.FromString(reader.market.list_filters_message).filters
                assert "rvol_high" in [each.name for each in filters]
    finally:
        await connection.execute("DELETE FROM alert_rules")
        await connection.execute("UPDATE scanner_filters SET enabled = false WHERE name = 'rvol_high'")
        await connection.close()


async def test_without_a_database_the_default_filters_hold(
    vendor: VendorServer, feed: ScriptedPolygonWs, tmp_path: Path
) -> None:
    gone = {"TRADEUL_DATABASE_URL": f"postgresql://nobody@/none?host={tmp_path}"}
    async with running_sequencer(vendor, feed, tmp_path, environment=gone) as sequencer:
        epoch = (await sequencer.status()).position.epoch
        async with sequencer.reader((epoch, 0)) as reader:
            await reader.until_kind("current")
            filters = reader.bodies("list_filters")[0].filters
            assert [each.name for each in filters] == [each.name for each in default_filters()]


async def test_readers_resume_or_are_reset(sequencer: RunningSequencer, feed: ScriptedPolygonWs) -> None:
    async with sequencer.reader() as reader:
        feed.trades(("A", "04:00:01", 1.0))
        await reader.until_price("A", 1.0)
        asked = reader.position
    assert asked is not None
    feed.trades(("A", "04:00:02", 2.0))
    await sequencer.until(lambda status: status.trades == 2)
    async with FrameReader(sequencer.stub, asked) as again:
        await again.until_kind("current")
        assert again.kinds[:2] == ["opened", "frame"]
        assert again.frames[0].position.sequence == asked[1] + 1
    async with FrameReader(sequencer.stub, (asked[0] - 1, asked[1])) as stranger:
        await stranger.until_kind("current")
        assert stranger.kinds[:3] == ["opened", "reset", "snapshot"]
        assert "another epoch" in stranger.resets[0]


async def test_requests_out_of_order_end_the_stream_with_their_error(sequencer: RunningSequencer) -> None:
    call = sequencer.stub.SubscribeFrames()
    await call.write(Request(cancel=stream_pb2.StreamCancel()))
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    for wrong, words in (
        (Request(open=data_ingest_pb2.SubscribeFramesOpen()), "first message only"),
        (Request(), "empty message"),
    ):
        async with sequencer.reader() as reader:
            await reader.until_kind("current")
            await reader.send(wrong)
            while await reader.read() is not None:
                pass
            assert await reader.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in await reader.details()
    async with sequencer.reader() as reader:
        await reader.until_kind("current")
        await reader.ack(1_000_000)
        while await reader.read() is not None:
            pass
        assert "at most" in await reader.details()
    async with sequencer.reader() as reader:
        await reader.until_kind("current")
        await reader.send(Request(cancel=stream_pb2.StreamCancel()))
        while await reader.read() is not None:
            pass
        assert await reader.code() is grpc.StatusCode.OK


async def test_going_away(sequencer: RunningSequencer) -> None:
    clock = sequencer.stub.WatchClock(data_ingest_pb2.WatchClockRequest())
    await clock.read()
    async with sequencer.reader() as reader:
        await reader.until_kind("current")
        stopping = asyncio.create_task(sequencer.host.stop())
        assert (await reader.until_kind("going_away")).going_away.reason == "data_ingest is stopping"
        assert await reader.read() is None
        assert await reader.code() is grpc.StatusCode.OK
        assert await clock.code() is grpc.StatusCode.OK
        await stopping
