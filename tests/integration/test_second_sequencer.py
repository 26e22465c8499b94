"""Two sequencers of different data directories at one polygon_ws: one has all of the feed, the other one nothing."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from services.data_ingest.service import DataIngest
from services.kit.rpc import market_stream
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from tests.support.feed import message, running_feed, trade
from tests.support.running_replay import serving
from tests.support.scripted_day import ScriptedDay, ms_at
from tests.support.vendor_server import VendorServer

NOW = "/v1/marketstatus/now"
TRADES = 40
WAIT_SECONDS = 60

pytestmark = pytest.mark.timeout(90)


def accepted(service: DataIngest) -> int:
    return service.parts.feed.admission.accepted["trades"]


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_second_sequencer_gets_nothing_and_costs_the_first_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They evicted each other every 10 s, and each acknowledged what the other one never got."""
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(market_stream.log, "error", lambda text, **values: lines.append((text, values)))
    day = ScriptedDay(1, symbols=6)
    start_ms = ms_at("10:00:00")

    def rest(path: str, query: dict[str, str]) -> Any:
        answer = day.rest(path, query)
        return {**answer, "serverTime": "2026-03-10T15:30:00-04:00"} if path == NOW else answer

    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(VendorServer(rest))
        feed = await stack.enter_async_context(running_feed(vendor))
        common = {
            **vendor.environment,
            "TRADEUL_CLOCK": "feed",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{feed.host.port}",
            "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0",
            "TRADEUL_DATA_INGEST_ADDRESS": "127.0.0.1:0",
        }
        session = await stack.enter_async_context(serving(MarketSession(Settings.load(common))))
        common["TRADEUL_MARKET_SESSION_ADDRESS"] = f"127.0.0.1:{session.port}"

        async def sequencer(name: str) -> DataIngest:
            service = DataIngest(Settings.load({**common, "TRADEUL_DATA_DIR": str(tmp_path / name)}))
            await stack.enter_async_context(serving(service))
            return service

        async def send(first: int) -> None:
            """A batch each."""
            for number in range(first, first + TRADES):
                await vendor.send(message(trade("AAPL", number, t=start_ms + number)))
                await until(lambda sent=number: feed.service.buffer.decoder.totals["trades"] == sent)  # type: ignore[misc]
                await asyncio.sleep(0.01)

        await vendor.joined()
        served = await sequencer("served")
        await until(lambda: served.unhealthy_reason is None)
        await send(1)
        await until(lambda: accepted(served) == TRADES)
        refused = await sequencer("refused")
        await until(lambda: "expected the sequencer" in (refused.unhealthy_reason or ""))
        await send(TRADES + 1)
        await until(lambda: accepted(served) == 2 * TRADES)
        # All of it is forgotten, and by the right one's word.
        await until(lambda: feed.service.buffer.held_batches == 0)
        assert accepted(refused) == 0 and served.unhealthy_reason is None
        assert [text for text, _ in lines] == ["a second sequencer is refused"]
        names = lines[0][1]
        for role, name in names.items():
            assert name.endswith(f":{(tmp_path / role / 'vendor').absolute()}"), names
        assert names.keys() == {"served", "refused"}
