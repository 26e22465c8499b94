"""FiltersService on a real PostgreSQL: what is given changes, what is wrong is named, and followers hear of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from tradeul.v1 import filters_pb2

from services.kit.lists.scan_filters import DEFAULT_ROWS
from services.kit.runtime.settings import Settings
from services.ticker.filters import MAX_FILTERS
from tests.support.refusals import Refusal, refusal
from tests.support.running_ticker import RunningTicker, running_ticker
from tests.support.stores import Stores, module_stores

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def ticker(stores: Stores) -> AsyncIterator[RunningTicker]:
    environment = {
        **stores.environment(),
        "TRADEUL_TICKER_ADDRESS": "127.0.0.1:0",
        "TRADEUL_METRICS_PORT_OFFSET": "0",
    }
    async with running_ticker(stores, Settings.load(environment)) as running:
        await running.database.execute("DELETE FROM scanner_filters")
        for row in DEFAULT_ROWS:
            await running.database.execute(
                "INSERT INTO scanner_filters (name, enabled, priority, parameters) VALUES ($1, $2, $3, $4)",
                *(row.name, row.enabled, row.priority, json.dumps(row.parameters)),
            )
        yield running


def create(ticker: RunningTicker, **body: Any) -> Any:
    return ticker.filters.CreateFilter(json_format.ParseDict(body, filters_pb2.CreateFilterRequest()))


def update(ticker: RunningTicker, **body: Any) -> Any:
    return ticker.filters.UpdateFilter(json_format.ParseDict(body, filters_pb2.UpdateFilterRequest()))


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def parameters(ticker: RunningTicker, name: str) -> Any:
    """As PostgreSQL has them."""
    text = await ticker.database.fetchval("SELECT parameters FROM scanner_filters WHERE name = $1", name)
    return json.loads(text)


async def test_the_default_filters_are_listed_by_priority(ticker: RunningTicker) -> None:
    answer = await ticker.filters.ListFilters(filters_pb2.ListFiltersRequest())
    assert answer.count == len(DEFAULT_ROWS)
    shown = [
        (each.name, each.enabled, each.priority, json_format.MessageToDict(each.parameters)) for each in answer.filters
    ]
    assert shown == [(row.name, row.enabled, row.priority, dict(row.parameters)) for row in DEFAULT_ROWS]


async def test_a_filter_is_created_read_changed_and_deleted(ticker: RunningTicker) -> None:
    made = await create(ticker, name="tech", parameters={"min_volume": 250000, "sectors": ["Technology"]})
    assert (made.name, made.enabled, made.priority) == ("tech", True, 100)
    # Whole numbers stay whole.
    text = await ticker.database.fetchval("SELECT parameters::text FROM scanner_filters WHERE name = 'tech'")
    assert '"min_volume": 250000,' in text or '"min_volume": 250000}' in text
    assert await ticker.filters.GetFilter(filters_pb2.GetFilterRequest(name="tech")) == made
    changed = await update(ticker, name="tech", enabled=False)
    assert (changed.enabled, changed.priority, changed.parameters) == (False, 100, made.parameters)
    assert changed.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
    await update(ticker, name="tech", priority=0, parameters={"min_price": 2.5, "sectors": None})
    assert await parameters(ticker, "tech") == {"min_volume": 250000, "min_price": 2.5}
    await ticker.filters.DeleteFilter(filters_pb2.DeleteFilterRequest(name="tech"))
    answer = await refused(ticker.filters.GetFilter(filters_pb2.GetFilterRequest(name="tech")))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_FILTER")


async def test_a_change_is_heard_and_no_change_is_not(ticker: RunningTicker, stores: Stores) -> None:
    listener = await asyncpg.connect(stores.database_url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("scanner_filters", lambda *notice: heard.put_nowait(notice[2]))
    try:
        await update(ticker, name="rvol_high", enabled=False)
        await update(ticker, name="rvol_high", enabled=False)
        await update(ticker, name="rvol_high", enabled=True)
        assert await heard.get() == "scanner_filters"
        await create(ticker, name="extra", parameters={"min_price": 3})
        await heard.get()
        await ticker.filters.DeleteFilter(filters_pb2.DeleteFilterRequest(name="extra"))
        await heard.get()
        assert heard.empty()
    finally:
        await listener.close()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"min_prize": 1}, "min_prize"),
        ({"min_price": "1"}, "min_price"),
        ({"min_price": -1}, "min_price"),
        ({"min_price": 5, "max_price": 4}, "min_price"),
        ({"sectors": "Technology"}, "sectors"),
        ({"apply_to_sessions": ["LUNCH"]}, "apply_to_sessions"),
        ({"expression": "prize > 1"}, "prize"),
        ({"expression": "price >"}, "expression"),
        ({"expression": "price > 1) OR (price < 1"}, "expression"),
        ({"expression": "price > 1 AND " * 300 + "price > 1"}, "expression"),
        ({"industries": ["x" * 150] * 300}, "16384"),
    ],
)
async def test_wrong_parameters_are_named_and_change_nothing(
    ticker: RunningTicker, wrong: dict[str, Any], named: str
) -> None:
    before = await ticker.filters.ListFilters(filters_pb2.ListFiltersRequest())
    for call in (create(ticker, name="wrong", parameters=wrong), update(ticker, name="rvol_high", parameters=wrong)):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (INVALID, "INVALID_FILTER")
        assert named in answer.message
    assert await ticker.filters.ListFilters(filters_pb2.ListFiltersRequest()) == before


@pytest.mark.parametrize("name", ["", "Upper", "1st", "with space", "a" * 64, "näme", "a\0", "a\n"])
async def test_wrong_names_are_refused(ticker: RunningTicker, name: str) -> None:
    for call in (
        create(ticker, name=name),
        update(ticker, name=name),
        ticker.filters.GetFilter(filters_pb2.GetFilterRequest(name=name)),
        ticker.filters.DeleteFilter(filters_pb2.DeleteFilterRequest(name=name)),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (INVALID, "INVALID_REQUEST")


async def test_requests_that_ask_for_nothing_are_refused(ticker: RunningTicker) -> None:
    for call in (create(ticker, name="empty"), update(ticker, name="rvol_high")):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (INVALID, "INVALID_REQUEST")
        assert "parameters" in answer.message


async def test_a_name_is_given_once_and_only_known_ones_change(ticker: RunningTicker) -> None:
    answer = await refused(create(ticker, name="price_range", parameters={"min_price": 9}))
    assert (answer.code, answer.reason) == (grpc.StatusCode.ALREADY_EXISTS, "FILTER_EXISTS")
    assert await parameters(ticker, "price_range") == {"min_price": 1}
    for call in (
        update(ticker, name="nope", enabled=True),
        ticker.filters.DeleteFilter(filters_pb2.DeleteFilterRequest(name="nope")),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_FILTER")


async def test_creators_at_the_same_time_do_not_pass_the_bound(ticker: RunningTicker) -> None:
    room = MAX_FILTERS - len(DEFAULT_ROWS)
    results = await asyncio.gather(
        *(create(ticker, name=f"f{i}", enabled=False, parameters={}) for i in range(room + 5)), return_exceptions=True
    )
    refusals = [refusal(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [each.reason for each in refusals] == ["TOO_MANY_FILTERS"] * 5
    assert await ticker.database.fetchval("SELECT count(*) FROM scanner_filters") == MAX_FILTERS


async def test_changes_at_the_same_time_are_all_kept(ticker: RunningTicker) -> None:
    await create(ticker, name="busy", parameters={})
    names = ["min_price", "max_price", "min_volume", "min_rvol", "max_rvol", "min_float", "max_float"]
    await asyncio.gather(*(update(ticker, name="busy", parameters={name: 5}) for name in names))
    assert await parameters(ticker, "busy") == dict.fromkeys(names, 5)
