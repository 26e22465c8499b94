"""A scripted day through a vendor's WebSocket and the whole mesh: every list at every moment is the twin's."""

import json
import random
from pathlib import Path

import pytest

from fastcore.reference.lists_twin import ListsTwin
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import load_lists
from tests.support.mesh import Mesh
from tests.support.mesh_view import assert_rows_equal, mesh_view
from tests.support.scripted_day import Event, ScriptedDay, baselines, reference_numbers
from tests.support.twin_frames import TwinFeed, default_filters, row_values
from tests.support.vendor_server import VendorServer

# From, to (a full ten seconds), events; and which official prints come in between.
PARTS = [
    ("04:00:00", "07:59:50", 400, None),
    ("08:00:00", "09:29:00", 500, None),
    ("09:30:01", "09:45:00", 500, (16, "09:30:00")),
    ("09:45:01", "10:15:10", 500, None),
    ("12:00:00", "15:58:00", 600, None),
    ("16:00:01", "16:20:00", 400, (15, "16:00:00")),
    ("16:20:01", "19:30:00", 400, None),
]

pytestmark = pytest.mark.timeout(300)


async def send(vendor: VendorServer, events: list[Event], rng: random.Random) -> None:
    """The events in arrays of any size, with frames among them that are no JSON at all."""
    at = 0
    while at < len(events):
        size = rng.choice([1, 2, 7, 40])
        await vendor.send(json.dumps([event.body for event in events[at : at + size]]))
        at += size
        if rng.random() < 0.02:
            await vendor.send('[{"ev":"T","sym":')


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_list_equals_the_twins(seed: int, tmp_path: Path) -> None:
    day = ScriptedDay(seed)
    rng = random.Random(seed)
    feed = TwinFeed(day)
    twin = ListsTwin(load_lists(), MarketTwin())
    for frame in feed.opening(default_filters()):
        twin.apply(frame)
    good = compared = bad = 0
    async with VendorServer(day.rest) as vendor:
        async with Mesh(tmp_path, {**vendor.environment, "TRADEUL_CLOCK": "feed"}) as mesh:
            async with mesh_view(mesh) as view:
                await vendor.joined()
                await view.until_reference("prev_close", len(day.symbols))
                with_baseline = sum(baselines(symbol, day.history) is not None for symbol in day.symbols)
                await view.until_reference("baseline", with_baseline)
                with_atr = sum("ATR" in reference_numbers(symbol, day.history) for symbol in day.symbols)
                await view.until_reference("atr", with_atr)
                for start, end, count, prints in PARTS:
                    events = [*(day.official_prints(*prints) if prints else ()), *day.events(start, end, count)]
                    await send(vendor, events, rng)
                    for event in events:
                        if event.good:
                            twin.apply(feed.event(event.body))
                            good += 1
                        else:
                            bad += 1
                    twin.apply(feed.watermark(end))
                    await view.until_shown(end)
                    for definition in twin.definitions:
                        found = [row_values(row) for row in (await view.rows(definition.name)).rows]
                        assert_rows_equal(found, twin.rows(definition.name), f"{end} {definition.name}")
                        compared += len(found)
                status = await view.sequencer()
    assert status.trades + status.bars + status.limits == good
    # A day on which the lists are empty would prove nothing.
    assert compared > 200
    assert bad > 50
