"""AlertRulesService on a real PostgreSQL: rules of one's own, switches, and mistakes named by their positions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from tradeul.v1 import alert_rules_pb2

from fastcore.alert_rules import MOST_RULES
from services.kit.alerts.definitions import load_alerts
from services.kit.alerts.stored import ROWS_QUERY, merged
from services.kit.lists.definitions import load_lists
from services.kit.rpc.key_streams import NAME_HEADER
from services.kit.runtime.settings import Settings
from tests.support.refusals import Refusal, refusal
from tests.support.running_ticker import RunningTicker, running_ticker
from tests.support.stores import Stores, module_stores

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SHIPPED = load_alerts([spec.name for spec in load_lists()])
MINE = {"name": "mine", "title": "Mine", "when": "rises(rvol >= 2)"}


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
        await running.database.execute("DELETE FROM alert_rules")
        yield running


def create(ticker: RunningTicker, rule: dict[str, Any], **further: Any) -> Any:
    body = {"rule": rule, **further}
    return ticker.alert_rules.CreateAlertRule(json_format.ParseDict(body, alert_rules_pb2.CreateAlertRuleRequest()))


def update(ticker: RunningTicker, **body: Any) -> Any:
    return ticker.alert_rules.UpdateAlertRule(json_format.ParseDict(body, alert_rules_pb2.UpdateAlertRuleRequest()))


def get(ticker: RunningTicker, name: str) -> Any:
    return ticker.alert_rules.GetAlertRule(alert_rules_pb2.GetAlertRuleRequest(name=name))


def delete(ticker: RunningTicker, name: str) -> Any:
    return ticker.alert_rules.DeleteAlertRule(alert_rules_pb2.DeleteAlertRuleRequest(name=name))


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


async def in_stream(ticker: RunningTicker) -> tuple[dict[str, Any], set[str]]:
    """The rules as the sequencer takes them from the table: those of one's own in force, and all switched off."""
    rules = merged(SHIPPED, await ticker.database.fetch(ROWS_QUERY))
    assert not rules.left_out
    shipped = {rule.name for rule in SHIPPED}
    return {rule.name: rule for rule in rules.enabled if rule.name not in shipped}, {
        rule.name for rule in rules.disabled
    }


async def test_a_rule_is_created_read_changed_and_deleted(ticker: RunningTicker) -> None:
    whole = {
        **MINE,
        "where": "price >= 1",
        "quality": "rvol",
        "min_quality": 2.5,
        "cooldown_seconds": 300,
        "rearm": "rvol < 1",
        "sessions": ["MARKET_OPEN"],
        "text": "rvol {rvol:.1f}",
    }
    made = await create(ticker, whole)
    assert (made.enabled, made.shipped, made.rule.version, made.rule.owner) == (True, False, 1, "")
    shown = json_format.MessageToDict(made.rule, preserving_proto_field_name=True)
    assert shown == {**whole, "version": 1}
    assert await get(ticker, "mine") == made
    own, _ = await in_stream(ticker)
    assert (own["mine"].cooldown_seconds, own["mine"].sessions, own["mine"].min_quality) == (300, ("MARKET_OPEN",), 2.5)
    changed = await update(ticker, name="mine", rule={**MINE, "once_a_day": True, "version": 1})
    assert (changed.rule.version, changed.rule.once_a_day, changed.rule.where) == (2, True, "")
    assert changed.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
    same = await update(ticker, name="mine", rule={**MINE, "once_a_day": True}, enabled=True)
    assert same == changed
    await delete(ticker, "mine")
    answer = await refused(get(ticker, "mine"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ALERT_RULE")
    assert await in_stream(ticker) == ({}, set())


async def test_a_change_of_an_older_version_is_refused(ticker: RunningTicker) -> None:
    await create(ticker, MINE)
    await update(ticker, name="mine", rule={**MINE, "where": "price > 1", "version": 1})
    answer = await refused(update(ticker, name="mine", rule={**MINE, "where": "price > 2", "version": 1}))
    assert (answer.code, answer.reason) == (grpc.StatusCode.ABORTED, "ALERT_RULE_CHANGED")
    assert (await get(ticker, "mine")).rule.where == "price > 1"


async def test_rules_are_switched_shipped_ones_too(ticker: RunningTicker) -> None:
    await create(ticker, MINE, enabled=False)
    off = await update(ticker, name="high_of_day", enabled=False)
    assert (off.enabled, off.shipped, off.rule.when) == (False, True, "grows(high)")
    assert await in_stream(ticker) == ({}, {"mine", "high_of_day"})
    assert await get(ticker, "high_of_day") == off
    assert not (await get(ticker, "low_of_day")).HasField("updated_at")
    await update(ticker, name="mine", enabled=True)
    on = await update(ticker, name="high_of_day", enabled=True)
    assert on.enabled
    own, disabled = await in_stream(ticker)
    assert (own.keys(), disabled) == ({"mine"}, set())
    for call in (update(ticker, name="high_of_day", rule=MINE | {"name": "high_of_day"}), delete(ticker, "low_of_day")):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ALERT_RULE_SHIPPED")


@pytest.mark.parametrize(
    ("wrong", "part", "position", "suggestion", "says"),
    [
        ({"when": "grow(high)"}, "when", "0", "grows", "did you mean"),
        ({"when": "grows(hihg)"}, "when", "6", "high", "unknown field 'hihg'"),
        ({"when": ""}, "when", "0", "", "expected an event"),
        ({"when": 'enters("winers")'}, "when", None, "", "nearest is 'winners'"),
        ({"where": "price > 1 AND pricee > 2"}, "where", "14", "price", "pricee"),
        ({"where": "grows(high)"}, "where", "0", "", "only in when and rearm"),
        ({"rearm": "price <"}, "rearm", "7", "", ""),
        ({"quality": "sector"}, "quality", "0", "", ""),
        ({"min_quality": 1}, "min_quality", "0", "", "expected a quality"),
        ({"quality": "rvol", "min_quality": "NaN"}, "min_quality", None, "", "expected a number"),
        ({"text": "at {pric}"}, "text", "4", "price", "unknown field 'pric'"),
        ({"text": "a\0"}, "text", None, "", "NUL"),
        ({"title": ""}, "title", None, "", "1 to 100 characters"),
        ({"cooldown_seconds": 90_000}, "cooldown", "0", "", "seconds"),
        ({"when": " OR ".join(f"grows(vol_1m + {i})" for i in range(9))}, "when", None, "", "8"),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(
    ticker: RunningTicker, wrong: dict[str, Any], part: str, position: str | None, suggestion: str, says: str
) -> None:
    await create(ticker, MINE | {"name": "good"})
    calls = (create(ticker, MINE | wrong), update(ticker, name="good", rule=MINE | wrong | {"name": "good"}))
    for call in calls:
        answer = await refused(call)
        assert (answer.code, answer.reason, answer.metadata["part"]) == (INVALID, "INVALID_ALERT_RULE", part)
        assert answer.metadata.get("suggestion", "") == suggestion
        if position is not None:
            assert answer.metadata["position"] == position
        assert says in answer.message
    assert (await in_stream(ticker))[0].keys() == {"good"}


@pytest.mark.parametrize("name", ["", "Upper", "1st", "with space", "a" * 64, "a\n"])
async def test_wrong_names_are_refused(ticker: RunningTicker, name: str) -> None:
    for call in (create(ticker, MINE | {"name": name}), update(ticker, name=name), get(ticker, name)):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (INVALID, "INVALID_REQUEST")


async def test_requests_that_say_nothing_are_refused(ticker: RunningTicker) -> None:
    await create(ticker, MINE)
    request = alert_rules_pb2.CreateAlertRuleRequest()
    for call in (ticker.alert_rules.CreateAlertRule(request), update(ticker, name="mine")):
        assert (await refused(call)).reason == "INVALID_REQUEST"
    renaming = await refused(update(ticker, name="mine", rule=MINE | {"name": "yours"}))
    assert "cannot be changed" in renaming.message


async def test_names_are_given_once(ticker: RunningTicker) -> None:
    await create(ticker, MINE)
    for name in ("mine", "high_of_day"):
        answer = await refused(create(ticker, MINE | {"name": name}))
        assert (answer.code, answer.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALERT_RULE_EXISTS")
    answer = await refused(update(ticker, name="hihg_of_day", enabled=False))
    assert (answer.reason, answer.metadata["nearest"]) == ("UNKNOWN_ALERT_RULE", "high_of_day")


async def test_creators_at_the_same_time_do_not_pass_the_bound(ticker: RunningTicker) -> None:
    room = MOST_RULES - len(SHIPPED)
    # A switch of a shipped rule takes no room.
    await update(ticker, name="high_of_day", enabled=False)
    results = await asyncio.gather(
        *(create(ticker, MINE | {"name": f"r{i}"}) for i in range(room + 3)), return_exceptions=True
    )
    refusals = [refusal(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [each.reason for each in refusals] == ["TOO_MANY_ALERT_RULES"] * 3
    own, _ = await in_stream(ticker)
    assert len(own) == room


async def test_a_change_is_heard_and_no_change_is_not(ticker: RunningTicker, stores: Stores) -> None:
    listener = await asyncpg.connect(stores.database_url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("alert_rules", lambda *notice: heard.put_nowait(notice[2]))
    try:
        await create(ticker, MINE)
        assert await heard.get() == "alert_rules"
        await update(ticker, name="mine", enabled=True)
        await update(ticker, name="high_of_day", enabled=True)
        await update(ticker, name="high_of_day", enabled=False)
        await heard.get()
        await delete(ticker, "mine")
        await heard.get()
        assert heard.empty()
    finally:
        await listener.close()


async def test_a_rule_belongs_to_the_key_that_created_it(ticker: RunningTicker) -> None:
    body = httpbody_pb2.HttpBody(data=b'{"rule":{"name":"mine","title":"Mine","when":"grows(high)","owner":"me"}}')
    made = await ticker.alert_rules.CreateAlertRuleFromJson(body, metadata=((NAME_HEADER, "desk"),))
    assert made.rule.owner == "desk"
    request = alert_rules_pb2.UpdateAlertRuleFromJsonRequest(name="mine")
    request.body.data = b'{"rule":{"title":"Ours","when":"grows(high)","sessions":["PRE_MARKET"]},"enabled":false}'
    changed = await ticker.alert_rules.UpdateAlertRuleFromJson(request, metadata=((NAME_HEADER, "other"),))
    assert (changed.rule.owner, changed.rule.title, changed.rule.version, changed.enabled) == ("desk", "Ours", 2, False)
    request.body.data = b'{"rule":{"title":"Ours","when":"grows(high)","sessions":["LUNCH"]}}'
    answer = await refused(ticker.alert_rules.UpdateAlertRuleFromJson(request))
    assert "rule.sessions: expected a list with any of PRE_MARKET" in answer.message


async def test_a_row_that_cannot_be_read_is_left_out_and_can_be_replaced(ticker: RunningTicker) -> None:
    await create(ticker, MINE)
    await ticker.database.execute("""UPDATE alert_rules SET definition = '{"wen": "x"}' WHERE name = 'mine'""")
    rules = merged(SHIPPED, await ticker.database.fetch(ROWS_QUERY))
    assert rules.left_out.keys() == {"mine"}
    assert "wen" in rules.left_out["mine"]
    assert (await get(ticker, "mine")).rule.when == ""
    await update(ticker, name="mine", rule=MINE)
    assert (await in_stream(ticker))[0].keys() == {"mine"}
