"""data_ingest's side of polygon_ws's stream: batches are taken and acknowledged, and what fails there is seen."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tradeul.v1 import polygon_ws_pb2

from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.feed.feed_reader import FeedReader
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.ring import Position
from tests.support.pipeline import Pipeline
from tests.support.scripted_day import DAY
from tests.support.scripted_polygon_ws import EPOCH, ScriptedPolygonWs

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def source() -> AsyncIterator[ScriptedPolygonWs]:
    async with ScriptedPolygonWs() as server:
        yield server


def reader_of(source: ScriptedPolygonWs, feed: FeedInput) -> FeedReader:
    return FeedReader(f"127.0.0.1:{source.port}", feed, lambda events: None, lambda: None, lambda trouble: None)


def malform(source: ScriptedPolygonWs, sequence: int) -> None:
    """Makes the last byte of a batch the beginning of a field that does not come."""
    source.batches[sequence] = source.batches[sequence][:-1] + b"\xff"


async def test_a_malformed_first_batch_is_set_aside_and_acknowledged(source: ScriptedPolygonWs) -> None:
    pipeline = Pipeline([DAY])
    source.send(polygon_ws_pb2.MarketBatch(new_symbols=["LAST"]))
    malform(source, 1)
    running = asyncio.create_task(reader_of(source, pipeline.feed).run())
    await source.until_connections(1)
    await source.until_acknowledged(1)
    assert pipeline.feed.position == Position(EPOCH, 1)
    assert pipeline.rejected == {"malformed_batch": 1}
    source.trades(("AAPL", "04:00:01", 10.0))
    await source.until_acknowledged(2)
    assert pipeline.row("AAPL")["price"] == 10.0
    assert len(source.subscribers) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("kind", ["opened", "reset", "going_away", "feed_gap"])
async def test_a_response_that_is_none_ends_the_connection_and_not_the_reader(
    source: ScriptedPolygonWs, kind: str
) -> None:
    pipeline = Pipeline([DAY])
    running = asyncio.create_task(reader_of(source, pipeline.feed).run())
    await source.until_connections(1)
    source.trades(("AAPL", "04:00:01", 10.0))
    await source.until_acknowledged(1)
    source.say(MARKET.wrap(kind, b"\xff"))
    await source.until_connections(2)
    source.trades(("AAPL", "04:00:02", 11.0))
    await source.until_acknowledged(2)
    assert pipeline.row("AAPL")["price"] == 11.0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_defect_of_acknowledging_is_not_lost_in_its_task(source: ScriptedPolygonWs) -> None:
    """Without acknowledgements polygon_ws keeps everything until it is full, and says nothing."""

    class Broken(FeedReader):
        async def _acknowledge(self, call: object) -> None:
            await self._sequenced.wait()
            raise AssertionError("defect")

    feed = Pipeline([DAY]).feed
    reader = Broken(f"127.0.0.1:{source.port}", feed, lambda events: None, lambda: None, lambda trouble: None)
    source.trades(("AAPL", "04:00:01", 10.0))
    with pytest.raises(AssertionError, match="defect"):
        async with asyncio.timeout(60):
            await reader.run()
