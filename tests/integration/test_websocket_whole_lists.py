"""When a WebSocket's client that had a list is sent all of it again, and that the server says why."""

import random
from collections.abc import AsyncIterator

import pytest
import structlog.testing
from prometheus_client import REGISTRY
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.websocket_server.limits import Limits
from tests.support.list_patches import nudged
from tests.support.scripted_scanner import EPOCH, ScriptedList, ScriptedScanner, scripted_scanner, ticker_row
from tests.support.ws_client import ListView, WsClient, eventually, ws_client, ws_server


@pytest.fixture
async def scanner() -> AsyncIterator[ScriptedScanner]:
    async with scripted_scanner("winners") as scanner:
        yield scanner


@pytest.fixture
def winners(scanner: ScriptedScanner) -> ScriptedList:
    return scanner.lists["winners"]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(12)


def whole_lists(cause: str) -> float:
    return REGISTRY.get_sample_value("tradeul_ws_whole_lists_total", {"cause": cause}) or 0.0


def view_at(each: ScriptedList, sequence: int) -> ListView:
    view = ListView()
    view.epoch, view.sequence = EPOCH, sequence
    view.rows = {row["symbol"]: row for row in each.truth(EPOCH, sequence)}
    return view


async def resume(client: WsClient, each: ScriptedList, sequence: int) -> None:
    client.lists["winners"] = view_at(each, sequence)
    await client.subscribe("winners", epoch=EPOCH, sequence=sequence)


async def test_who_comes_while_a_scanner_is_replaced_goes_on_from_the_position(
    scanner: ScriptedScanner, winners: ScriptedList, rng: random.Random
) -> None:
    for _ in range(8):
        winners.shuffle(rng)
    async with ws_server(scanner.address) as server, ws_client(server.port) as client, ws_client(server.port) as other:
        # The server's own stream has no position yet.
        winners.cut = 2
        await resume(client, winners, 3)
        view = await client.until("winners", (EPOCH, 8))
        assert (view.ranked, view.snapshots) == (winners.json_rows, 0)
        # Nor was it noted as gone.
        await resume(other, winners, 2)
        view = await other.until("winners", (EPOCH, 8))
        assert (view.ranked, view.snapshots) == (winners.json_rows, 0)
        assert winners.cut == 0


async def test_who_waits_for_too_long_gets_the_whole_list(
    scanner: ScriptedScanner, winners: ScriptedList, rng: random.Random
) -> None:
    for _ in range(8):
        winners.shuffle(rng)
    before = whole_lists("late")
    async with ws_server(scanner.address, Limits(past_seconds=0.1)) as server, ws_client(server.port) as client:
        winners.cut = 1_000
        await resume(client, winners, 3)
        view = await client.until("winners", (EPOCH, 8))
        assert (view.ranked, view.snapshots) == (winners.json_rows, 1)
    assert whole_lists("late") == before + 1


def nudge(rng: random.Random, rows: list[TickerRow], number: int) -> list[TickerRow]:
    """The rows with another one at that rank."""
    row = rows[number]
    return [*rows[:number], nudged(rng, row, ticker_row(rng, row.symbol)), *rows[number + 1 :]]


@pytest.mark.parametrize("changed", [1, 40], ids=["less than the whole list", "more than the whole list"])
async def test_changes_that_the_scanner_has_merged_come_one_by_one_where_that_is_less(
    scanner: ScriptedScanner, winners: ScriptedList, rng: random.Random, changed: int
) -> None:
    winners.change_to([ticker_row(rng, f"S{number}") for number in range(40)])
    before = whole_lists("merged")
    async with ws_server(scanner.address) as server, ws_client(server.port) as client:
        await client.subscribe("winners")
        await client.expect("snapshot")

        def step(rows: list[TickerRow]) -> list[TickerRow]:
            for number in range(changed):
                rows = nudge(rng, rows, number)
            return rows

        winners.change_to(step(winners.rows))
        await client.until("winners", (EPOCH, 2))
        steps, rows = [], winners.rows
        for _ in range(5):
            rows = step(rows)
            steps.append(rows)
        winners.merge(steps)
        view = await client.until("winners", (EPOCH, 7))
        assert view.ranked == winners.json_rows
        winners.shuffle(rng)
        view = await client.until("winners", (EPOCH, 8))
        assert view.ranked == winners.json_rows
        is_less = changed == 1
        assert (view.snapshots, view.deltas) == ((1, 7) if is_less else (2, 2))
    assert whole_lists("merged") == before + (not is_less)


@pytest.mark.parametrize(
    ("position", "cause", "details"),
    [
        ((EPOCH - 1, 3), "epoch", f"{EPOCH - 1} before {EPOCH}"),
        ((EPOCH, 1), "gone", "more than 4 changes"),
        ((EPOCH + 1, 0), "ahead", ""),
    ],
)
async def test_the_log_and_a_metric_say_why(
    scanner: ScriptedScanner,
    winners: ScriptedList,
    rng: random.Random,
    position: tuple[int, int],
    cause: str,
    details: str,
) -> None:
    before = whole_lists(cause)
    with structlog.testing.capture_logs() as logs:
        async with ws_server(scanner.address, Limits(held_changes=4, ahead_seconds=0.05)) as server:
            async with ws_client(server.port) as watcher:
                await watcher.subscribe("winners")
                await watcher.expect("snapshot")
                for sequence in range(1, 11):
                    winners.shuffle(rng)
                    await watcher.until("winners", (EPOCH, sequence))
            for _ in range(2):
                async with ws_client(server.port) as client:
                    await client.subscribe("winners", epoch=position[0], sequence=position[1])
                    await client.expect("snapshot")
            await eventually(lambda: not server.hub.clients)
    assert whole_lists(cause) == before + 2
    told = [line for line in logs if line["event"] == "clients were sent the whole list"]
    assert [(line["list"], line["cause"], line["details"], line["clients"]) for line in told] == [
        ("winners", cause, details, 2)
    ]


async def test_a_list_that_the_scanner_replaces_is_logged_with_its_reason(
    scanner: ScriptedScanner, winners: ScriptedList, rng: random.Random
) -> None:
    winners.shuffle(rng)
    with structlog.testing.capture_logs() as logs:
        async with ws_server(scanner.address) as server, ws_client(server.port) as client:
            await client.subscribe("winners")
            await client.expect("snapshot")
            winners.replace([ticker_row(rng, symbol) for symbol in "XYZ"], EPOCH + 100, 1)
            await client.expect("snapshot")
    (told,) = [line for line in logs if line["event"] == "clients were sent the whole list"]
    assert (told["cause"], told["details"], told["clients"]) == ("replaced", "replaced", 1)
