"""The simulator as its clients meet it: the vendor's own Python client, ours, and polygon_ws."""

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from massive import RESTClient, WebSocketClient
from massive.exceptions import AuthError
from massive.websocket.models import EquityAgg, EquityTrade, LimitUpLimitDown
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fastcore.trade_rules import fallback_rules, read_rules, rules_from_conditions
from services.kit.vendor.client import VendorClient
from services.simulator import service as service_module
from services.simulator.messages import Kind
from tests.support.feed import running_feed
from tests.support.running_simulator import RunningSimulator, running_simulator

NVDA_MINUTES = "/v2/aggs/ticker/NVDA/range/1/minute/2025-11-20/2025-11-21"


async def ask(call: Callable[[], Any]) -> Any:
    """The official REST client is synchronous."""
    return await asyncio.to_thread(call)


async def test_the_official_rest_client() -> None:
    async with running_simulator(symbols=300, start="2025-11-24T10:30") as simulator:
        client = RESTClient("key", base=simulator.rest_url, retries=0)
        tickers = await ask(lambda: list(client.list_tickers(market="stocks", active=True, limit=100)))
        names = [ticker.ticker for ticker in tickers]
        assert names == sorted(simulator.service.market_symbols)
        assert len(names) == 300

        snapshots = await ask(lambda: client.get_snapshot_all("stocks"))
        assert {snapshot.ticker for snapshot in snapshots} == set(names)
        one = await ask(lambda: client.get_snapshot_ticker("stocks", "NVDA"))
        assert one.day.volume > 0
        assert one.min.accumulated_volume > one.day.volume
        assert one.last_trade.price == pytest.approx(one.day.close, rel=0.05)
        assert one.todays_change == pytest.approx(one.last_trade.price - one.prev_day.close, abs=0.001)

        days = await ask(lambda: client.get_aggs("NVDA", 1, "day", "2025-11-17", "2025-11-23"))
        assert len(days) == 5
        assert days[-1].close == one.prev_day.close
        minutes = await ask(lambda: list(client.list_aggs("NVDA", 1, "minute", "2025-11-20", "2025-11-21", limit=500)))
        assert len(minutes) > 1_500
        times = [bar.timestamp for bar in minutes]
        assert times == sorted(set(times))
        regular = [bar for bar in minutes if 1_763_735_400_000 <= bar.timestamp < 1_763_758_800_000]
        assert len(regular) == 390
        assert sum(bar.volume for bar in regular) == days[-1].volume
        assert sum(bar.transactions for bar in regular) == days[-1].transactions
        assert max(bar.high for bar in regular) == days[-1].high
        assert (regular[0].open, regular[-1].close) == (days[-1].open, days[-1].close)
        five = await ask(lambda: client.get_aggs("NVDA", 5, "minute", "2025-11-21", "2025-11-21"))
        assert sum(bar.volume for bar in five) == sum(
            bar.volume for bar in minutes if bar.timestamp >= five[0].timestamp
        )
        assert all(bar.timestamp % 300_000 == 0 for bar in five)
        latest = await ask(lambda: client.get_aggs("NVDA", 1, "minute", "2025-11-24", "2025-11-24", sort="desc"))
        assert latest[0].timestamp > latest[-1].timestamp
        assert latest[0].volume > 0

        grouped = await ask(lambda: client.get_grouped_daily_aggs("2025-11-21"))
        assert {bar.ticker: bar.close for bar in grouped}["NVDA"] == days[-1].close
        assert len(grouped) > 290
        assert not await ask(lambda: client.get_grouped_daily_aggs("2025-11-22"))
        previous = await ask(lambda: client.get_previous_close_agg("NVDA"))
        assert previous[0].close == days[-1].close

        details = await ask(lambda: client.get_ticker_details("NVDA"))
        assert details.market_cap > 0
        assert details.share_class_shares_outstanding >= details.weighted_shares_outstanding > 0
        assert (details.type, details.primary_exchange) == ("CS", "XNAS")
        conditions = await ask(lambda: list(client.list_conditions(asset_class="stocks", limit=10)))
        assert {12, 15, 16, 37} <= {condition.id for condition in conditions}
        splits = await ask(lambda: list(client.list_splits(execution_date_gte="2024-09-01", limit=3)))
        assert all(split.split_from != split.split_to for split in splits)
        assert (await ask(client.get_market_status)).market == "open"
        holidays = await ask(client.get_market_holidays)
        assert (holidays[0].date, holidays[0].status) == ("2025-11-27", "closed")
        assert next(day for day in holidays if day.date == "2025-11-28").status == "early-close"


async def test_the_official_websocket_client() -> None:
    async with running_simulator(symbols=300, start="2025-11-24T09:34:50", speed=20) as simulator:
        got: dict[type, list[Any]] = defaultdict(list)
        kinds = {EquityTrade, EquityAgg, LimitUpLimitDown}
        complete = asyncio.Event()
        client = WebSocketClient(
            "key", feed=simulator.address, secure=False, subscriptions=["T.*", "AM.*", "LULD.*"], max_reconnects=0
        )

        async def take(messages: list[Any]) -> None:
            for message in messages:
                got[type(message)].append(message)
            if kinds <= got.keys():
                complete.set()

        # It goes on reading while it is closed: else the messages under way keep the server's close frame back.
        connecting = asyncio.create_task(client.connect(take))
        await complete.wait()
        await client.close()
        await connecting
        trade = got[EquityTrade][0]
        assert trade.symbol in simulator.service.market_symbols
        assert trade.price > 0
        assert trade.timestamp >= 1_763_994_890_000
        bar = next(bar for bar in got[EquityAgg] if bar.high >= bar.low)
        assert bar.event_type == "AM"
        assert bar.accumulated_volume >= bar.volume > 0
        assert bar.end_timestamp - bar.start_timestamp == 60_000
        assert got[LimitUpLimitDown][0].high_price > got[LimitUpLimitDown][0].low_price


async def test_the_official_client_with_a_wrong_key() -> None:
    async with running_simulator(symbols=10) as simulator:
        with pytest.raises(AuthError):
            await WebSocketClient("", feed=simulator.address, secure=False, max_reconnects=0).connect(None)


async def test_our_client_reads_all_of_it() -> None:
    async with running_simulator(symbols=200, start="2025-11-24T08:00") as simulator:
        async with VendorClient(simulator.rest_url, "key") as vendor:
            snapshot = await vendor.snapshot()
            assert len(snapshot) == 200
            traded = [ticker for ticker in snapshot if ticker.last_trade is not None]
            assert traded
            assert all(ticker.day is not None and ticker.day.v == 0 for ticker in snapshot), "before the open"
            assert all(ticker.prev_day is not None and ticker.prev_day.c > 0 for ticker in snapshot)
            assert len(await vendor.tickers(limit=50)) == 200
            assert len(await vendor.grouped_daily("2025-11-21")) > 190
            assert len(await vendor.aggs("SPY", 5, "minute", "2025-10-10", "2025-11-21")) > 5_000
            assert (await vendor.ticker_details("SPY")) is not None
            assert (await vendor.ticker_details("NOSUCH")) is None
            assert (await vendor.market_status()).early_hours
            assert await vendor.market_holidays()
            await vendor.splits("2024-09-01", "2025-11-24")
            rules = read_rules(rules_from_conditions(await vendor.conditions()))
            fallback = read_rules(fallback_rules())
            # The fallback takes every number below 42 as known.
            assert rules["known"] & fallback["known"] == rules.pop("known")
            assert rules == {name: mask for name, mask in fallback.items() if name != "known"}
            assert not vendor.set_aside


async def test_errors_have_the_vendors_shape() -> None:
    async with running_simulator(symbols=30) as simulator, httpx.AsyncClient(base_url=simulator.rest_url) as http:
        refused = await http.get("/v3/reference/tickers")
        assert refused.status_code == 401
        assert refused.json()["status"] == "ERROR"
        assert "API Key" in refused.json()["error"]
        by_query = await http.get("/v3/reference/tickers", params={"apiKey": "k"})
        assert by_query.status_code == 200
        http.headers["Authorization"] = "Bearer k"
        for path, status in {
            "/v3/reference/tickers/NOSUCH": 404,
            "/v2/snapshot/locale/us/markets/stocks/tickers/NOSUCH": 404,
            "/v9/nothing": 404,
            "/v2/aggs/ticker/SPY/range/0/minute/2025-11-20/2025-11-21": 400,
            "/v2/aggs/ticker/SPY/range/1/fortnight/2025-11-20/2025-11-21": 400,
            "/v2/aggs/ticker/SPY/range/1/minute/yesterday/2025-11-21": 400,
            "/v2/aggs/ticker/SPY/range/1/minute/2025-11-21/2025-11-20": 400,
            "/v2/aggs/ticker/SPY/range/1/minute/2025-11-20/2025-11-21?limit=0": 400,
            "/v2/aggs/grouped/locale/us/market/stocks/2025-13-01": 400,
            "/v3/reference/tickers?limit=1001": 400,
            "/v3/reference/tickers?cursor=x": 400,
            "/v3/reference/tickers?order=up": 400,
            "/v3/reference/splits?sort=colour": 400,
        }.items():
            answer = await http.get(path)
            assert answer.status_code == status, path
            assert answer.json()["request_id"]
            assert answer.json()["status"] == ("NOT_FOUND" if status == 404 else "ERROR")
        assert (await http.post("/v3/reference/tickers")).status_code == 405
        assert (await http.get("/readyz")).json() == {"simulator": "running"}


async def test_pages_join_to_the_whole() -> None:
    async with running_simulator(symbols=30) as simulator:
        async with httpx.AsyncClient(base_url=simulator.rest_url, headers={"Authorization": "Bearer k"}) as http:
            for order in ("asc", "desc"):
                whole = (await http.get(f"{NVDA_MINUTES}?sort={order}&limit=50000")).json()
                assert "next_url" not in whole
                url, pieces = f"{NVDA_MINUTES}?sort={order}&limit=700", []
                while url:
                    page = (await http.get(url)).json()
                    pieces += page["results"]
                    url = page.get("next_url", "")
                assert pieces == whole["results"]


async def test_the_list_of_floats() -> None:
    """By ticker, in pages, of companies only and not of all; a float is a part of the shares outstanding."""
    async with running_simulator(symbols=300) as simulator:
        vendor = VendorClient(simulator.rest_url, "k")
        async with vendor:
            whole, pages = await vendor.floats(), await vendor.floats(limit=7)
            some = await vendor.floats(["NVDA", "SPY", "AAPL"])
            listed = {row.ticker: row.type for row in await vendor.tickers()}
            details = await vendor.ticker_details("NVDA")
    tickers = [row.ticker for row in whole]
    assert whole == pages and tickers == sorted(tickers)
    companies = {ticker for ticker, kind in listed.items() if kind in ("CS", "ADRC")}
    assert set(tickers) < companies and len(tickers) > 0.9 * len(companies)
    assert [row.ticker for row in some] == ["AAPL", "NVDA"]
    assert details is not None and details.type == "CS" and details.list_date is not None
    assert 0 < (some[1].free_float or 0) < (details.share_class_shares_outstanding or 0)


async def listen(simulator: RunningSimulator, key: str, params: str) -> ClientConnection:
    """A WebSocket client that has logged in and subscribed."""
    socket = await connect(simulator.ws_url, max_size=None)
    assert json.loads(await socket.recv())[0]["status"] == "connected"
    await socket.send(json.dumps({"action": "auth", "params": key}))
    assert json.loads(await socket.recv())[0]["status"] == "auth_success"
    await socket.send(json.dumps({"action": "subscribe", "params": params}))
    assert {one["status"] for one in json.loads(await socket.recv())} == {"success"}
    return socket


async def test_speed_and_other_subscribers_change_no_byte() -> None:
    opening = 1_763_994_600_000

    async def texts(speed: float, others: bool) -> list[str]:
        """All trade messages between the first of the open and the first that is 4 s later."""
        async with contextlib.AsyncExitStack() as stack:
            # Its time passes once somebody listens.
            simulator = await stack.enter_async_context(
                running_simulator(symbols=60, start="2025-11-24T09:29:30", speed=0.01)
            )
            if others:
                await stack.enter_async_context(await listen(simulator, "other", "AM.*,Q.SPY"))
            socket = await stack.enter_async_context(await listen(simulator, "mine", "T.*"))
            async with httpx.AsyncClient(headers={"Authorization": "Bearer k"}) as http:
                changed = await http.post(f"{simulator.rest_url}/simulator/time", json={"speed": speed})
                assert changed.status_code == 200, changed.text
            found: list[str] = []
            while True:
                for message in json.loads(await socket.recv()):
                    if message["t"] >= opening + 4_000:
                        return found
                    if found or message["t"] >= opening:
                        found.append(json.dumps(message))

    slow, fast = await texts(20.0, others=True), await texts(60.0, others=False)
    assert len(slow) > 500
    assert slow == fast


async def test_a_newer_connection_evicts_the_older() -> None:
    async with running_simulator(symbols=30, start="2025-11-24T03:00") as simulator:
        older = await listen(simulator, "k", "T.*")
        newer = await listen(simulator, "k", "T.*")
        assert json.loads(await older.recv())[0]["status"] == "max_connections"
        with pytest.raises(ConnectionClosed):
            await older.recv()
        assert older.close_code == 1008
        await newer.close()


async def test_subscriptions_change_while_it_runs() -> None:
    async with running_simulator(symbols=30, start="2025-11-24T09:31", speed=5) as simulator:
        socket = await listen(simulator, "k", "T.SPY,Q.NVDA")
        seen: Counter[tuple[str, str]] = Counter()
        while len(seen) < 2:
            seen.update((one["ev"], one["sym"]) for one in json.loads(await socket.recv()))
        assert set(seen) == {("T", "SPY"), ("Q", "NVDA")}
        await socket.send('{"action":"unsubscribe","params":"T.SPY"}')
        await socket.send('{"action":"subscribe","params":"A.*"}')
        while not any(one["ev"] == "A" for one in json.loads(await socket.recv())):
            pass
        await socket.close()


async def test_an_orderly_end() -> None:
    async with running_simulator(symbols=30, start="2025-11-24T03:00") as simulator:
        socket = await listen(simulator, "k", "T.*")
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    assert socket.close_code == 1001


async def test_a_wrong_path_is_not_found() -> None:
    async with running_simulator(symbols=10) as simulator, httpx.AsyncClient(base_url=simulator.rest_url) as http:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        answer = await http.get("/crypto", headers={**upgrade, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert answer.status_code == 404


async def test_polygon_ws_sets_aside_the_bad_ticks_only() -> None:
    async with running_simulator(symbols=300, start="2025-11-24T09:30:00", speed=30) as simulator:
        environment = {"TRADEUL_SUBSCRIPTIONS": "T.*,A.*,AM.*,LULD.*"}
        async with (
            running_feed(simulator.environment(), environment) as feed,
            feed.sequencer() as sequencer,
        ):
            decoder = feed.service.buffer.decoder
            while (
                sum(decoder.rejected.values()) < 3
                or min(decoder.totals[name] for name in ("minute_bars", "limits")) < 1
            ):
                await sequencer.until("batch")
                await sequencer.ack()
            assert set(decoder.rejected) - {"wrong_type", "missing_field", "symbol", "time"} <= {
                reason for reason, count in decoder.rejected.items() if not count
            }
            assert decoder.totals["trades"] > 1_000
            assert set(sequencer.symbols) <= set(simulator.service.market_symbols)


def test_every_channel_of_the_mesh_is_there() -> None:
    assert {kind.name for kind in Kind} == {"T", "A", "AM", "LULD", "Q"}
    assert service_module.Simulator.name == "simulator"
